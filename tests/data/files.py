"""Write image files byte by byte, with numbers of any type: TIFF, PNG of 16 bits, PBM's family, .npy."""

import io
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ssl_cli.data.collect import folder_part
from ssl_cli.data.folder import Files
from ssl_cli.data.numbers import Range


def tiff(
    *pages: np.ndarray, photometric: int | None = None, planar: int = 1, extra: Sequence[int] = (), nodata: str = "",
    compression: int = 1, predictor: int = 1, rows: int | None = None, tile: int = 0, orientation: int = 1,
    order: Literal["<", ">"] = "<", big: bool = False, bits: int = 0, subfile: Sequence[int] = (),
    palette: Sequence[int] = (), packed: bytes = b"",
) -> bytes:  # fmt: skip
    """A TIFF with exactly these tags; each page is `(H,W)` or `(H,W,C)`."""
    offset, head = ("Q", 16) if big else ("I", 8)
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "H", 43 if big else 42))
    out += struct.pack(order + "HHQ", 8, 0, 0) if big else struct.pack(order + "I", 0)
    link = head - (8 if big else 4)
    for number, page in enumerate(pages):
        x = page if page.ndim == 3 else page[:, :, None]
        height, width, channels = x.shape
        kind = {"u": 1, "i": 2, "f": 3, "c": 6}[x.dtype.kind]
        places, counts = [], []
        for plane in [x] if planar == 1 else [x[:, :, k : k + 1] for k in range(channels)]:
            for block in blocks(plane, rows or height, tile):
                block = block.astype(block.dtype.newbyteorder(order))
                data = packed or (bits_of(block, bits) if bits else coded(block, predictor))
                data = zlib.compress(data) if compression in (8, 32946) else data
                places.append(len(out))
                counts.append(len(data))
                out += data + b"\0" * (len(data) % 2)
        tags: list[tuple[int, str, Sequence[int] | bytes]] = [
            (254, "I", [subfile[number] if subfile else 0]), (256, "I", [width]), (257, "I", [height]),
            (258, "H", [bits or x.dtype.itemsize * 8] * channels), (259, "H", [compression]),
            (262, "H", [photometric if photometric is not None else (1 if channels < 3 else 2)]),
            (274, "H", [orientation]), (277, "H", [channels]), (284, "H", [planar]), (317, "H", [predictor]),
            (339, "H", [kind] * channels),
        ]  # fmt: skip
        if tile:
            tags += [(322, "I", [tile]), (323, "I", [tile]), (324, offset, places), (325, offset, counts)]
        else:
            tags += [(273, offset, places), (278, "I", [rows or height]), (279, offset, counts)]
        tags += [(338, "H", list(extra))] if extra else []
        tags += [(320, "H", list(palette))] if palette else []
        tags += [(42113, "B", nodata.encode() + b"\0")] if nodata else []
        struct.pack_into(order + offset, out, link, len(out))
        link = directory(out, sorted(tags, key=lambda tag: tag[0]), order, offset, big=big)
    return bytes(out)


def directory(out: bytearray, tags: Sequence[tuple[int, str, Any]], order: str, offset: str, *, big: bool) -> int:
    inline, codes = (8, {"B": 2, "H": 3, "I": 4, "Q": 16}) if big else (4, {"B": 2, "H": 3, "I": 4})
    body = bytearray(struct.pack(order + ("Q" if big else "H"), len(tags)))
    after = len(out) + len(body) + len(tags) * (20 if big else 12) + inline
    rest = bytearray()
    for tag, form, values in tags:
        raw = struct.pack(f"{order}{len(values)}{form}", *values)
        body += struct.pack(order + "HH" + offset, tag, codes[form], len(values))
        body += raw.ljust(inline, b"\0") if len(raw) <= inline else struct.pack(order + offset, after + len(rest))
        rest += raw + b"\0" * (len(raw) % 2) if len(raw) > inline else b""
    link = len(out) + len(body)
    out += body + bytes(inline) + rest
    return link


def blocks(plane: np.ndarray, rows: int, tile: int) -> list[np.ndarray]:
    height, width = plane.shape[:2]
    if not tile:
        return [plane[top : top + rows] for top in range(0, height, rows)]
    whole = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
    corners = [(top, left) for top in range(0, height, tile) for left in range(0, width, tile)]
    return [whole[top : top + tile, left : left + tile] for top, left in corners]


def coded(block: np.ndarray, predictor: int) -> bytes:
    """The bytes of a strip or tile, by a predictor in plain loops over pixels."""
    if predictor == 2:
        whole = block.view(f"{block.dtype.byteorder}u{block.dtype.itemsize}").copy()
        whole[:, 1:] = whole[:, 1:] - whole[:, :-1]
        return whole.tobytes()
    if predictor == 3:
        channels, lines = block.shape[2], bytearray()
        for row in block.astype(block.dtype.newbyteorder(">")):
            line = np.frombuffer(row.tobytes(), np.uint8).reshape(-1, block.dtype.itemsize).T.reshape(-1)
            lines += line[:channels].tobytes() + (line[channels:] - line[:-channels]).tobytes()
        return bytes(lines)
    return block.tobytes()


def bits_of(x: np.ndarray, bits: int) -> bytes:
    """Numbers `(H,...)` of so many bits one after the other, each line from a whole byte."""
    each = (x.reshape(len(x), -1, 1).astype(np.int64) >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(each.astype(np.uint8).reshape(len(x), -1), axis=-1).tobytes()


def png(x: np.ndarray, colour_type: int, *, more: bytes = b"", bits: int = 16) -> bytes:
    """A PNG of `(H,W)` or `(H,W,C)`."""
    height, width = x.shape[:2]
    lines = b"".join(b"\0" + bits_of(row[None], bits) for row in x)
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def anymap(x: np.ndarray, highest: int, *, text: bool = False) -> bytes:
    """A PGM or PPM of `(H,W)` or `(H,W,3)`, of two bytes a number or as text."""
    kind = (b"P3" if x.ndim == 3 else b"P2") if text else (b"P6" if x.ndim == 3 else b"P5")
    head = kind + b"\n# taken today\n%d %d\n%d\n" % (x.shape[1], x.shape[0], highest)
    return head + (b" ".join(b"%d" % k for k in x.reshape(-1)) if text else x.astype(">u2").tobytes())


def npy(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def open_folder(root: Path, channels: int = 3, value_range: Range | None = None, depth: int = 8) -> Files:
    """The images below a folder; the label of one is the first folder below it."""
    return Files(str(root), [folder_part(root)], channels, value_range, depth)
