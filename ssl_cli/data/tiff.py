"""TIFF files as they were written: which pages they have, and how to read numbers of any type from them.

Only the tags that are needed are read: of `MOST_DIRECTORIES` directories at most, each `MOST_BYTES` at most.
"""

import contextlib
import itertools
import math
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from ssl_cli.data.numbers import RGB, Numbers, Wide, straight_alpha
from ssl_cli.data.strips import BYTEWISE, PALETTE, Page, read_page
from ssl_cli.errors import DataError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MOST_DIRECTORIES, MOST_PAGES = 1000, 32
MOST_BYTES = 8 * 2**20
"""Bytes of a tag: the places of a million strips or tiles."""
_TYPES = {1: "u1", 2: "u1", 3: "u2", 4: "u4", 6: "i1", 7: "u1", 8: "i2", 9: "i4", 11: "f4", 12: "f8", 13: "u4"}
_TYPES |= {16: "u8", 17: "i8", 18: "u8"}
_NAMES = {
    254: "subfile", 256: "width", 257: "height", 258: "bits", 259: "compression", 262: "photometric", 266: "fill_order",
    273: "offsets", 274: "orientation", 277: "channels", 278: "rows", 279: "counts", 284: "planar", 317: "predictor",
    320: "palette", 322: "tile_width", 323: "tile_height", 324: "tile_offsets", 325: "tile_counts", 338: "extra",
    339: "format", 42113: "nodata",
}  # fmt: skip
_KINDS = {1: "u", 2: "i", 3: "f", 4: "u"}
_BY_PILLOW = {2, 3, 4, 6, 7, 32771, 32809, 34676, 34677}
"""Compressions of images of 8 bits that Pillow reads, too: CCITT, JPEG and others."""
_WHITE_IS_ZERO, _COLOURS = 0, 2
_RAW = {32803, 34892}
_GRAY = {_WHITE_IS_ZERO, 1, *_RAW}
"""Photometric interpretations of gray; and of a camera's raw numbers."""
_REDUCED = 5
"""Bits of the type of a page that is a smaller copy or a mask of another."""
_KIND_WORDS = {"u": "unsigned integers", "i": "signed integers", "f": "floats", "c": "complex numbers"}
_BITS = {"u": {*range(1, 33), 64}, "i": {8, 16, 32, 64}, "f": {16, 32, 64}}
Tags = dict[str, np.ndarray]


def find(file: BinaryIO, channels: int) -> Wide | None:
    """Return how to read a TIFF file, at its start; None: Pillow reads all of it that is asked for.

    Raises:
        DataError: its numbers are of a kind that is not read, it is damaged, or it has other pages than channels.
    """
    found = (page for page in _pages(file) if not page.reduced)
    first = next(found, None) or next(_pages(file), None)
    if first is None:
        raise DataError("it is damaged (there is no image in it)")
    usual = channels in (1, RGB) or (first.has_alpha and first.channels == channels)
    if _is_ordinary(first) and (usual or first.compression not in BYTEWISE):
        if not first.by_pillow:
            raise DataError(_unread(first))
        if first.missing.any():
            raise DataError("it is damaged (parts of it are missing)")
        return None
    pages = [first]
    if not usual and first.channels == 1:
        pages += itertools.islice(found, MOST_PAGES)
    if len(pages) > 1 and len(pages) != channels:
        more = " or more" if len(pages) > MOST_PAGES else ""
        raise DataError(f"it has {len(pages)}{more} pages, and data.channels is {channels}")
    for page in pages:
        _refuse(page, first)
    pixels = math.prod(first.size)
    needed = max(page.needed for page in pages) + (len(pages) > 1) * pixels * len(pages) * first.dtype.itemsize
    return Wide(first.size, needed, lambda: _read(file, pages, channels), first.orientation)


def unread(file: BinaryIO) -> str:
    """Return why a TIFF file is not read, of which neither `find` nor Pillow knows the kind."""
    return _unread(next(_pages(file)))


def _unread(page: Page) -> str:
    order = "big-endian BigTIFF" if not page.by_pillow else "TIFF"
    numbers = f"{page.channels} channels of {_KIND_WORDS[page.kind]} of {page.bits} bits"
    return f"it is a {order} of {numbers}, photometric interpretation {page.photometric}, which is not read"


