"""The interface of a data set: a length, labels, and reading image i; what some sets know in addition."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor


class Readable(Protocol):
    """Read images by index, called from several threads at once."""

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Read image `index`, or what is made of it, its short side at most `cap`.

        Raises:
            DataError: it cannot be read; the message is the reason, without the name.
        """
        ...


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
        """Read image `index`, uint8 or int16 `(C,H,W)` with C from 1 to 16, short side at most `cap`.

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


@dataclass(frozen=True, eq=False)
class Groups:
    """The group of each image, such as a patient, a plate, a site or a video.

    Attributes:
        of: int64 `(N,)`, an index into `names`, or -1.
        names: of the groups.
    """

    of: Tensor
    names: Sequence[str]

    def select(self, indices: Tensor) -> "Groups":
        """Return the groups of the images `indices` `(M,)`."""
        return Groups(self.of[indices], self.names)

    def ids(self) -> Tensor:
        """Return the id of each image's group `(N,)`, from 0; an image without a group is a group of one."""
        without = self.of < 0
        return self.of.masked_scatter(without, len(self.names) + without.cumsum(0)[without] - 1)


def groups_of(source: Source) -> Groups | None:
    """Return the groups of a source's images; None: it has none."""
    return getattr(source, "groups", None)


def group_ids(source: Source, indices: Tensor | None = None) -> Tensor | None:
    """Return `Groups.ids` of all images or of `indices` `(M,)`; None: there are no groups."""
    groups = groups_of(source)
    if groups is None:
        return None
    return groups.ids() if indices is None else groups.ids()[indices]


def note_of(source: Source) -> str:
    """Describe in a line what was gone through and passed over to find the images; empty: nothing."""
    return "; ".join(getattr(source, "notes", ()))


def described(source: Source) -> str:
    """Name a source, with what was gone through and passed over to find its images."""
    return "; ".join(filter(None, [source.name, note_of(source)]))


class Entry(NamedTuple):
    """What identifies an image wherever it lies: its name relative to its place, and its bytes (-1: it is gone).

    `changed` is when its file, or its archive, was last written, in nanoseconds.
    """

    name: str
    size: int
    changed: int = 0


@runtime_checkable
class FileSource(Protocol):
    """A source of files, which are known wherever they lie."""

    def entries(self, indices: Sequence[int] | None = None) -> Iterator[Entry]:
        """Yield what identifies the images `indices`, or all."""
        ...


def entries_of(source: Source, indices: Sequence[int] | None = None) -> Iterator[Entry]:
    """Yield what identifies the images `indices`, or all; nothing where the images are no files."""
    return source.entries(indices) if isinstance(source, FileSource) else iter(())
