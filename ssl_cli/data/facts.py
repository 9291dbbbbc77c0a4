"""What an image file holds: its format, size and numbers, and a small picture of it to compare with others."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ssl_cli.data import npy, tiff
from ssl_cli.data.decode import decode, opened, reasons
from ssl_cli.data.extras import is_dicom, is_heif
from ssl_cli.data.numbers import RGB, Numbers, Range
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.data.split import files_of
from ssl_cli.data.wide import HEADER
from ssl_cli.names import counted

CAP = 64
"""Short side of the image that brightness and contrast are measured on."""
SIDE = 12
"""Side of the small picture."""
_AT_ONCE = 2**20
_BITS = {"1": "1-bit numbers", "I": "32-bit numbers", "F": "32-bit floats"}
"""The type of the numbers by Pillow's mode; that of others is 8 bits."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Describe an image.

    Attributes:
        width: in pixels, upright.
        height: likewise.
        size: bytes of the file; those of the pixels where there is no file.
        format: of the file.
        mode: Pillow's, or the number of channels.
        kind: type of the numbers in words.
        span: the smallest and the largest number of other than 8 bits.
        mean: of all pixels and channels, 0 black and 1 white.
        contrast: their standard deviation within channels.
        digest: of the file's bytes: equal files have the same.
        thumb: the small picture, `SIDE` x `SIDE` x 3 bytes.
    """

    width: int
    height: int
    size: int
    format: str
    mode: str
    kind: str
    span: Range | None
    mean: float
    contrast: float
    digest: bytes
    thumb: bytes

    @property
    def short(self) -> int:
        """The shorter side."""
        return min(self.width, self.height)

    @property
    def aspect(self) -> float:
        """The longer side in shorter ones."""
        return max(self.width, self.height) / max(self.short, 1)


@dataclass
class _Seen:
    """What was met in a file before it was converted."""

    size: tuple[int, int] = (0, 0)
    format: str = ""
    mode: str = ""
    kind: str = "8-bit numbers"
    span: Range | None = None
    head: bytes = field(default=b"", repr=False)

    def look(self, found: Numbers | Image.Image) -> None:
        if isinstance(found, Image.Image):
            self.size, self.format, self.mode = found.size, found.format or "", found.mode
            self.kind = _BITS.get(found.mode, "16-bit numbers" if found.mode.startswith("I;16") else self.kind)
            return
        height, width, channels = found.values.shape
        self.size, self.format, self.kind = (width, height), _format(self.head), found.kind
        self.mode = counted(channels, "channel")
        self.span = None if found.values.dtype == np.uint8 else found.extremes()


class Inspector:
    """Read the images of a source in threads, and keep what is found of each.

    Attributes:
        facts: of the images that were read, by index.
    """

    def __init__(self, source: Source) -> None:
        self.source, self.facts = source, dict[int, Facts]()

    def read(self, index: int, cap: int | None = None) -> Tensor:
        """Find the facts of image `index`; the tensor returned is empty.

        Raises:
            DataError: it cannot be read; the message is the reason.

        Note:
            Runs in decode threads, so no torch operation is called.
        """
        files, place = files_of(self.source, index)
        seen = _Seen()
        if not hasattr(files, "stored"):
            pixels = np.asarray(self.source.read(index, cap))
            self._keep(index, pixels, seen, pixels.size, hashlib.sha256(pixels.tobytes()).digest())
            return torch.empty(0)
        stored: Path | bytes = files.stored(place)
        with reasons(), opened(stored) as file:
            digest, size = hashlib.sha256(), 0
            while part := file.read(_AT_ONCE):
                digest.update(part)
                size += len(part)
            file.seek(0)
            seen.head = file.read(HEADER)
            file.seek(0)
            how = {"channels": files.channels, "value_range": files.value_range}
            pixels = np.asarray(decode(file, cap, look=seen.look, **how))
        self._keep(index, pixels, seen, size, digest.digest())
        return torch.empty(0)

    def read_many(self, source: BatchedSource, indices: Tensor) -> None:
        """Find the facts of images int64 `(M,)` of a source that is in memory."""
        for index, image in zip(indices.tolist(), source.read_many(indices), strict=True):
            pixels = image.numpy()
            self._keep(index, pixels, _Seen(), pixels.size, hashlib.sha256(pixels.tobytes()).digest())

    def _keep(self, index: int, pixels: np.ndarray, seen: _Seen, size: int, digest: bytes) -> None:
        """Keep the facts of an image with these pixels, uint8 `(C,H,W)`."""
        channels, height, width = pixels.shape
        stored = seen.size if seen.format else (width, height)
        if (stored[0] > stored[1]) != (width > height):  # it was turned
            stored = stored[1], stored[0]
        self.facts[index] = Facts(
            width=stored[0], height=stored[1], size=size,
            format=seen.format or "in memory", mode=seen.mode or counted(channels, "channel"),
            kind=seen.kind, span=seen.span, mean=float(pixels.mean()) / 255,
            contrast=float(pixels.var(axis=(1, 2)).mean()) ** 0.5 / 255, digest=digest[:16], thumb=_thumb(pixels),
        )  # fmt: skip


def _format(head: bytes) -> str:
    """Name the format of a file of other than 8 bits by its first bytes."""
    if head.startswith(npy.MAGIC):
        return "NPY"
    if head[:4] in tiff.MAGIC:
        return "TIFF"
    if is_heif(head):
        return "HEIF"
    return "DICOM" if is_dicom(head) else "PNG" if head[1:4] == b"PNG" else "PPM"


def _thumb(pixels: np.ndarray) -> bytes:
    """Shrink an image uint8 `(C,H,W)` by means to a small picture, of its first three channels or a single one."""
    colours = [min(k, len(pixels) - 1) for k in range(RGB)]
    picture = Image.fromarray(np.ascontiguousarray(pixels[colours].transpose(1, 2, 0)))
    return picture.resize((SIDE, SIDE), Image.Resampling.BOX).tobytes()
