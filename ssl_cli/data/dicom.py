"""DICOM images by pydicom: stored numbers become those of the device, in the window that the file asks for.

A linear window is a range, like that of other files. What a table or a sigmoid gives are shades, in any range.
"""

import contextlib
import io
from typing import Any, BinaryIO

import numpy as np

from ssl_cli.data.extras import require
from ssl_cli.data.numbers import RGB, Numbers, Range, Wide
from ssl_cli.errors import DataError

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PLAIN = "1.2.840.10008.1.2"
"""Transfer syntax where none is stated: numbers in little-endian order, types by the tags alone."""
_SHADES = 65535


def find(file: BinaryIO) -> Wide:
    """Read the header of a DICOM file, at its start.

    Raises:
        DataError: there is no image in it, it is not read, or the extra is missing.
    """
    pydicom = require("pydicom", "dicom", "a DICOM image")
    if _DEFLATED in file.read(2048):  # of which a small file may decompress to any size
        raise DataError("it is a DICOM file that is compressed as a whole (deflated), which is not read")
    file.seek(0)
    head = pydicom.dcmread(file, stop_before_pixels=True, force=True)
    size = int(head.get("Columns", 0)), int(head.get("Rows", 0))
    if not all(size):
        raise DataError("it is a DICOM file without an image")
    channels = int(head.get("SamplesPerPixel", 1))
    needed = file.seek(0, io.SEEK_END) + size[0] * size[1] * channels * (int(head.get("BitsAllocated", 16)) // 4 + 24)
    return Wide(size, needed, lambda: _read(pydicom, file))


def _read(pydicom: Any, file: BinaryIO) -> Numbers:
    """Read the first frame."""
    file.seek(0)
    opened = pydicom.dcmread(file, force=True)
    if "TransferSyntaxUID" not in opened.file_meta:
        opened.file_meta.TransferSyntaxUID = _PLAIN if opened.original_encoding[0] else f"{_PLAIN}.1"
    stored: np.ndarray = pydicom.pixels.pixel_array(opened, index=0)
    what = str(opened.get("PhotometricInterpretation", ""))
    if what == "PALETTE COLOR":
        stored = pydicom.pixels.apply_color_lut(stored, opened)
        stored = (stored >> 8).astype(np.uint8) if stored.dtype.itemsize == 2 else stored
    if stored.ndim == RGB:
        return Numbers(stored, colours=True)
    if opened.get("BitsAllocated") == 1:
        return Numbers(stored[:, :, None] * np.uint8(255), inverted=what == "MONOCHROME1")
    scaling, window = _group(opened, "PixelValueTransformationSequence"), _group(opened, "FrameVOILUTSequence")
    x, padded = stored, _padded(stored, opened)
    if "ModalityLUTSequence" in opened or (scaling.get("RescaleSlope", 1), scaling.get("RescaleIntercept", 0)) != (
        1,
        0,
    ):
        x = pydicom.pixels.apply_modality_lut(stored, opened if "ModalityLUTSequence" in opened else scaling)
    limits, full = _window(window), None
    if opened.get("VOILUTSequence"):
        x, full = _by_table(x, opened.VOILUTSequence[0])
    elif limits is not None and window.get("VOILUTFunction") == "SIGMOID":
        x, full = _sigmoid(x, limits), (0.0, float(_SHADES))
    if padded is not None:
        x = np.where(padded, np.nan, x.astype(np.float32))
    elif x.dtype == np.uint8 and limits is not None:
        x = x.astype(np.uint16)  # 8 bits alone would stay as they are
    return Numbers(x[:, :, None], inverted=what == "MONOCHROME1", window=limits, full=full)


def _by_table(x: np.ndarray, item: Any) -> tuple[np.ndarray, Range]:
    """Return the shades that a table gives numbers, and their black and white (DICOM PS3.3, C.11.2.1.1)."""
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    data, count = item.LUTData, count or 2**16
    if isinstance(data, bytes):
        data = np.frombuffer(data, "u1" if len(data) < 2 * count else "<u2")
    table = np.asarray(data, np.uint16)[:count]
    place = (x.round() if x.dtype.kind == "f" else x.astype(np.int64)) - first
    return table[place.clip(0, len(table) - 1).astype(np.int64)], (0.0, 2.0**bits - 1)


def _sigmoid(x: np.ndarray, ends: Range) -> np.ndarray:
    """Return shades from 0 to `_SHADES` of numbers in a window of these ends (DICOM PS3.3, C.11.2.1.3.1)."""
    y = x.astype(np.float64)
    y -= (ends[0] + ends[1]) / 2
    y *= -4 / (ends[1] - ends[0])
    np.exp(np.minimum(y, 700, out=y), out=y)  # more is infinite
    y += 1
    np.divide(_SHADES, y, out=y)
    return y.round(out=y).astype(np.uint16)


def _group(opened: Any, name: str) -> Any:
    """Return what holds the facts of the first frame: a functional group, its own or that of all, or the file."""
    for groups in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
        found = opened[groups].value[0].get(name) if opened.get(groups) else None
        if found:
            return found[0]
    return opened


def _padded(stored: np.ndarray, opened: Any) -> np.ndarray | None:
    """Return which stored numbers fill up the image, from PixelPaddingValue to its limit; None: there are none."""
    ends = [opened.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    known = [end for end in ends if isinstance(end, int)]
    if not known or known[0] is not ends[0]:
        return None
    if stored.dtype.kind == "i":  # which some files write as unsigned
        known = [end - (end > np.iinfo(stored.dtype).max) * 2 ** (8 * stored.dtype.itemsize) for end in known]
    padded: np.ndarray = (stored >= min(known)) & (stored <= max(known))
    return padded if padded.any() else None


def _window(opened: Any) -> Range | None:
    """Return the ends of the first window (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    with contextlib.suppress(TypeError, ValueError, IndexError):
        given = (opened.get(name) for name in ("WindowCenter", "WindowWidth"))
        centre, width = (float(value[0] if hasattr(value, "insert") else value) for value in given)
        if opened.get("VOILUTFunction") in ("LINEAR_EXACT", "SIGMOID") and width > 0:
            return centre - width / 2, centre + width / 2
        if width > 1:
            return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return None
