"""The test transform as part of an ONNX graph: decoded images of any size in, fitted images for the encoder out.

Resizing is two matrix products, line by line as `augment/resample.py`, for two reasons: Resize is not the same on every
execution provider (antialiased bicubic least of all), and only those lines are computed that lie in the centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssl_cli.formats.onnx import INPUT


@dataclass(frozen=True)
class Preprocessing:
    """Parameters: resize the short side, crop the centre, scale to [0, 1], normalise; `size` x `size` is not resized.

    Attributes:
        size: side of the result.
        short: length of the short side after resizing.
        interpolation: of the antialiased resize.
        mean: of each channel; None where values stay in [0, 1].
        std: of each channel; None where values stay in [0, 1].
        channels: of the images.
        range: of the numbers in files of other than 8 bits, see `DataSettings`.
        depth: in bits of the images that were trained on, 8 or 16.
    """

    size: int
    short: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    channels: int = 3
    range: tuple[float, float] | str = "auto"
    depth: int = 8


class _Nodes:
    """Collect nodes and constants of a graph; a call adds a node and returns its output's name."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def __call__(self, operator: str, *inputs: str | np.ndarray | np.generic, **attributes: Any) -> str:
        output = f"{self.prefix}.{len(self.nodes)}"
        names = [value if isinstance(value, str) else self._constant(value) for value in inputs]
        self.nodes.append(helper.make_node(operator, names, [output], name=f"{output}.{operator}", **attributes))
        return output

    def _constant(self, value: np.ndarray | np.generic) -> str:
        name = f"{self.prefix}.constant.{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def prepend(model: onnx.ModelProto, preprocessing: Preprocessing) -> None:
    """Put the transform before the model, in place: its input becomes `image`, uint8 `(batch, height, width, C)`.

    All sizes but C are free. The model's own input `(batch, C, size, size)` must have another name than `image`.
    """
    graph, add = model.graph, _Nodes("fit")
    x = add("Cast", add("Transpose", INPUT, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    rows, columns = _filters(add, preprocessing)
    across = add("MatMul", x, add("Transpose", columns, perm=[1, 0]))
    down = add("MatMul", add("Div", rows, np.float32(255)), across)
    x = add("Clip", down, np.float32(0), np.float32(1))  # bicubic overshoots
    if preprocessing.mean is not None and preprocessing.std is not None:
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (preprocessing.mean, preprocessing.std))
        x = add("Div", add("Sub", x, mean), std)
    add.nodes.append(helper.make_node("Identity", [x], [graph.input[0].name], name="fit.Identity"))
    nodes = [*add.nodes, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.initializer.extend(add.constants)
    image = helper.make_tensor_value_info(
        INPUT, TensorProto.UINT8, ["batch", "height", "width", preprocessing.channels]
    )
    graph.input.append(image)


def _filters(add: _Nodes, preprocessing: Preprocessing) -> tuple[str, str]:
    """Compute the weights `(size, height)` and `(size, width)` that resize an image and crop its centre."""
    size, short = np.int64(preprocessing.size), np.int64(preprocessing.short)
    sides = add("Shape", INPUT, start=1, end=3)
    height, width = (add("Gather", sides, np.int64(axis)) for axis in (0, 1))
    least, most = add("Min", height, width), add("Max", height, width)
    unchanged = add("And", add("Equal", least, size), add("Equal", most, size))

    def resized(side: str) -> str:
        return add("Where", unchanged, size, add("Div", add("Mul", side, short), least))

    rows, columns = (_filter(add, side, resized(side), preprocessing) for side in (height, width))
    return rows, columns


def _filter(add: _Nodes, side: str, resized: str, preprocessing: Preprocessing) -> str:
    """Compute the weights `(size, side)` of the middle `size` of `resized` lines; each sums to one over the pixels."""
    size, one = preprocessing.size, np.float32(1)
    old, new = (add("Cast", count, to=TensorProto.FLOAT) for count in (side, resized))
    start = add("Round", add("Mul", add("Sub", new, np.float32(size)), np.float32(0.5)))  # half to even, as Python's
    scale = add("Div", old, new)
    centre = add("Mul", add("Add", start, np.arange(size, dtype=np.float32)[:, None] + np.float32(0.5)), scale)
    pixel = add("Cast", add("Range", np.int64(0), side, np.int64(1)), to=TensorProto.FLOAT)
    offset = add("Abs", add("Sub", add("Add", pixel, np.float32(0.5)), centre))
    distance = add("Mul", offset, add("Div", one, add("Max", scale, one)))  # antialiased: wider where it shrinks
    kernel = _linear if preprocessing.interpolation == "bilinear" else _cubic
    weight = kernel(add, distance)
    return add("Div", weight, add("ReduceSum", weight, np.array([1], dtype=np.int64), keepdims=1))


def _linear(add: _Nodes, distance: str) -> str:
    return add("Max", add("Sub", np.float32(1), distance), np.float32(0))


def _cubic(add: _Nodes, distance: str) -> str:
    """Evaluate Keys' bicubic kernel with a = -1/2: two cubics, one for distances up to 1 and one from 1 to 2."""
    near = add("Min", distance, np.float32(1))
    far = add("Clip", distance, np.float32(1), np.float32(2))
    return add("Add", _cubic_of(add, near, 1.5, -2.5, 0.0, 1.0), _cubic_of(add, far, -0.5, 2.5, -4.0, 2.0))


def _cubic_of(add: _Nodes, x: str, *coefficients: float) -> str:
    """Evaluate a polynomial by Horner's rule, highest power first."""
    first, *others = (np.float32(value) for value in coefficients)
    value: str | np.float32 = first
    for coefficient in others:
        value = add("Add", add("Mul", x, value), coefficient)
    assert isinstance(value, str)
    return value
