"""Smaller ONNX files: weights of float16, or of 8-bit integers; input and output stay float32."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx

from ssl_cli.errors import CheckpointError
from ssl_cli.formats.onnx import without_traces
from ssl_cli.formats.request import FLOAT16, INT8
from ssl_cli.formats.runtime import import_onnxruntime


def rounded_weights(model: onnx.ModelProto, dtype: str) -> onnx.ModelProto:
    """Return the model with rounded weights, by onnxruntime's own tools.

    Args:
        model: float32; unchanged.
        dtype: `float16`: weights and what is computed of them. `int8`: weights of convolutions and matrix products,
            with a scale for each tensor; the images' own scales are measured in each run of the graph ("dynamic").

    Raises:
        CheckpointError: the tool cannot convert the graph.
    """
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    try:
        with _silent():
            made = {FLOAT16: _float16, INT8: _int8}[dtype](copy)
    except Exception as error:  # the tools raise whatever the unsupported construct happens to break
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"The encoder cannot be written as {dtype}: {type(error).__name__}: {reason}") from error
    return without_traces(made)


def _float16(model: onnx.ModelProto) -> onnx.ModelProto:
    import_onnxruntime()
    from onnxruntime.transformers.float16 import convert_float_to_float16

    made: onnx.ModelProto = convert_float_to_float16(model, keep_io_types=True)
    inputs = {value.name for value in made.graph.input}
    # it appends the conversion of the input, and nodes are to stand behind those they read
    nodes = sorted(made.graph.node, key=lambda node: not inputs & {*node.input})
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


def _int8(model: onnx.ModelProto) -> onnx.ModelProto:
    import_onnxruntime()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rounded.onnx"
        # unsigned: the CPU has no convolution of signed weights in some versions of onnxruntime
        quantize_dynamic(model, file, weight_type=QuantType.QUInt8)
        return onnx.load(file)


@contextmanager
def _silent() -> Iterator[None]:
    """Discard the advice that the tools log and warn of within the block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
