"""Representations of whole data sets: a trained encoder read from a run, and its rows for every image."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_cli import checkpoint, status
from ssl_cli.augment import evaluation
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.resume import settings_of
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import read_all
from ssl_cli.data.source import Source
from ssl_cli.engine.build import build_objective, resolve_device
from ssl_cli.errors import CheckpointError, NothingReadError, UsageError
from ssl_cli.events import Skipped
from ssl_cli.names import shown
from ssl_cli.nn.precision import autocast
from ssl_cli.objective import Batch, Objective
from ssl_cli.planning.resolved import calibrations
from ssl_cli.planning.timing import whole_steps

Encoder = Callable[[Tensor], Tensor]
"""Images `(M,C,S,S)` to rows `(M,F)`."""
Transform = Callable[[Batch], Tensor | Sequence[Tensor]]
"""Images as they were read to what an encoder takes: `(M,C,S,S)`, or decoded ones where it fits them itself."""
VIEW = " view"


@dataclass(frozen=True)
class Features:
    """Rows of one data set, on the CPU.

    Attributes:
        h: float32 `(N,F)` by the name of the encoder.
        label: int64 `(N,)`, -1 where there is none.
        index: int64 `(N,)`.
        skipped: number of images that could not be read, and have no row.
    """

    h: Mapping[str, Tensor]
    label: Tensor
    index: Tensor
    skipped: int


@dataclass(frozen=True)
class Trained:
    """An objective with trained weights, the settings, precision and step they were trained with, and their file.

    `steps` is the whole schedule's, 0 if unknown; `notes` are for the user, such as that the run is not finished;
    `sha256` is the file's; `resolved` what its plan had decided.
    """

    objective: Objective
    settings: Settings
    precision: str
    step: int
    checkpoint: str
    notes: tuple[str, ...] = ()
    steps: int = 0
    sha256: str = ""
    resolved: Mapping[str, Any] = field(default_factory=dict)


def open_run(run: str, device: str = "auto", method: str | None = None, *, projector: bool = False) -> Trained:
    """Load the encoder of a run folder's newest undamaged checkpoint, or of a checkpoint file.

    Args:
        run: folder or file.
        device: where to put it; `auto` is the best one here, not the one it was trained on.
        method: the user's own `module:Class`, if the run used one; a checkpoint's name alone is never imported.
        projector: load all weights that `forward` needs, for z; otherwise only the backbone is trained.

    Raises:
        CheckpointError: no checkpoint, a damaged one, or one that does not fit its own settings.
        UsageError: no such device, a method of the user's own that was not given again, or one that is not the run's.
    """
    path, digest = checkpoint.locate(run)
    state = checkpoint.load(path, digest)
    settings = settings_of(state["settings"])
    if ":" in settings.method.name and method != settings.method.name:
        raise UsageError(
            f"This run was trained by '{settings.method.name}', which is not part of sslcli.",
            f"If you trust that code, give it again: --method {settings.method.name}",
        )
    if method not in (None, settings.method.name):
        raise UsageError(
            f"{shown(run)} was trained by '{settings.method.name}', not by '{shown(method)}'.", "Leave --method out."
        )
    where = resolve_device(device)
    objective = build_objective(settings, where)
    part, prefix, name = (objective, "", "objective") if projector else (objective.backbone, "backbone.", "backbone")
    weights = {key.removeprefix(prefix): value for key, value in state["objective"].items() if key.startswith(prefix)}
    if projector:  # without what only training needs, such as a memory bank
        weights = {key: weights[key] for key in part.state_dict() if key in weights}
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"The {name} in {path} does not fit its settings.", str(error)) from error
    resolved = state["resolved"]
    # a precision that was measured to be fast on one device says nothing about another
    same = str(resolved.get("device")).partition(":")[0] == where.type
    precision = "bf16" if same and resolved.get("precision") == "bf16" else "fp32"
    step = int(state["step"])
    images = resolved.get("images")
    steps = whole_steps(settings, images, calibrations(resolved)) if isinstance(images, int) else 0
    return Trained(
        objective, settings, precision, step, str(path), tuple(_notes(run, path, step)), steps, digest, resolved
    )


def _notes(run: str, path: Path, step: int) -> Iterator[str]:
    """State that a run folder's newest checkpoint is damaged, or that the run has not finished."""
    if not Path(run).is_dir():
        return
    for newer in checkpoint.newer_than(path):
        yield f"{newer.name} is damaged; {path.name} is used in its place."
    state = status.state(Path(run))
    if state not in {None, "finished"}:
        yield f"The run has not finished ({state}): this is its step {step:,}."


def fitted(settings: Settings) -> Transform:
    """Return the test transform."""
    return lambda batch: evaluation.fit(batch.image, settings.data.size, settings.views)


def augmented(pipeline: Pipeline, epoch: int = 0, view: int = 0) -> Transform:
    """Return the random view number `view` of each image in an epoch, a function of the pipeline's seed and these."""
    return lambda batch: pipeline.apply(batch.image, pipeline.draw(replace(batch, epoch=epoch), view))


@torch.no_grad()
def encode(
    encoders: Mapping[str, Encoder],
    source: Source,
    settings: Settings,
    *,
    device: torch.device,
    precision: str = "fp32",
    micro: int = 256,
    transforms: Mapping[str, Transform] | None = None,
    indices: Tensor | None = None,
) -> Features:
    """Encode every readable image of `source` with each of `encoders`, reading the data once.

    Modules among them must be in evaluation mode (`evaluating`).

    Args:
        encoders: by name; each maps images `(M,C,S,S)`, channels_last on `device`, to `(M,F)`.
        source: the images.
        settings: `data.size` and `augment` of the test transform.
        device: where to compute.
        precision: `bf16` or `fp32`, of matrix products.
        micro: images per forward pass; fewer where as many, as they are read, would take much memory.
        transforms: what is done to an image first; its name is appended to the encoder's. None: the test transform,
            under the name "".
        indices: the images to encode, in this order, int64 `(M,)`; None: all.

    Raises:
        NothingReadError: nothing could be read.
    """
    context = autocast(device, precision)
    transforms = {"": fitted(settings)} if transforms is None else transforms
    rows: dict[str, list[Tensor]] = {}
    labels, read, skipped = [], [], list[Skipped]()
    size, micro = settings.data.size, min(micro, evaluation.images_at_once(settings.data.size, settings.data.channels))
    cap = evaluation.largest_side(size)
    parts = read_all(source, indices, threads=settings.data.threads, cap=cap, batch=micro, skipped=skipped)
    for images, label, index in parts:
        for start in range(0, len(label), micro):
            chunk = slice(start, start + micro)
            batch = Batch(images[chunk], label[chunk], index[chunk])
            for suffix, transform in transforms.items():
                x = transform(batch)
                if isinstance(x, Tensor):
                    x = x.to(device).contiguous(memory_format=torch.channels_last)
                for name, encoder in encoders.items():
                    with context():
                        h = encoder(x)  # type: ignore[arg-type]
                    rows.setdefault(name + suffix, []).append(h.float().cpu())
        labels.append(label)
        read.append(index)
    if not labels:
        raise NothingReadError(f"None of the images of {source.name} can be read.")
    joined = {name: torch.cat(parts) for name, parts in rows.items()}
    return Features(joined, torch.cat(labels), torch.cat(read), len(skipped))
