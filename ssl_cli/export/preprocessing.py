"""The test transform as part of an ONNX graph: decoded images of any size in, what the encoder was measured on out.

Resizing is two matrix products, line by line as `augment/resample.py`, for two reasons: Resize is not the same on every
execution provider (antialiased bicubic least of all), and only those lines are computed that lie in the centre.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ssl_cli.export.onnx import INPUT


@dataclass(frozen=True)
class Preprocessing:
    """Resize the short side, cut out the centre, scale to [0, 1], normalise; images `size` x `size` are not resized.

    Attributes:
        size: side of the result.
        short: what the short side becomes.
        interpolation: of the antialiased resize.
        mean: subtracted from each channel, and
        std: its divisor; both None where the encoder takes values in [0, 1].
        channels: of the images.
    """

    size: int
    short: int
    interpolation: Literal["bilinear", "bicubic"]
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    channels: int = 3


class _Nodes:
    """Nodes and constants of a graph, made by calling it: operator and inputs in, the output's name out."""

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
    """Make the model take `image`, uint8 `(batch, height, width, C)`, all free but C, instead of fitted images.

    In place. The model's own input `(batch, C, size, size)` must have another name than `image`.
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
    """Weights `(size, height)` and `(size, width)` of the lines in the centre of the resized image."""
    size, short = np.int64(preprocessing.size), np.int64(preprocessing.short)
    sides = add("Shape", INPUT, start=1, end=3)
    height, width = (add("Gather", sides, np.int64(axis)) for axis in (0, 1))
    least, most = add("Min", height, width), add("Max", height, width)
    as_it_is = add("And", add("Equal", least, size), add("Equal", most, size))

    def resized(side: str) -> str:
        return add("Where", as_it_is, size, add("Div", add("Mul", side, short), least))

    rows, columns = (_filter(add, side, resized(side), preprocessing) for side in (height, width))
    return rows, columns


def _filter(add: _Nodes, side: str, resized: str, preprocessing: Preprocessing) -> str:
    """Weights `(size, side)`: the middle `size` of `resized` lines, each of which sums to one over the pixels."""
    size, one = preprocessing.size, np.float32(1)
    old, new = (add("Cast", count, to=TensorProto.FLOAT) for count in (side, resized))
    start = add("Round", add("Mul", add("Sub", new, np.float32(size)), np.float32(0.5)))  # half to even, as Python's
    scale = add("Div", old, new)
    centre = add("Mul", add("Add", start, np.arange(size, dtype=np.float32)[:, None] + np.float32(0.5)), scale)
    pixel = add("Cast", add("Range", np.int64(0), side, np.int64(1)), to=TensorProto.FLOAT)
    apart = add("Abs", add("Sub", add("Add", pixel, np.float32(0.5)), centre))
    distance = add("Mul", apart, add("Div", one, add("Max", scale, one)))  # wider where it shrinks
    kernel = _linear if preprocessing.interpolation == "bilinear" else _cubic
    weight = kernel(add, distance)
    return add("Div", weight, add("ReduceSum", weight, np.array([1], dtype=np.int64), keepdims=1))


def _linear(add: _Nodes, distance: str) -> str:
    return add("Max", add("Sub", np.float32(1), distance), np.float32(0))


def _cubic(add: _Nodes, distance: str) -> str:
    """Keys' kernel with a = -1/2: two cubics, each zero where the other holds."""
    near = add("Min", distance, np.float32(1))
    far = add("Clip", distance, np.float32(1), np.float32(2))
    return add("Add", _cubic_of(add, near, 1.5, -2.5, 0.0, 1.0), _cubic_of(add, far, -0.5, 2.5, -4.0, 2.0))


def _cubic_of(add: _Nodes, x: str, *coefficients: float) -> str:
    """The polynomial by Horner's rule, highest power first."""
    first, *others = (np.float32(value) for value in coefficients)
    value: str | np.float32 = first
    for coefficient in others:
        value = add("Add", add("Mul", x, value), coefficient)
    assert isinstance(value, str)
    return value
