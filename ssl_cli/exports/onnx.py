"""Export of a run as ONNX: convert, check against torch on random and real images, then write."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_cli import __version__
from ssl_cli.augment import evaluation
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import read_all
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.evaluation.features import Trained, open_run
from ssl_cli.errors import DataError, SslcliError, UsageError
from ssl_cli.events import Event, Warned
from ssl_cli.exports.measure import knn_of_both
from ssl_cli.exports.record import finish, origin, preprocessing_of
from ssl_cli.exports.usage import onnx_usage
from ssl_cli.formats.batches import random_batches
from ssl_cli.formats.description import as_text, describe_input, describe_preprocessing, rounded
from ssl_cli.formats.onnx import INPUT, LOGITS, OUTPUT, compare, convert, stamp
from ssl_cli.formats.preprocessing import prepend
from ssl_cli.formats.request import FLOAT, FLOAT32, OPSET, UINT8, check
from ssl_cli.formats.rounding import rounded_weights
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
    run: str, output: Path, *, opset: int = OPSET, input_kind: str = FLOAT, l2: bool = False, classifier: bool = False,
    dynamic_size: bool = False, dtype: str = FLOAT32, method: str | None = None,
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
        dynamic_size: take fitted images of any size.
        dtype: type of the weights, `float32`, or rounded `float16` or `int8`: then the result says what that costs,
            in kNN accuracy where labels are known.
        method: the run's method again, if it is the user's own.

    Raises:
        CheckpointError: no such run, or onnxruntime computes something else than torch.
        UsageError: an opset, an input or a file name that cannot be written.
        ResourceError: `output` cannot be written.
    """
    check(output, opset, input_kind)
    trained = open_run(run, "cpu", method, projector=classifier)
    in_graph = input_kind == UINT8
    settings, depth_note = _of_eight_bits(trained.settings) if in_graph else (trained.settings, "")
    what, name = LOGITS if classifier else OUTPUT, "fitted" if in_graph else INPUT
    whole = plain_network(trained.objective, run) if classifier else trained.objective.backbone
    digest, encoder = fingerprint(whole), whole if classifier else _Encoder(whole, l2)
    model = _converted(encoder, settings, opset, name, what, dynamic_size=dynamic_size)
    model, cost, *notes = _rounded(trained, model, dtype, classifier=classifier)
    preprocessing = preprocessing_of(settings)
    if in_graph:
        prepend(model, preprocessing)
    verification, note = _verify(model, encoder, settings, input_kind, dynamic_size=dynamic_size, dtype=dtype)
    yield from (Warned(step=trained.step, message=words) for words in (*notes, note, depth_note) if words)
    transform = describe_preprocessing(preprocessing, in_graph=in_graph)
    form = {
        "opset": opset, "input_kind": input_kind, "l2": l2, "numbers": dtype, "dynamic_size": dynamic_size,
        **({"classes": list(settings.data.classes)} if classifier else {}),
        "h_width": model.graph.output[0].type.tensor_type.shape.dim[1].dim_value,
        "preprocessing": transform,
    }  # fmt: skip
    facts = {**origin(trained), "weights_sha256": digest, **form, "verification": rounded(verification)}
    stamp(model, "sslcli", __version__, {f"sslcli.{key}": as_text(value) for key, value in facts.items()})
    words = {
        "input": f"{INPUT}: {describe_input(preprocessing, input_kind, dynamic_size=dynamic_size)}",
        "output": f"{what}: float32 (batch, {form['h_width']}){', rows of length one' if l2 else ''}",
        "checked": f"onnxruntime against torch: {verification['max_error']:.1e} of the largest value apart",
    }
    yield from finish(
        run, trained, output, model.SerializeToString(deterministic=True), {**words, **form, **verification, **cost},
        usage=onnx_usage(output.name, preprocessing, what, in_graph=in_graph), preprocessing=transform,
        record=f"{output.stem}.json",
    )  # fmt: skip


def _of_eight_bits(settings: Settings) -> tuple[Settings, str]:
    """Return the settings by which images are read for a graph that takes 8 bits, and what that leaves out."""
    note = "The graph takes images of 8 bits, and the run read 16: --input float-nchw takes what is finer, too."
    data = settings.data.model_copy(update={"depth": 8})
    return settings.model_copy(update={"data": data}), note if settings.data.bits == 16 else ""


def _rounded(
    trained: Trained, model: onnx.ModelProto, dtype: str, *, classifier: bool
) -> tuple[onnx.ModelProto, dict[str, Any], str]:
    """Round the weights if that is asked for; return what it saves and costs, too, and a note."""
    if dtype == FLOAT32:
        return model, {}, ""
    cost: dict[str, Any] = {"float32_bytes": len(model.SerializeToString())}
    model, note = rounded_weights(model, dtype), ""
    if not classifier:
        cost["knn"], note = knn_of_both(trained, model, dtype)
    return model, cost, note


def _converted(
    encoder: nn.Module, settings: Settings, opset: int, name: str, output: str, *, dynamic_size: bool
) -> onnx.ModelProto:
    """Convert the encoder to a graph.

    Raises:
        CheckpointError: it cannot be expressed.
        UsageError: it takes no images of another size.
    """
    size, channels = settings.data.size, settings.data.channels
    if not dynamic_size:
        return convert(encoder, size, opset, name, channels, output)
    try:
        with torch.no_grad():
            encoder.eval()(torch.zeros(1, channels, size + 7, 2 * size))
    except Exception as error:  # a network raises whatever it happens to compare
        hint = "Leave --dynamic-size out; --input uint8-nhwc takes images of any size."
        raise UsageError(f"{settings.model.title} takes images of {size} pixels alone.", hint) from error
    return convert(encoder, size, opset, name, channels, output, True)


def _reference(encoder: nn.Module, settings: Settings, input_kind: str) -> Callable[[Tensor], Tensor]:
    """Return the function that the graph is compared with."""

    def represent(x: Tensor) -> Tensor:
        h: Tensor = encoder(evaluation.fit(x.permute(0, 3, 1, 2), settings.data.size, settings.views))
        return h

    return represent if input_kind == UINT8 else encoder


def _verify(
    model: onnx.ModelProto, encoder: nn.Module, settings: Settings, input_kind: str, *, dynamic_size: bool, dtype: str
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
    size, channels = settings.data.size, settings.data.channels
    batches = [*random_batches(size, channels, input_kind, dynamic_size=dynamic_size), *real]
    agreement = compare(model, _reference(encoder, settings, input_kind), batches, dtype)
    sides = (max(batch.shape[1:3] if input_kind == UINT8 else batch.shape[2:]) for batch in batches)
    return {**asdict(agreement), "real_images": sum(map(len, real)), "largest_side": max(sides)}, note


def _real(settings: Settings, input_kind: str) -> list[Tensor]:
    """Read the first images of the run's data, as the graph takes them: one batch for each shape.

    Raises:
        DataError: there is none that can be read.
    """
    source = open_pretraining(settings.data, settings.run.seed)
    wanted = torch.arange(min(REAL_IMAGES, len(source)))
    cap = LARGEST_SIDE if input_kind == UINT8 else evaluation.largest_side(settings.data.size)
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
