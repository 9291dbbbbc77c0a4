"""Images in a folder, at any depth, as a source."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ssl_cli.data.decode import decode
from ssl_cli.data.numbers import Range
from ssl_cli.data.search import find_images
from ssl_cli.events import Skipped


class Files:
    """Serve image files as a source.

    Args:
        name: of the set, for messages.
        paths: of the files.
        labels: int64 `(N,)`, an index into `classes`, or -1.
        classes: their names.
        skipped: events of folders that could not be opened.
        channels: of each image, 1 to 16.
        value_range: see `decode`.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[str],
        labels: Tensor,
        classes: tuple[str, ...],
        skipped: tuple[Skipped, ...] = (),
        channels: int = 3,
        value_range: Range | None = None,
    ) -> None:
        self.channels, self.value_range = channels, value_range
        self.name, self.paths, self.labels, self.classes, self.skipped = name, paths, labels, classes, skipped

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, index: int) -> str:
        """Return the path of image `index`."""
        return self.paths[index]

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Decode image `index` to uint8 `(C,H,W)`, short side at most `cap`.

        Raises:
            DataError: the file cannot be read; the message is the reason.
        """
        return decode(self.stored(index), cap, channels=self.channels, value_range=self.value_range)

    def stored(self, index: int) -> Path:
        """Return what is decoded for image `index`."""
        return Path(self.paths[index])


def open_folder(root: Path, channels: int = 3, value_range: Range | None = None) -> Files:
    """Open the images below `root`; the label of one is the first folder below it, if there are at least two.

    Raises:
        DataError: not a folder, or no image in it.
    """
    found, skipped = find_images(root)
    tops = [name.split(os.sep, 1)[0] if os.sep in name else None for name in found]
    classes = tuple(sorted({top for top in tops if top is not None}))
    if len(classes) < 2:
        classes = ()
    number = {name: k for k, name in enumerate(classes)}
    labels = torch.tensor([number.get(top, -1) if top is not None else -1 for top in tops])
    return Files(str(root), [str(root / name) for name in found], labels, classes, skipped, channels, value_range)
