"""Define a mutant: a known mistake and the tests that must catch it."""

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Mutant:
    """Describe a known mistake: in `file`, `old` is replaced by `new`, and one of `tests` must fail.

    Attributes:
        trap: number in the list of traps that the project began with; None: a mistake that is not in it.
        name: a few words with hyphens.
        file: below the root of the repository.
        old: occurs exactly once in the file, so that a refactoring is noticed.
        new: what replaces it.
        tests: files or test ids, as few as needed.
    """

    trap: int | None
    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def planted_in(self, text: str) -> str:
        """Return the file's text with the mistake in it.

        Raises:
            ValueError: `old` does not occur exactly once.
        """
        found = text.count(self.old)
        if found != 1:
            raise ValueError(f"{self.name}: what it replaces occurs {found} times in {self.file}")
        return text.replace(self.old, self.new)
