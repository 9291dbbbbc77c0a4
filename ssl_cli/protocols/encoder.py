"""The encoder that RUN names: of a run, of a checkpoint, or an exported ONNX file with the preprocessing it records."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ssl_cli import disk
from ssl_cli.augment.evaluation import short_side
from ssl_cli.config.tree import Settings
from ssl_cli.engine.evaluation.features import Trained, Transform, open_run
from ssl_cli.errors import CheckpointError
from ssl_cli.formats.onnx import INPUT, LOGITS, OUTPUT, session_of
from ssl_cli.names import shown
from ssl_cli.objective import Batch, Objective
from ssl_cli.protocols.request import is_onnx

FACTS = "sslcli.preprocessing"
LARGEST_FILE = 1 << 31
"""Bytes of an ONNX file: more do not fit one protobuf message."""


class OnnxEncoder(nn.Module):
    """Run an exported encoder in onnxruntime: images to h `(M,F)`.

    A graph for fitted images takes float32 `(M,C,S,S)`. One with the preprocessing inside takes decoded images, uint8
    `(M,C,H,W)` or M of `(C,H_i,W_i)`, and views in [0, 1], which are rounded to 8 bits. The weights are onnxruntime's;
    the one parameter is empty, and says where the rows are: on the CPU.
    """

    def __init__(self, session: Any, *, in_graph: bool) -> None:
        super().__init__()
        self.session, self.in_graph = session, in_graph
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, images: Tensor | Sequence[Tensor]) -> Tensor:
        """Compute h."""
        if not isinstance(images, Tensor):
            return torch.cat([self(image[None]) for image in images])
        if self.in_graph:
            pixels = images if images.dtype == torch.uint8 else images.mul(255).round().to(torch.uint8)
            return self._run(pixels.permute(0, 2, 3, 1))
        return self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        h: np.ndarray = self.session.run(None, {INPUT: images.contiguous().numpy()})[0]
        return torch.from_numpy(h).float()


class _Exported(Objective):
    """An exported encoder as what evaluations take: it represents images, and trains nothing."""

    def __init__(self, backbone: OnnxEncoder) -> None:
        super().__init__()
        self.backbone = backbone


def open_encoder(
    run: str, device: str = "auto", method: str | None = None, *, projector: bool = False
) -> tuple[Trained, Transform | None]:
    """Open what RUN names; also return what is done to an image first, None: the test transform of the settings.

    Arguments and errors as of `open_run`; an ONNX file runs on the CPU, and has no projector.
    """
    return _open_onnx(Path(run)) if is_onnx(run) else (open_run(run, device, method, projector=projector), None)


def _open_onnx(path: Path) -> tuple[Trained, Transform | None]:
    """Open an exported file.

    Raises:
        CheckpointError: it cannot be read or run, or `sslcli export` did not write it as an encoder.
    """
    data, session = _session(path)
    facts = session.get_modelmeta().custom_metadata_map
    try:
        recorded = json.loads(facts[FACTS])
        settings, in_graph = _settings(recorded), bool(recorded["in_graph"])
        step = int(facts.get("sslcli.step", 0))
    except (KeyError, TypeError, ValueError) as error:
        what = f"{shown(str(path))} does not say how images are prepared for it: 'sslcli export' did not write it."
        raise CheckpointError(what, "Export it again: sslcli export RUN -o encoder.onnx.") from error
    outputs = [output.name for output in session.get_outputs()]
    if outputs != [OUTPUT]:
        hint = "Export the encoder: leave out --classifier." if LOGITS in outputs else "Export it again."
        raise CheckpointError(f"{shown(str(path))} gives {shown(', '.join(outputs))}, not h.", hint)
    encoder = OnnxEncoder(session, in_graph=in_graph).eval()
    digest = hashlib.sha256(data).hexdigest()
    trained = Trained(_Exported(encoder), settings, "fp32", step, str(path), sha256=digest)
    return trained, _as_decoded if in_graph else None


def _session(path: Path) -> tuple[bytes, Any]:
    """Return the bytes of an ONNX file and a session that runs them; it reads no further file."""
    try:
        data = disk.read_bytes(path, LARGEST_FILE)
        return data, session_of(data)
    except Exception as error:  # onnxruntime's exceptions share no base of their own
        reason = str(error).strip().partition("\n")[0]
        hint = "Export it again: sslcli export RUN -o encoder.onnx."
        raise CheckpointError(f"{shown(str(path))} cannot be run: {shown(reason, 200)}.", hint) from error


def _settings(recorded: Mapping[str, Any]) -> Settings:
    """Return settings whose test transform is what the file records.

    Raises:
        ValueError: what it records is not what this version does.
        KeyError: something is missing.
    """
    size, mean = int(recorded["size"]), recorded["mean"]
    if recorded["schema"] != 1 or recorded["resize_short_side"] != short_side(size):
        raise ValueError("another version prepares images otherwise")
    normalised = {} if mean is None else {"normalize": {"mean": mean, "std": recorded["std"]}}
    order = ["crop", "flip", "jitter", "gray", "blur", *normalised]
    if recorded["in_graph"]:  # the graph normalises
        normalised, order = {}, [name for name in order if name != "normalize"]
    data = {"size": size, "channels": recorded["channels"], "range": recorded["range"] or "auto"}
    data |= {"depth": recorded.get("depth", 8)}  # files of earlier versions do not say it
    augment = {"order": order, "crop": {"interpolation": recorded["interpolation"]}, **normalised}
    return Settings.model_validate({"method": {"name": "simclr"}, "data": data, "augment": augment})


def _as_decoded(batch: Batch) -> Tensor | Sequence[Tensor]:
    return batch.image