def seek_main(picture: Image.Image) -> None:
    """Go to the page that `find` would read of a TIFF that Pillow opened: neither a smaller copy nor a mask."""
    with contextlib.suppress(EOFError):
        for number in range(MOST_DIRECTORIES):
            picture.seek(number)
            if not int(picture.tag_v2.get(254, 0)) & _REDUCED:  # type: ignore[attr-defined]
                return
    picture.seek(0)


def _read(file: BinaryIO, pages: list[Page], channels: int) -> Numbers:
    """Read the pages; of more channels than the `channels` 1 or 3 that are asked for, the colours and the opacity."""
    first = pages[0]
    if len(pages) == 1:
        values = read_page(file, first)
    else:
        values = np.empty((first.size[1], first.size[0], len(pages)), first.dtype.newbyteorder("="))
        for k, page in enumerate(pages):
            values[:, :, k : k + 1] = read_page(file, page)
    if values.dtype == np.float16:
        values = values.astype(np.float32)
    if first.photometric == PALETTE:
        values = (first.palette >> 8).astype(np.uint8)[values[:, :, 0]]
    alpha = first.has_alpha and len(pages) == 1
    if first.opacity is not None and not alpha and channels in (1, RGB):
        values, alpha = values[:, :, [*range(RGB), first.opacity]], True
    if first.premultiplied and alpha:
        values = straight_alpha(values)
    hole = None if values.dtype == np.uint8 else first.nodata
    if hole is not None and values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            hole = float(values.dtype.type(hole))  # as it is in the file
    return Numbers(
        values, alpha=alpha, colours=first.photometric == _COLOURS,
        inverted=first.photometric == _WHITE_IS_ZERO, hole=hole,
    )  # fmt: skip


def _is_ordinary(page: Page) -> bool:
    """Whether Pillow reads all of it that becomes gray or colours."""
    if page.photometric == PALETTE and page.palette.size and page.channels == 1 and page.compression in BYTEWISE:
        return page.bits <= 8 and page.by_pillow
    if page.photometric not in {*_GRAY, _COLOURS}:
        return True
    if page.bits not in (1, 2, 4, 8) or page.bits * page.channels not in (page.bits, 8 * page.channels):
        return False
    if page.kind != "u":
        return False
    if page.compression in BYTEWISE and page.bits == 8 and (
        not page.by_pillow or page.missing.any() or page.photometric in _RAW
        or (page.has_alpha and page.photometric == _WHITE_IS_ZERO)
        or (page.premultiplied and (page.planes > 1 or page.photometric != _COLOURS))
    ):  # fmt: skip
        return False
    usual = page.channels - page.has_alpha <= (RGB + 1 if page.photometric == _COLOURS else 1) and page.planes <= RGB
    return page.compression in _BY_PILLOW or (page.compression in BYTEWISE and usual)


def _refuse(page: Page, first: Page) -> None:
    if page.size != first.size:
        raise DataError("its pages differ in size")
    if page.dtype != first.dtype or page.channels != first.channels:
        raise DataError("its pages differ in their numbers")
    if page.bits not in _BITS.get(page.kind, ()):
        raise DataError(f"its numbers are {_KIND_WORDS[page.kind]} of {page.bits} bits, which are not read")


def _pages(file: BinaryIO) -> Iterator[Page]:
    """Yield the pages.

    Raises:
        DataError: it is damaged.
    """
    file.seek(0)
    header = file.read(16)
    order, large = "<" if header[:2] == b"II" else ">", header[2:4] in (b"+\0", b"\0+")
    place = int(struct.unpack_from(order + ("Q" if large else "I"), header, 8 if large else 4)[0])
    seen: set[int] = set()
    while place and place not in seen and len(seen) < MOST_DIRECTORIES:
        number = len(seen)
        seen.add(place)
        tags, place = _directory(file, place, order, large)
        yield _page(tags, number, order, large=large)


