"""Images that cannot be read: each is reported once, and too many of them end the run."""

from ssl_cli.data.source import Source
from ssl_cli.errors import DataError
from ssl_cli.events import Skipped
from ssl_cli.names import shown

FRACTION, FEW = 0.05, 10
"""A run continues with up to FEW bad images, or with up to this fraction of the set."""


def too_many(bad: int, images: int) -> bool:
    """Whether so many of the images may not be bad."""
    return bad == images or bad > max(FEW, FRACTION * images)


def require_few(bad: int, images: int, name: str, last: str = "") -> None:
    """Refuse so many bad images in a set of this name; `last` says which is the last one, and why.

    Raises:
        DataError: they are too many.
    """
    if too_many(bad, images):
        what = f"{bad} of {images} images of {shown(name)} cannot be read{last and f'; the last one, {last}'}."
        raise DataError(what, f"At most {FRACTION:.0%} are skipped; repair or remove them.")


class BadImages:
    """Record the bad images of a source by index; `skipped` holds one event each until the engine removes it.

    Of a source whose `skips_bad` is false, the first one ends the run.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.skipped: list[Skipped] = list(getattr(source, "skipped", ()))
        self._skips = getattr(source, "skips_bad", True)
        self._indices: set[int] = set()

    def __contains__(self, index: int) -> bool:
        return index in self._indices

    def add(self, index: int, reason: str, step: int = 0) -> None:
        """Record an image and add its event to `skipped`.

        Raises:
            DataError: too many images are bad.
        """
        if index in self._indices:
            return
        self._indices.add(index)
        self.skipped.append(Skipped(step=step, path=self.source.path(index), reason=reason))
        if not self._skips:
            what = f"{shown(self.source.path(index))} cannot be read: {reason}."
            raise DataError(what, "Repair or remove it, or pass --on-bad-image skip.")
        last = f"{shown(self.source.path(index))}: {reason}"
        require_few(len(self._indices), len(self.source), self.source.name, last)
