"""What a set of images is to the rest: a length, labels, and a way to read image i."""

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Source(Protocol):
    """Numbered images.

    Attributes:
        name: what the set is called in messages.
        classes: names of the labels; empty where there are none.
        labels: int64 `(N,)`, -1 where there is none.
    """

    name: str
    classes: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int: ...

    def path(self, index: int) -> str:
        """What to call image `index`: a file's path, as it is, unfit to be shown (`names.shown`)."""
        ...

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Image `index`, uint8 `(3,H,W)`, short side at most `cap`; called from many threads.

        Raises:
            DataError: it cannot be read; the message is the reason, without the name.
        """
        ...


@runtime_checkable
class BatchedSource(Source, Protocol):
    """A source whose images have one size and are far faster read many at a time; reading cannot fail."""

    def read_many(self, indices: Tensor) -> Tensor:
        """Images uint8 `(N,3,H,W)` of int64 indices `(N,)`."""
        ...
