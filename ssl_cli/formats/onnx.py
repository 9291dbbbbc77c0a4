"""ONNX: convert an encoder to one self-contained graph, and check it in onnxruntime against torch."""

import getpass
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from ssl_cli.errors import CheckpointError
from ssl_cli.formats.agreement import Agreement, agreement
from ssl_cli.formats.runtime import import_onnxruntime

INPUT, OUTPUT, LOGITS = "image", "h", "logits"
PROVIDER = "CPUExecutionProvider"  # that runs the check
LARGEST = 1_800_000_000  # bytes; one protobuf file ends at 2 GB


def convert(
    encoder: nn.Module, size: int, opset: int, name: str = INPUT, channels: int = 3, output: str = OUTPUT,
    dynamic_size: bool = False,
) -> onnx.ModelProto:  # fmt: skip
    """Convert an encoder `(N,C,size,size) -> (N,F)` to an ONNX graph with a free N and without paths of this machine.

    Args:
        encoder: moved in place to the CPU, to evaluation mode and to contiguous weights.
        size: side of its images.
        opset: of the graph.
        name: of the graph's input.
        channels: of its images.
        output: name of the graph's output.
        dynamic_size: free height and width, too.

    Raises:
        CheckpointError: the encoder cannot be expressed, not in this opset, or is too large for one file.
    """
    # channels_last weights would be traced with their strides
    encoder.cpu().eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, channels, size, size)  # a batch of one would be taken for a constant
    try:
        # deprecations inside the exporter are no concern of the user
        with warnings.catch_warnings(), _user_name():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                encoder,
                (example,),
                input_names=[name],
                output_names=[output],
                opset_version=opset,
                dynamo=True,
                dynamic_shapes=({0: "batch", **({2: "height", 3: "width"} if dynamic_size else {})},),
                verbose=False,
            )
        assert program is not None
        model: onnx.ModelProto = program.model_proto
    except Exception as error:  # the exporter raises whatever the unsupported construct happens to break
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"The encoder cannot be written as ONNX: {type(error).__name__}: {reason}") from error
    written = {part.domain: part.version for part in model.opset_import}
    if written.get("") != opset:  # where its conversion fails, torch writes its own opset
        raise CheckpointError(f"The encoder cannot be written in opset {opset}.", "Try another --opset.")
    if model.ByteSize() > LARGEST:
        raise CheckpointError(f"The encoder has {model.ByteSize() / 1e9:.1f} GB, more than one ONNX file can hold.")
    return without_traces(model)


def session_of(data: bytes) -> Any:
    """Return a session of onnxruntime for the bytes of a file, on the CPU, which logs errors alone."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(data, options, providers=[PROVIDER])


def compare(
    model: onnx.ModelProto, reference: Callable[[Tensor], Tensor], batches: Sequence[Tensor], dtype: str = "float32"
) -> Agreement:
    """Check that the graph is valid, and compare its output in onnxruntime with `reference` on each batch `(N,...)`.

    Raises:
        CheckpointError: the graph is malformed, has no free batch, or computes something else.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
        session = session_of(model.SerializeToString())
        found = [torch.from_numpy(session.run(None, {INPUT: batch.numpy()})[0]) for batch in batches]
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"The ONNX file does not run: {type(error).__name__}: {reason}") from error
    with torch.no_grad():
        wanted = [reference(batch) for batch in batches]
    return agreement(wanted, found, "The ONNX file", "Nothing was written; try another --opset.", dtype)


def stamp(model: onnx.ModelProto, producer: str, version: str, facts: Mapping[str, str]) -> None:
    """Set the producer of the model, and `facts`, which onnxruntime returns as `custom_metadata_map`."""
    model.producer_name, model.producer_version = producer, version
    onnx.helper.set_model_props(model, dict(facts))


@contextmanager
def _user_name() -> Iterator[None]:
    """Set USER within the block where the user has no name, as in some containers: torch may ask for it."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = "sslcli"
        try:
            yield
        finally:
            os.environ.pop("USER", None)
    else:
        yield


def without_traces(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove stack traces, paths and documentation that exporters add, in place; return the model."""
    _strip(model)
    return model


def _strip(message: Any) -> None:
    """Remove stack traces, paths and documentation that the exporter adds, at every depth of the message."""
    for field, value in message.ListFields():
        if field.name in {"metadata_props", "doc_string"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            # a repeated field is a sequence of messages
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip(part)
