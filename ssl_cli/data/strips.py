"""The numbers of a page of a TIFF file, from its strips or tiles.

They are decompressed by libtiff, in Pillow, as an image of bytes, which is the same for every type of numbers.
"""

import io
import math
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from ssl_cli.data.extras import require
from ssl_cli.data.numbers import RGB
from ssl_cli.errors import DataError
from ssl_cli.names import shown

PALETTE = 3
"""Photometric interpretation of numbers that a palette gives colours."""
_FULL = {bits: (np.arange(2**bits) * (255 / (2**bits - 1))).round().astype(np.uint8) for bits in range(1, 8)}
"""Shades of numbers of fewer than 8 bits."""
BYTEWISE = {1, 5, 8, 32773, 32946, 34925, 50000}
"""Compressions of bytes, whatever they mean: none, LZW, Deflate, PackBits, Deflate again, LZMA, Zstandard."""
_OTHERS = {7: "JPEG", 33003: "JPEG 2000", 33005: "JPEG 2000", 34712: "JPEG 2000", 34887: "LERC", 50001: "WebP"}
_OTHERS |= {50002: "JPEG XL", 52546: "JPEG XL"}


class _Bytes(TiffImageFile):
    """An image of bytes, which may be more than Pillow's limit on pixels: they were counted before."""

    def load_prepare(self) -> None:
        """Make the raster."""
        if self._im is None:
            self.im = Image.new(self.mode, self._tile_size).im
        super().load_prepare()


