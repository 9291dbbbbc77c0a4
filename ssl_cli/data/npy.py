"""Images in .npy files, `(H,W,C)`, `(C,H,W)`, or of one channel `(H,W)`: numbers or booleans; nothing is unpickled."""

import io
import math
from typing import BinaryIO

import numpy as np

from ssl_cli.data.numbers import RGB, Numbers, Wide
from ssl_cli.errors import DataError

MAGIC = b"\x93NUMPY"


def find(file: BinaryIO, channels: int) -> Wide:
    """Read the header of a .npy file from its start.

    Raises:
        DataError: another type or shape.
        ValueError: the file is damaged.
    """
    read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
    version, _ = np.lib.format.read_magic(file)
    if version not in read_header:
        raise DataError(f"it is a .npy file of version {version}; 1 and 2 are read")
    shape, _, dtype = read_header[version](file)
    if dtype.kind not in "uifb" or dtype.itemsize > 8:
        raise DataError(f"its numbers are {dtype}; integers and floats of at most 64 bits are read")
    axes = _axes(shape, channels)
    height, width = (shape[axis] for axis in axes[:2])
    needed = math.prod(shape) * dtype.itemsize
    start = file.seek(0, io.SEEK_CUR)
    return Wide((width, height), needed, lambda: _read(file, axes, start + needed))


def _axes(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Return which axes are height, width and channels."""
    for count in (channels, *{1: (RGB,), RGB: (1,)}.get(channels, ())):  # gray and colours become one another
        if len(shape) == 2 and count == 1:
            return 0, 1
        if len(shape) == 3 and shape[2] == count:
            return 0, 1, 2
        if len(shape) == 3 and shape[0] == count:
            return 1, 2, 0
    raise DataError(f"its shape is {shape}, and data.channels is {channels}")


def _read(file: BinaryIO, axes: tuple[int, ...], size: int) -> Numbers:
    if file.seek(0, io.SEEK_END) < size:  # before memory is allocated for them
        raise DataError("it is damaged (it ends early)")
    file.seek(0)
    array: np.ndarray = np.load(file, allow_pickle=False).transpose(axes)
    if array.dtype.itemsize == 2 and array.dtype.kind == "f":
        array = array.astype(np.float32)
    elif array.dtype == bool:
        array = array * np.uint8(255)
    return Numbers(array if array.ndim == 3 else array[:, :, None])
