"""The interface of a data set: a length, labels, and reading image i."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Source(Protocol):
    """Serve images by index.

    Attributes:
        name: of the set, for messages.
        classes: names of the labels; empty where there are none.
        labels: int64 `(N,)`, -1 where there is none.
    """

    name: str
    classes: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int: ...

    def path(self, index: int) -> str:
        """Return the name of image `index`: a file's path, to be escaped by `names.shown` before it is printed."""
        ...

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Read image `index`, uint8 `(C,H,W)` with C from 1 to 16, short side at most `cap`.

        Raises:
            DataError: it cannot be read; the message is the reason, without the name.

        Note:
            Called from several threads at once.
        """
        ...


@runtime_checkable
class BatchedSource(Source, Protocol):
    """Serve images of one size many at a time, which is far faster; reading cannot fail."""

    def read_many(self, indices: Tensor) -> Tensor:
        """Return the images of int64 indices `(N,)`, uint8 `(N,C,H,W)`."""
        ...