@dataclass(frozen=True)
class Page:
    """One page of a TIFF file; `block` is width and height of its tiles, or 0 and the rows of a strip.

    `reduced` says that it is a smaller copy or a mask of another page, `opacity` which channel is that, `premultiplied`
    that its colours are multiplied by it, `by_pillow` that Pillow reads files of this header.
    """

    number: int
    order: str
    size: tuple[int, int]
    channels: int
    bits: int
    kind: str
    compression: int
    photometric: int
    planes: int
    predictor: int
    fill_order: int
    tiled: bool
    block: tuple[int, int]
    offsets: np.ndarray
    counts: np.ndarray
    opacity: int | None
    premultiplied: bool
    nodata: float | None
    orientation: int
    reduced: bool
    by_pillow: bool
    palette: np.ndarray

    @property
    def has_alpha(self) -> bool:
        """Whether it has one channel of gray, or three of colours, and the opacity alone."""
        return self.opacity is not None and self.opacity == self.channels - 1 and self.opacity in (1, RGB)

    @property
    def is_packed(self) -> bool:
        """Whether numbers are not 8, 16, 32 or 64 bits: they are unpacked to the next of these."""
        return self.kind == "u" and self.bits < 32 and self.bits not in (8, 16)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of its numbers; uint8 where there is none."""
        width = 1 + (self.bits > 8) + 2 * (self.bits > 16) if self.is_packed else self.bits // 8
        known = width in {"f": (2, 4, 8), "c": ()}.get(self.kind, (1, 2, 4, 8))
        return np.dtype(f"{'=' if self.is_packed else self.order}{self.kind}{width}" if known else "u1")

    @property
    def missing(self) -> np.ndarray:
        """Which strips or tiles were never written, as GDAL leaves out those of nothing but nodata."""
        both = min(len(self.offsets), len(self.counts))
        missing: np.ndarray = (self.offsets[:both] == 0) | (self.counts[:both] == 0)
        return missing

    @property
    def needed(self) -> int:
        """Bytes that reading it takes: of a plane compressed, as Pillow's raster, as bytes, as sums; of all twice."""
        width = -(-self.size[0] // self.block[0]) * self.block[0] if self.tiled and self.block[0] else self.size[0]
        raw = width * self.size[1] * self.channels * max(self.bits, 8) // 8
        raw = raw * 2 if self.is_packed and self.bits > 16 else raw
        plane = int(self.counts.sum()) + raw * (4 + 2 * self.is_packed + (self.bits > 8))
        return plane // self.planes + 2 * raw * (self.planes > 1) + raw * self.premultiplied


def read_page(file: BinaryIO, page: Page) -> np.ndarray:
    """Read the numbers of a page, `(H,W,C)`.

    Raises:
        DataError: it is damaged, or a library is missing that decompresses it.
    """
    if page.compression not in BYTEWISE:
        return _by_tifffile(file, page)
    if page.predictor not in (1, 2, 3) or (page.predictor == 3 and page.kind != "f"):
        raise DataError(f"it is damaged (predictor {page.predictor})")
    each = page.channels // page.planes
    planes = [_plane(file, page, k, each) for k in range(page.planes)]
    return planes[0] if len(planes) == 1 else np.concatenate(planes, -1)


def _plane(file: BinaryIO, page: Page, plane: int, channels: int) -> np.ndarray:
    """Read the plane `plane` of a page, which holds `channels` channels: `(H,W,channels)`."""
    (width, height), (across_one, down_one) = page.size, page.block
    across_one = across_one if page.tiled else width
    if min(across_one, down_one) < 1:
        raise DataError("it is damaged (its tiles are empty)")
    across, down = math.ceil(width / across_one), math.ceil(height / down_one)
    line = (across_one * channels * page.bits + 7) // 8
    blocks = slice(plane * across * down, (plane + 1) * across * down)
    data = _decompressed(file, page, blocks, line, across).reshape(height, across, line)
    x = _unpacked(data, page, across_one * channels)
    if page.predictor > 1:
        x = _summed(x, page.predictor, channels)
    if page.missing[blocks].any():
        x = _filled(x, page, blocks, across)
    if page.bits < 8 and page.photometric != PALETTE:
        x = _FULL[page.bits][x]
    return x.reshape(height, across * across_one, channels)[:, :width]


def _filled(x: np.ndarray, page: Page, blocks: slice, across: int) -> np.ndarray:
    """Fill the strips or tiles that were never written, in lines of blocks `(H,blocks,count)`, with nodata or 0."""
    x, nodata = x.copy(), page.nodata or 0.0
    whole = x.dtype.kind != "f"
    fill = 0 if whole and not np.iinfo(x.dtype).min <= nodata <= np.iinfo(x.dtype).max else nodata
    for block in np.flatnonzero(page.missing[blocks]).tolist():
        row, column = divmod(block, across)
        x[row * page.block[1] : (row + 1) * page.block[1], column] = fill
    return x


def _decompressed(file: BinaryIO, page: Page, blocks: slice, line: int, across: int) -> np.ndarray:
    """Decompress the strips or tiles `blocks` of a page, whose lines have `line` bytes, `across` of them in a row."""
    offsets, counts = page.offsets[blocks].tolist(), page.counts[blocks].tolist()
    length, height = file.seek(0, io.SEEK_END), page.size[1]
    wanted = across * math.ceil(height / page.block[1])
    if len(offsets) < wanted or len(counts) < wanted:
        raise DataError("it is damaged (parts of it are missing)")
    missing = page.missing[blocks]
    if missing.any():  # decompressed as another one, and filled afterwards
        there = int(missing.argmin())
        if missing[there]:
            return np.zeros(height * line * across, np.uint8)
        offsets, counts = (
            [of[there] if gone else one for one, gone in zip(of, missing.tolist(), strict=True)]
            for of in (offsets, counts)
        )
    if page.compression == 1 and sum(counts) < height * line * across:
        raise DataError("it is damaged (it ends early)")
    if sum(counts) > length or any(start + count > length for start, count in zip(offsets, counts, strict=True)):
        raise DataError("it is damaged (it ends early)")
    body = io.BytesIO(bytes(8))
    starts = [body.seek(0, io.SEEK_END)]
    for start, count in zip(offsets, counts, strict=True):
        starts.append(starts[-1] + count)
        file.seek(start)
        body.write(file.read(count))
    size = {256: [line * across], 257: [height], 258: [8], 259: [page.compression], 262: [1], 266: [page.fill_order]}
    starts = starts[:-1]
    tiles = {322: [line], 323: [page.block[1]], 324: starts, 325: counts}
    strips = {273: starts, 278: [page.block[1]], 279: counts}
    _write_tags(body, {**size, 277: [1], **(tiles if page.tiled else strips)})
    with _Bytes(body) as picture:
        picture.load()
        return np.asarray(picture).reshape(-1)


def _write_tags(body: io.BytesIO, tags: dict[int, list[int]]) -> None:
    """Make a TIFF file of strips or tiles that lie from byte 8."""
    place = body.seek(0, io.SEEK_END)
    after = place + 6 + 12 * len(tags)
    rest = bytearray()
    body.write(struct.pack("<H", len(tags)))
    for tag in sorted(tags):
        values = struct.pack(f"<{len(tags[tag])}I", *tags[tag])
        body.write(struct.pack("<HHI", tag, 4, len(tags[tag])))
        body.write(values if len(values) == 4 else struct.pack("<I", after + len(rest)))
        rest += values if len(values) > 4 else b""
    body.write(b"\0\0\0\0" + rest)
    body.seek(0)
    body.write(b"II*\0" + struct.pack("<I", place))
    body.seek(0)


def _unpacked(lines: np.ndarray, page: Page, count: int) -> np.ndarray:
    """Return the numbers of lines of blocks, `(H,blocks,count)`, from their bytes `(H,blocks,line)`."""
    if not page.is_packed:
        return lines.view(page.dtype)
    out = np.empty((*lines.shape[:2], count), page.dtype)
    for k in range(len(lines)):
        bits = np.unpackbits(lines[k], axis=-1)[:, : count * page.bits].reshape(-1, count, page.bits)
        whole = np.pad(bits, ((0, 0), (0, 0), (8 * out.itemsize - page.bits, 0)))
        out[k] = np.packbits(whole, axis=-1).view(out.dtype.newbyteorder(">"))[..., 0]
    return out


def _summed(x: np.ndarray, predictor: int, channels: int) -> np.ndarray:
    """Sum the differences between pixels along lines of blocks `(H,blocks,count)`.

    They are of numbers (2), or of the bytes of floats (3), which are sorted by their place in the number then.
    """
    width = x.dtype.itemsize
    if predictor == 2:
        whole = x.view(f"{x.dtype.byteorder}u{width}").astype(f"=u{width}").reshape(*x.shape[:2], -1, channels)
        np.cumsum(whole, axis=2, dtype=whole.dtype, out=whole)
        return whole.reshape(x.shape).view(x.dtype.newbyteorder("="))
    parts = x.view(np.uint8).reshape(*x.shape[:2], -1, channels)
    parts = np.cumsum(parts, axis=2, dtype=np.uint8).reshape(*x.shape[:2], width, -1)
    return np.ascontiguousarray(parts.swapaxes(-1, -2)).view(f">f{width}")[..., 0]


def _by_tifffile(file: BinaryIO, page: Page) -> np.ndarray:
    """Read a page in a compression that libtiff does not have."""
    name = _OTHERS.get(page.compression, f"scheme {page.compression}")
    tifffile = require("tifffile", "tiff", f"a TIFF compressed by {name}")
    file.seek(0)
    try:
        with tifffile.TiffFile(file) as opened:
            x: np.ndarray = opened.pages[page.number].asarray(maxworkers=1)
    except Exception as error:
        raise DataError(f"it is damaged, or compressed in a way that is not read ({shown(str(error))})") from error
    (width, height), channels = page.size, page.channels
    x = x.reshape((channels, height, width) if page.planes > 1 else (height, width, channels))
    return x.transpose(1, 2, 0) if page.planes > 1 else x
