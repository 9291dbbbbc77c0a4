"""The settings that a run hands on to one that starts from it: network, images, normalisation, head."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ssl_cli.config.labels import parse_labels
from ssl_cli.config.methods import FineTuneSettings
from ssl_cli.config.sources import Settled, Source, settle
from ssl_cli.config.tree import SELECTIVE, SHAPING, Settings
from ssl_cli.errors import UsageError
from ssl_cli.names import counted
from ssl_cli.registry import TRANSFERS, is_library_backbone

DEFAULTS = {"schedule.epochs", "run.seed", "data.labels", "method.from_layer"}
"""What files of settings and the environment may change."""
HEAD = ("head_layers", "head_hidden", "head_dim", "head_batchnorm")
FEW_LABELS_EPOCHS = 60
"""Epochs for fewer than a tenth of the labels; the recipes have those for more. arXiv 2006.10029, section 3."""
LAYERS_FOR_MIDDLE = 3
"""Layers of a head from which on fine-tuning with few labels keeps its first one (arXiv 2006.10029, section 2)."""


class OfRun(Source):
    """Settings of the run that training starts from."""

    remedy = "Leave {origin} out, or choose another run."

    def __init__(self, values: Mapping[str, Any], run: str = "") -> None:
        super().__init__(Settings)
        self.values = dict(values)
        self.origins = dict.fromkeys(self.values, f"the run {run}")


def sources_of(values: Mapping[str, Any], run: str = "") -> list[Source]:
    """Return two sources of what a run gives: network, head and images, which no file of settings changes; the rest."""
    rest = {key: value for key, value in values.items() if key in DEFAULTS}
    return [OfRun({key: value for key, value in values.items() if key not in rest}, run), OfRun(rest, run)]


@dataclass(frozen=True)
class Request:
    """What a command line asks for.

    Attributes:
        name: `finetune` or `distill`.
        run: to start from; None where a run is resumed.
        flags: nested tables of settings; None counts as not given.
        sets: of each --set.
        config: file of --config.
        flag_names: for a dotted key, the flag to name as its origin.
        env: the environment.
        cwd: where `sslcli.toml` is looked for; None: here.
    """

    name: str
    run: str | None
    flags: Mapping[str, Mapping[str, Any]]
    sets: Sequence[str] = ()
    config: Path | None = None
    flag_names: Mapping[str, str] | None = None
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cwd: Path | None = None


def settle_resumed(request: Request) -> Settled:
    """Return settings without reading the run to start from: those of a resumed run are in its own folder."""
    return settle_from(request, {})


def settle_from(request: Request, values: Mapping[str, Any]) -> Settled:
    """Return the settings that a command line and files give on top of `values` of the run to start from."""
    flags = {section: dict(table) for section, table in request.flags.items()}
    labels = flags.get("data", {}).get("labels")
    if labels is not None and (file := parse_labels(labels).file):
        flags["data"]["labels"] = str(file.absolute())
    flags.setdefault("method", {})["name"] = request.name
    names = {**(request.flag_names or {}), "method.run": "RUN"}
    if request.run is not None:
        flags["method"]["run"] = str(Path(request.run).absolute())
    start = sources_of(values, request.run or "")
    return settle(flags, request.sets, request.config, env=request.env, cwd=request.cwd, flag_names=names, start=start)


def require_network(settings: Settings, before: Settings, run: str) -> None:
    """Refuse another network or head than those of the run, whose weights would not fit.

    Raises:
        UsageError: one was asked for.
    """
    for section, names in (("model", ("backbone", *SHAPING)), ("method", HEAD), ("data", ("channels",))):
        old, new = getattr(before, section), getattr(settings, section)
        for name in names:
            if getattr(old, name) != getattr(new, name):
                what = f"{section}.{name} is {getattr(old, name)} in {run}, whose weights fit no other network."
                raise UsageError(what, f"Leave {section}.{name} out.")


def hidden_layers(settings: Settings) -> int:
    """Return the layers of a run's head that end in a ReLU, from which fine-tuning can start."""
    method = settings.method
    if isinstance(method, FineTuneSettings):
        return method.from_layer
    return 0 if method.name in TRANSFERS or ":" in method.name else max(method.head_layers - 1, 0)


def require_layer(layer: int, settings: Settings, run: str) -> None:
    """Refuse a layer that the head of a run does not have.

    Raises:
        UsageError: it has fewer.
    """
    hidden = hidden_layers(settings)
    if layer > hidden:
        have = counted(hidden, "hidden layer")
        what = f"The head of {run} has {have}, so fine-tuning cannot start from layer {layer}."
        raise UsageError(what, f"Pass --from-layer 0{f' to {hidden}' if hidden else ''}; 0 is h, without the head.")


def for_finetuning(settings: Settings, labels: str) -> dict[str, Any]:
    """Return what a run gives to one that is fine-tuned from it with these labels, by dotted key.

    Raises:
        UsageError: `labels` cannot be read.
    """
    few = parse_labels(labels)
    middle = hidden_layers(settings) >= LAYERS_FOR_MIDDLE - 1 and few.share != 1
    head = {f"method.{name}": value for name in HEAD if (value := getattr(settings.method, name)) is not None}
    epochs = {"schedule.epochs": FEW_LABELS_EPOCHS} if few.few else {}
    head |= {"method.pretrained": getattr(settings.method, "pretrained", settings.method.name)}
    return {**_images(settings), **_model(settings), **head, **epochs, "method.from_layer": int(middle)}


def for_distilling(settings: Settings, run: str, student: str | None) -> dict[str, Any]:
    """Return what a teacher gives to its student, by dotted key; its own network where none is named.

    Raises:
        UsageError: it was never fine-tuned.
    """
    if settings.method.name not in TRANSFERS:
        what = f"{run} is a run of {settings.method.name}: a teacher needs classes, and it was never fine-tuned."
        raise UsageError(what, f"First: sslcli finetune {run} --labels 10%, and give the run that it writes.")
    return {**_images(settings), **_model(settings, student)}


def _images(settings: Settings) -> dict[str, Any]:
    data, augment = settings.data, settings.augment
    order = ["crop", "flip", *(["normalize"] if "normalize" in settings.views.order else [])]
    values = {
        f"data.{name}": getattr(data, name) for name in ("source", "test", "folder", "images", "limit", "group_by")
    }
    name, _, split = data.places[0].partition(":") if len(data.places) == 1 else ("", "", "")
    if split in {"unlabeled", "all"} and not Path(data.places[0]).exists():
        values["data.source"] = name
    values |= {f"data.{name}": getattr(data, name) for name in ("size", "channels", "range", "depth")}
    values |= {"run.seed": settings.run.seed}
    values |= {"augment.order": order, "augment.flip.p": augment.flip.p}
    values |= {"augment.crop.interpolation": augment.crop.interpolation}
    values |= {"augment.normalize.mean": augment.normalize.mean, "augment.normalize.std": augment.normalize.std}
    return {key: value for key, value in values.items() if value is not None}


def _model(settings: Settings, student: str | None = None) -> dict[str, Any]:
    """Return the network's settings; of another student's only those that it can have."""
    model = settings.model
    backbone = student or model.backbone
    shape = {name: getattr(model, name) for name in SHAPING}
    if is_library_backbone(backbone):
        shape = {}
    elif backbone not in SELECTIVE:
        shape["sk"] = False
    return {"model.backbone": backbone, **{f"model.{name}": value for name, value in shape.items()}}
