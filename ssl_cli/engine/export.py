"""From a run to an encoder file that is known to work: convert, check on random and real images, then write."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ssl_cli import __version__
from ssl_cli.augment import evaluation
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import read_all
from ssl_cli.data.sources import open_evaluation
from ssl_cli.engine import disk
from ssl_cli.engine.features import Trained, open_run
from ssl_cli.errors import DataError, ResourceError, SslcliError
from ssl_cli.events import Evaluated, Event, Warned
from ssl_cli.export.onnx import INPUT, OUTPUT, Agreement, compare, convert, stamp, weights_sha256

RANDOM_BATCHES = (1, 2, 5)
REAL_IMAGES = 8


def export_run(run: str, output: Path, *, opset: int = 18, method: str | None = None) -> Iterator[Event]:
    """Write the backbone of a run as ONNX, images to h; ends with `Evaluated` named `export`.

    `output` appears only after onnxruntime agreed with torch; one that was there before stays until then.

    Args:
        run: run folder or checkpoint file.
        output: the file to write.
        opset: of ONNX, 18 to 23.
        method: the run's method again, if it is the user's own.

    Raises:
        CheckpointError: no such run, or the file would not do what torch does.
        UsageError: an opset that cannot be written.
        ResourceError: `output` cannot be written.
    """
    trained = open_run(run, "cpu", method)
    settings, encoder = trained.settings, trained.objective.backbone
    model = convert(encoder, settings.data.size, opset)
    batches = [_random(n, settings.data.size) for n in RANDOM_BATCHES]
    try:
        batches.append(_real(settings))
    except SslcliError as error:  # the data may have stayed on another machine
        yield Warned(step=trained.step, message=f"Checked on random images only: {error.message}")
    agreement = compare(model, encoder, batches)
    stamp(model, "sslcli", __version__, _facts(trained, weights_sha256(model), agreement))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"Cannot write {output}: {error.strerror}.", "Choose another -o.") from error
    data = model.SerializeToString(deterministic=True)

    def write(file: BinaryIO) -> None:
        file.write(data)

    digest, size = disk.write_atomic(output, write)
    result = {
        "path": str(output),
        "bytes": size,
        "opset": opset,
        "input": f"{INPUT}: float32 (batch, 3, {settings.data.size}, {settings.data.size})",
        "output": f"{OUTPUT}: float32 (batch, {model.graph.output[0].type.tensor_type.shape.dim[1].dim_value})",
        "max_error": agreement.max_error,
        "cosine": agreement.cosine,
        "batch_sizes": list(agreement.batch_sizes),
        "sha256": digest,
    }
    yield Evaluated(step=trained.step, name="export", result=result)


def _random(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def _real(settings: Settings) -> Tensor:
    """The first images of the run's test data, by the test transform."""
    source = open_evaluation(settings.data, settings.run.seed).queries
    wanted = torch.arange(min(REAL_IMAGES, len(source)))
    parts = [
        evaluation.fit(images, settings.data.size, settings.augment)
        for images, _, _ in read_all(source, wanted, threads=settings.data.threads, cap=2 * settings.data.size)
    ]
    if not parts:
        raise DataError("none of the first test images can be read")
    return torch.cat(parts).contiguous()


def _facts(trained: Trained, digest: str, agreement: Agreement) -> dict[str, str]:
    """What whoever meets the file needs to know: where it is from, and what to feed it."""
    settings = trained.settings
    normalize = settings.augment.normalize if "normalize" in settings.augment.order else None
    preprocessing = {
        "size": settings.data.size,
        "resize_short_side": evaluation.short_side(settings.data.size),
        "then": "the centre, `size` x `size`",
        "interpolation": settings.augment.crop.interpolation,
        "scale": 1 / 255,
        "mean": list(normalize.mean) if normalize else None,
        "std": list(normalize.std) if normalize else None,
        "channels": "RGB",
    }
    verification = {
        "max_error": agreement.max_error,
        "cosine": agreement.cosine,
        "batch_sizes": list(agreement.batch_sizes),
    }
    return {
        "sslcli.method": settings.method.name,
        "sslcli.backbone": f"{settings.model.backbone}, width {settings.model.width:g}",
        "sslcli.image_size": str(settings.data.size),
        "sslcli.step": str(trained.step),
        "sslcli.preprocessing": json.dumps(preprocessing),
        "sslcli.weights_sha256": digest,
        "sslcli.verification": json.dumps(verification),
    }
