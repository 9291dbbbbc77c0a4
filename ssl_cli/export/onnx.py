"""ONNX: an encoder as one self-contained file, and the proof that it computes what torch computes."""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_cli.errors import CheckpointError, UsageError

INPUT, OUTPUT = "image", "h"
OPSETS = range(18, 24)  # asked for less, torch writes 18 in silence
LARGEST = 1_800_000_000  # bytes; one protobuf file ends at 2 GB
TOLERANCE = 1e-4  # largest difference, as a share of the largest value
COSINE = 0.9999


@dataclass(frozen=True)
class Agreement:
    """How far two implementations are apart: max|a - b| / max|a|, the least cosine of a row, and the batch sizes."""

    max_error: float
    cosine: float
    batch_sizes: tuple[int, ...]


def convert(encoder: nn.Module, size: int, opset: int) -> onnx.ModelProto:
    """The encoder `(N,3,size,size) -> (N,F)` as an ONNX graph, N free; nothing in it tells of this machine.

    The encoder is moved, in place, to the CPU, to evaluation mode and to contiguous weights.

    Raises:
        UsageError: an opset that torch does not write.
        CheckpointError: the encoder cannot be expressed, or is too large for one file.
    """
    if opset not in OPSETS:
        raise UsageError(f"Opset {opset} cannot be written.", f"Pass --opset {OPSETS[0]} to {OPSETS[-1]}.")
    # channels_last weights would be traced with their strides
    encoder.cpu().eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    example = torch.zeros(2, 3, size, size)  # a batch of one would be taken for a constant
    try:
        with warnings.catch_warnings():  # what the exporter deprecates inside itself is not the user's business
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                encoder,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
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
    if written.get("") != opset:  # where a conversion fails, torch keeps its own opset and goes on
        raise CheckpointError(f"The encoder cannot be written in opset {opset}.", "Try another --opset.")
    if model.ByteSize() > LARGEST:
        raise CheckpointError(f"The encoder has {model.ByteSize() / 1e9:.1f} GB, more than one ONNX file can hold.")
    _strip(model)
    return model


def compare(model: onnx.ModelProto, encoder: nn.Module, batches: Sequence[Tensor]) -> Agreement:
    """Check the graph's form, then run it in onnxruntime on each batch `(N,3,S,S)` beside torch.

    Raises:
        CheckpointError: the graph is malformed, has no free batch, or computes something else.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    try:
        onnx.checker.check_model(model, full_check=True)
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        found = [torch.from_numpy(session.run([OUTPUT], {INPUT: batch.numpy()})[0]) for batch in batches]
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(f"The ONNX file does not run: {type(error).__name__}: {reason}") from error
    with torch.no_grad():
        wanted = [encoder(batch) for batch in batches]
    if any(a.shape != b.shape for a, b in zip(wanted, found, strict=True)):
        raise CheckpointError("The ONNX file gives outputs of another shape than torch.")
    agreement = _agreement(torch.cat(wanted), torch.cat(found), tuple(len(batch) for batch in batches))
    # so written that a value that is not a number fails
    if not (agreement.max_error <= TOLERANCE and agreement.cosine >= COSINE):
        raise CheckpointError(
            f"The ONNX file disagrees with torch: largest difference {agreement.max_error:.1e} of the largest value, "
            f"least cosine {agreement.cosine:.6f}.",
            "Nothing was written; try another --opset.",
        )
    return agreement


def stamp(model: onnx.ModelProto, producer: str, version: str, facts: Mapping[str, str]) -> None:
    """Set who wrote the model, and `facts`, which onnxruntime hands back as `custom_metadata_map`."""
    model.producer_name, model.producer_version = producer, version
    onnx.helper.set_model_props(model, dict(facts))


def weights_sha256(model: onnx.ModelProto) -> str:
    """Digest of the weights in the graph, in order of their names."""
    digest = hashlib.sha256()
    for weight in sorted(model.graph.initializer, key=lambda weight: weight.name):
        digest.update(weight.name.encode())
        digest.update(weight.raw_data)
    return digest.hexdigest()


def _agreement(wanted: Tensor, found: Tensor, batch_sizes: tuple[int, ...]) -> Agreement:
    scale = wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    rows = F.cosine_similarity(wanted, found)[wanted.norm(dim=1) > 0]  # a row of zeros points nowhere
    cosine = rows.min().item() if len(rows) else 1.0
    return Agreement(((wanted - found).abs().max() / scale).item(), min(cosine, 1.0), batch_sizes)


def _strip(message: Any) -> None:
    """Remove, at every depth, what the exporter notes about its sources: stack traces, paths, documentation."""
    for field, value in message.ListFields():
        if field.name in {"metadata_props", "doc_string"}:
            message.ClearField(field.name)
        elif field.message_type is not None:
            # a repeated field is a sequence of messages, any other a message itself
            for part in [value] if hasattr(value, "ListFields") else value:
                _strip(part)
