"""Export of a run as ONNX: convert, check against torch on random and real images, then write."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_cli import __version__, disk
from ssl_cli.augment import evaluation
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import read_all
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.evaluation.evaluate import conclude
from ssl_cli.engine.evaluation.features import Trained, open_run
from ssl_cli.errors import DataError, ResourceError, SslcliError
from ssl_cli.events import Event, Warned
from ssl_cli.formats.batches import random_batches
from ssl_cli.formats.description import as_text, describe_input, describe_preprocessing, rounded
from ssl_cli.formats.onnx import INPUT, LOGITS, OUTPUT, compare, convert, stamp
from ssl_cli.formats.preprocessing import Preprocessing, prepend
from ssl_cli.formats.request import FLOAT, UINT8, check
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.transfer.finetune import plain_network

REAL_IMAGES = 8
LARGEST_SIDE = 2048  # pixels of a real image's short side, which bounds the time of the check


class _Encoder(nn.Module):
    """The exported module: fitted images `(N,C,S,S)` to h `(N,F)`, with `l2` to h of length one."""

    def __init__(self, backbone: nn.Module, l2: bool) -> None:
        super().__init__()
        self.backbone, self.l2 = backbone, l2

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.backbone(x)
        return F.normalize(h) if self.l2 else h


def export_run(
    run: str, output: Path, *, opset: int = 18, input_kind: str = FLOAT, l2: bool = False, classifier: bool = False,
    method: str | None = None,
) -> Iterator[Event]:  # fmt: skip
    """Write a run as ONNX, images to h, or to logits; the last event is `Evaluated` named `export`.

    `output` is replaced only after onnxruntime agreed with torch. The result is written to the run folder's `export/`,
    too, under the file's name.

    Args:
        run: run folder or checkpoint file.
        output: the file to write, `.onnx`.
        opset: of ONNX, 18 to 23.
        input_kind: `float-nchw`, images by the test transform; or `uint8-nhwc`, images of any size as decoded, with
            the transform in the graph.
        l2: divide rows by their length.
        classifier: write a fine-tuned or distilled run whole, images to logits, with the names of the classes.
        method: the run's method again, if it is the user's own.

    Raises:
        CheckpointError: no such run, or onnxruntime computes something else than torch.
        UsageError: an opset, an input or a file name that cannot be written.
        ResourceError: `output` cannot be written.
    """
    check(output, opset, input_kind)
    trained = open_run(run, "cpu", method, projector=classifier)
    settings, what, name = (
        trained.settings,
        LOGITS if classifier else OUTPUT,
        "fitted" if input_kind == UINT8 else INPUT,
    )
    whole = plain_network(trained.objective, run) if classifier else trained.objective.backbone
    digest, encoder = fingerprint(whole), whole if classifier else _Encoder(whole, l2)
    model = convert(encoder, settings.data.size, opset, name, settings.data.channels, what)
    preprocessing = _preprocessing(settings)
    if input_kind == UINT8:
        prepend(model, preprocessing)
    verification, note = _verify(model, encoder, settings, input_kind)
    yield from [Warned(step=trained.step, message=note)] if note else []
    form = {
        "opset": opset,
        "input_kind": input_kind,
        "l2": l2,
        **({"classes": list(settings.data.classes)} if classifier else {}),
        "h_width": model.graph.output[0].type.tensor_type.shape.dim[1].dim_value,
        "preprocessing": describe_preprocessing(preprocessing, in_graph=input_kind == UINT8),
    }
    facts = {**origin(trained), "weights_sha256": digest, **form, "verification": rounded(verification)}
    stamp(model, "sslcli", __version__, {f"sslcli.{key}": as_text(value) for key, value in facts.items()})
    sha256, size = write_file(output, model.SerializeToString(deterministic=True))
    words = {
        "input": f"{INPUT}: {describe_input(preprocessing, input_kind)}",
        "output": f"{what}: float32 (batch, {form['h_width']}){', rows of length one' if l2 else ''}",
    }
    result = {"path": str(output), "bytes": size, **words, **form, **verification, "sha256": sha256}
    yield from conclude(run, trained, "export", result, Path(run) / "export" / f"{output.stem}.json")


def write_file(output: Path, data: bytes) -> tuple[str, int]:
    """Write the file atomically; return its sha256 and size."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"Cannot write {output}: {error.strerror}.", "Choose another -o.") from error
    return disk.write_bytes(output, data)


def _preprocessing(settings: Settings) -> Preprocessing:
    """Return the parameters of `evaluation.fit`, the test transform."""
    normalize = settings.augment.normalize if "normalize" in settings.views.order else None
    size, interpolation = settings.data.size, settings.augment.crop.interpolation
    mean, std = (normalize.mean, normalize.std) if normalize else (None, None)
    short, data = evaluation.short_side(size), settings.data
    return Preprocessing(size, short, interpolation, mean, std, data.channels, data.range)


def _reference(encoder: nn.Module, settings: Settings, input_kind: str) -> Callable[[Tensor], Tensor]:
    """Return the function that the graph is compared with."""

    def represent(x: Tensor) -> Tensor:
        h: Tensor = encoder(evaluation.fit(x.permute(0, 3, 1, 2), settings.data.size, settings.views))
        return h

    return represent if input_kind == UINT8 else encoder


def _verify(
    model: onnx.ModelProto, encoder: nn.Module, settings: Settings, input_kind: str
) -> tuple[dict[str, Any], str]:
    """Compare the graph with torch on random and the first real images; return how they agree, and what was left out.

    Raises:
        CheckpointError: the graph computes something else.
    """
    real, note = list[Tensor](), ""
    try:
        real = _real(settings, input_kind)
    except SslcliError as error:  # such as images that are on another machine
        note = f"Checked on random images only: {error.message}"
    batches = [*random_batches(settings.data.size, settings.data.channels, input_kind), *real]
    agreement = compare(model, _reference(encoder, settings, input_kind), batches)
    return {**asdict(agreement), "real_images": sum(len(batch) for batch in real)}, note


def _real(settings: Settings, input_kind: str) -> list[Tensor]:
    """Read the first images of the run's data, as the graph takes them: one batch for each shape.

    Raises:
        DataError: there is none that can be read.
    """
    source = open_pretraining(settings.data, settings.run.seed)
    wanted = torch.arange(min(REAL_IMAGES, len(source)))
    cap = LARGEST_SIDE if input_kind == UINT8 else 2 * settings.data.size
    parts = read_all(source, wanted, threads=settings.data.threads, cap=cap)
    images = [image for part, _, _ in parts for image in part]
    if not images:
        raise DataError("none of the first images can be read")
    if input_kind == FLOAT:
        return [evaluation.fit(images, settings.data.size, settings.views).contiguous()]
    shapes = sorted({tuple(image.shape) for image in images})
    return [
        torch.stack([image.permute(1, 2, 0) for image in images if tuple(image.shape) == shape]).contiguous()
        for shape in shapes
    ]


def origin(trained: Trained) -> dict[str, Any]:
    """Describe where the weights come from; a user's own method by its class alone, without the path of its file."""
    settings = trained.settings
    return {
        "version": __version__,
        "method": settings.method.name.rpartition(":")[2],
        "backbone": settings.model.title,
        "image_size": settings.data.size,
        "step": trained.step,
    }