def _directory(file: BinaryIO, place: int, order: str, large: bool) -> tuple[Tags, int]:
    """Read the tags of a page that are used; return where the next page is, too, 0 after the last."""
    offset, count, entry, inline = ("Q", "Q", 20, 8) if large else ("I", "H", 12, 4)
    file.seek(place)
    entries = min(int(struct.unpack(order + count, file.read(struct.calcsize("=" + count)))[0]), 65535)
    table = file.read(entries * entry + inline)
    entries = min(entries, len(table) // entry)
    tags: Tags = {}
    for start in range(0, entries * entry, entry):
        tag, kind, number = struct.unpack_from(order + "HH" + offset, table, start)
        if tag not in _NAMES or kind not in _TYPES:
            continue
        dtype = np.dtype(order + _TYPES[kind])
        size, where = number * dtype.itemsize, start + entry - inline
        data = table[where : where + size]
        if size > inline:
            if size > MOST_BYTES:
                raise DataError(f"it is damaged (its tag {tag} has {size} bytes)")
            file.seek(struct.unpack_from(order + offset, table, where)[0])
            data = file.read(size)
        if 0 < size == len(data):
            tags[_NAMES[tag]] = np.frombuffer(data, dtype)
    rest = table[entries * entry :]
    return tags, int(struct.unpack(order + offset, rest)[0]) if len(rest) == inline else 0


def _page(tags: Tags, number: int, order: str, *, large: bool) -> Page:
    """Describe a page by its tags.

    Raises:
        DataError: its channels are of several types.
    """
    bits, formats = tags.get("bits", np.array([1])), tags.get("format", np.array([1]))
    if len(set(bits.tolist())) > 1 or len(set(formats.tolist())) > 1:
        raise DataError("its channels differ in their numbers, which is not read")
    tiled = "tile_width" in tags
    offsets, counts = (tags.get("tile_" * tiled + name, np.array([], np.uint64)) for name in ("offsets", "counts"))
    height, channels = _first(tags, "height", 0), max(1, _first(tags, "channels", 1))
    extra = tags.get("extra", np.array([], int)).tolist()
    opacity = _opacity(extra, channels, colours=_first(tags, "photometric", 1) == _COLOURS)
    rows = max(1, min(_first(tags, "rows", height), height))
    return Page(
        number=number,
        order=order,
        size=(_first(tags, "width", 0), height),
        channels=channels,
        bits=int(bits[0]),
        kind=_KINDS.get(int(formats[0]), "c"),
        compression=_first(tags, "compression", 1),
        photometric=_first(tags, "photometric", 1),
        planes=channels if _first(tags, "planar", 1) == 2 else 1,
        predictor=_first(tags, "predictor", 1),
        fill_order=_first(tags, "fill_order", 1),
        tiled=tiled,
        block=(_first(tags, "tile_width", 0), _first(tags, "tile_height", 0)) if tiled else (0, rows),
        offsets=offsets.astype(np.uint64),
        counts=counts.astype(np.uint64),
        opacity=opacity,
        premultiplied=opacity is not None and 1 in extra,
        palette=_palette(tags, int(bits[0])),
        reduced=bool(_first(tags, "subfile", 0) & _REDUCED),
        by_pillow=not (large and order == ">"),
        nodata=_number(tags.get("nodata")),
        orientation=_first(tags, "orientation", 1),
    )


def _opacity(extra: list[int], channels: int, *, colours: bool) -> int | None:
    """Return which channel is the opacity, of those after one of gray or three of colours; None: none is."""
    before = channels - len(extra)
    found = [number for number, kind in enumerate(extra, before) if kind in (1, 2)]
    usual = before in (1, RGB) if len(extra) == 1 else before == RGB and colours
    return found[0] if len(found) == 1 and usual else None


def _palette(tags: Tags, bits: int) -> np.ndarray:
    """Return the colours of each number `(2**bits, 3)` of 16 bits; none where there is no whole palette."""
    found = tags.get("palette", np.array([], np.uint16))
    return found.reshape(RGB, -1).T if bits <= 16 and found.size == RGB * 2**bits else np.empty((0, RGB), np.uint16)


def _first(tags: Tags, name: str, otherwise: int) -> int:
    return int(tags[name][0]) if name in tags else otherwise


def _number(text: Any) -> float | None:
    try:
        return None if text is None else float(text.tobytes().partition(b"\0")[0].decode("ascii"))
    except ValueError:
        return None
