"""Images that could not be read: each reported once, and only so many are put up with."""

from ssl_cli.data.source import Source
from ssl_cli.errors import DataError
from ssl_cli.events import Skipped
from ssl_cli.names import shown

SHARE, FEW = 0.05, 10
"""A run goes on with FEW bad images, and with this share of the set."""


class BadImages:
    """The bad images of a source, by index; `skipped` holds one event each until the engine takes it."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.skipped: list[Skipped] = list(getattr(source, "skipped", ()))
        self._indices: set[int] = set()

    def __contains__(self, index: int) -> bool:
        return index in self._indices

    def add(self, index: int, reason: str, step: int = 0) -> None:
        """Report an image.

        Raises:
            DataError: that was one too many.
        """
        if index in self._indices:
            return
        self._indices.add(index)
        self.skipped.append(Skipped(step=step, path=self.source.path(index), reason=reason))
        bad, whole = len(self._indices), len(self.source)
        if bad == whole or bad > max(FEW, SHARE * whole):
            raise DataError(
                f"{bad} of {whole} images of {shown(self.source.name)} cannot be read; the last one, "
                f"{shown(self.source.path(index))}: {reason}.",
                f"At most {SHARE:.0%} are skipped; repair or remove them.",
            )
