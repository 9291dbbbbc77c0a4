"""ONNX: convert an encoder to one self-contained graph, and check it in onnxruntime against torch."""

import getpass
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_cli.errors import CheckpointError
from ssl_cli.formats.runtime import import_onnxruntime

INPUT, OUTPUT, LOGITS = "image", "h", "logits"
PROVIDER = "CPUExecutionProvider"  # that runs the check
LARGEST = 1_800_000_000  # bytes; one protobuf file ends at 2 GB
TOLERANCE = 1e-4  # largest difference, as a share of the largest value
COSINE = 0.9999


@dataclass(frozen=True)
class Agreement:
    """Differences between two implementations of an encoder.

    Attributes:
        max_error: max|a - b| / max|a|, the largest of all batches.
        cosine: the least of all rows.
        batch_sizes: that were compared, in ascending order.
    """

    max_error: float
    cosine: float
    batch_sizes: tuple[int, ...]


def convert(
    encoder: nn.Module, size: int, opset: int, name: str = INPUT, channels: int = 3, output: str = OUTPUT
) -> onnx.ModelProto:
    """Convert an encoder `(N,C,size,size) -> (N,F)` to an ONNX graph with a free N and without paths of this machine.

    Args:
        encoder: moved in place to the CPU, to evaluation mode and to contiguous weights.
        size: side of its images.
        opset: of the graph.
        name: of the graph's input.
        channels: of its images.
        output: name of the graph's output.

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
                dynamic_shapes=({0: "batch"},),
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
    _strip(model)
    return model


def compare(model: onnx.ModelProto, reference: Callable[[Tensor], Tensor], batches: Sequence[Tensor]) -> Agreement:
    """Check that the graph is valid, and compare its output in onnxruntime with `reference` on each batch `(N,...)`.

    Raises:
        CheckpointError: the graph is malformed, has no free batch, or computes something else.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[PROVIDER])
        found = [torch.from_numpy(session.run(None, {INPUT: batch.numpy()})[0]) for batch in batches]
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"The ONNX file does not run: {type(error).__name__}: {reason}") from error
    with torch.no_grad():
        wanted = [reference(batch) for batch in batches]
    if any(a.shape != b.shape for a, b in zip(wanted, found, strict=True)):
        raise CheckpointError("The ONNX file gives outputs of another shape than torch.")
    largest, cosine = _distance(wanted, found)
    # so written that a value that is not a number fails
    if not (largest <= TOLERANCE and cosine >= COSINE):
        raise CheckpointError(
            f"The ONNX file disagrees with torch: largest difference {largest:.1e} of the largest value, "
            f"least cosine {cosine:.6f}.",
            "Nothing was written; try another --opset.",
        )
    return Agreement(largest, cosine, tuple(sorted({len(batch) for batch in batches})))


def stamp(model: onnx.ModelProto, producer: str, version: str, facts: Mapping[str, str]) -> None:
    """Set the producer of the model, and `facts`, which onnxruntime returns as `custom_metadata_map`."""
    model.producer_name, model.producer_version = producer, version
    onnx.helper.set_model_props(model, dict(facts))


def _distance(wanted: Sequence[Tensor], found: Sequence[Tensor]) -> tuple[float, float]:
    """Compute the largest relative difference of a batch and the least cosine of a row; NaN propagates."""
    errors, cosines = [], [torch.ones(1)]
    for a, b in zip(wanted, found, strict=True):
        errors.append((a - b).abs().max() / a.abs().max().clamp(min=torch.finfo(torch.float32).tiny))
        cosines.append(F.cosine_similarity(a, b)[a.norm(dim=1) > 0])  # a row of zeros has no direction
    return torch.stack(errors).max().item(), torch.cat(cosines).min().item()


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


def _strip(message: Any) -> None:
    """Remove stack traces, paths and documentation that the exporter adds, at every depth of the message."""
    for field, value in message.ListFields():
        if field.name in {"metadata_props", "doc_string"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            # a repeated field is a sequence of messages
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip(part)
