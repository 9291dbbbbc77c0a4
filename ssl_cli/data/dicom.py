"""DICOM images by pydicom: stored numbers become those of the device, with the window that the file asks for."""

import contextlib
import io
from typing import Any, BinaryIO

import numpy as np

from ssl_cli.data.extras import require
from ssl_cli.data.numbers import RGB, Numbers, Wide
from ssl_cli.errors import DataError

_DEFLATED = b"1.2.840.10008.1.2.1.99"


def find(file: BinaryIO) -> Wide:
    """Read the header of a DICOM file, at its start.

    Raises:
        DataError: there is no image in it, it is not read, or the extra is missing.
    """
    pydicom = require("pydicom", "dicom", "a DICOM image")
    if _DEFLATED in file.read(2048):  # of which a small file may decompress to any size
        raise DataError("it is a DICOM file that is compressed as a whole (deflated), which is not read")
    file.seek(0)
    head = pydicom.dcmread(file, stop_before_pixels=True)
    size = int(head.get("Columns", 0)), int(head.get("Rows", 0))
    if not all(size):
        raise DataError("it is a DICOM file without an image")
    channels = int(head.get("SamplesPerPixel", 1))
    needed = file.seek(0, io.SEEK_END) + size[0] * size[1] * channels * (int(head.get("BitsAllocated", 16)) // 4 + 16)
    return Wide(size, needed, lambda: _read(pydicom, file))


def _read(pydicom: Any, file: BinaryIO) -> Numbers:
    """Read the first frame."""
    file.seek(0)
    opened = pydicom.dcmread(file)
    stored: np.ndarray = pydicom.pixels.pixel_array(opened, index=0)
    what = str(opened.get("PhotometricInterpretation", ""))
    if what == "PALETTE COLOR":
        stored = pydicom.pixels.apply_color_lut(stored, opened)
        stored = (stored >> 8).astype(np.uint8) if stored.dtype.itemsize == 2 else stored
    if stored.ndim == RGB:
        return Numbers(stored, colours=True)
    scaling, window = _group(opened, "PixelValueTransformationSequence"), _group(opened, "FrameVOILUTSequence")
    x, padded = stored, _padded(stored, opened)
    if "ModalityLUTSequence" in opened or (scaling.get("RescaleSlope", 1), scaling.get("RescaleIntercept", 0)) != (
        1,
        0,
    ):
        x = pydicom.pixels.apply_modality_lut(stored, opened if "ModalityLUTSequence" in opened else scaling)
    limits = _window(window)
    if padded is not None:
        x = np.where(padded, np.nan, x.astype(np.float32))
    elif x.dtype == np.uint8 and limits is not None:
        x = x.astype(np.uint16)  # 8 bits alone would stay as they are
    return Numbers(x[:, :, None], inverted=what == "MONOCHROME1", window=limits)


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


def _window(opened: Any) -> tuple[float, float] | None:
    """Return the ends of the first linear window (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3.2)."""
    with contextlib.suppress(TypeError, ValueError, IndexError):
        given = (opened.get(name) for name in ("WindowCenter", "WindowWidth"))
        centre, width = (float(value[0] if hasattr(value, "insert") else value) for value in given)
        if opened.get("VOILUTFunction") == "LINEAR_EXACT" and width > 0:
            return centre - width / 2, centre + width / 2
        if width > 1:
            return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2
    return None
