"""A training on CIFAR-10 with nearest neighbours after every epoch, as a stage that resumes where it was stopped.

`python -m tests.gpu_evidence.cifar --out DIR --seconds S [--data FOLDER] section.key=value...`

FOLDER holds train/ and test/ of JPEG files, a folder a class; without one the embedded images stand in. The number of
epochs is what should fit the seconds; the learning rate falls over them as it would over 200.
"""

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_cli import memory
from ssl_cli.config.sources import settle
from ssl_cli.config.tree import Settings
from ssl_cli.data.arrays import Arrays
from ssl_cli.data.loader import read_all
from ssl_cli.data.source import Source
from ssl_cli.data.sources import Evaluation, open_evaluation, open_pretraining
from ssl_cli.engine.build import build_objective, resolve_device
from ssl_cli.engine.evaluation.evaluate import knn_of
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.engine.plan.dry_run import dry_run
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.errors import DONE, STOPPED
from ssl_cli.events import Planned, Saved, Stepped, Stopped
from tests.gpu_evidence.throughput import median_rate

EACH = 1000
"""Images of each class in the bank, and asked, at most."""
USED = 0.75
"""Share of the seconds that epochs should take; saving takes some too, and no plan is exact."""
FEWEST, MOST = 2, 200


def main(words: Sequence[str] | None = None) -> int:
    """Train, measure after each epoch, print; 75 where epochs are left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--data")
    parser.add_argument("settings", nargs="*")
    asked = parser.parse_args(words)
    settings = settle({"data": {"source": asked.data}}, asked.settings).settings
    resume = (asked.out / "settings.toml").is_file()
    data = held(settings)
    if resume:
        epochs = kept_epochs(asked.out)
    else:
        curve_of(asked.out).unlink(missing_ok=True)
        epochs = fitting_epochs(settings, data, curve_of(asked.out), asked.seconds)
    each = len(open_pretraining(settings.data, settings.run.seed)) // settings.run.batch
    run = {"out": str(asked.out), "max_time": asked.seconds, "checkpoint_every": each, "evaluate": False, "fit": ()}
    settings = settings.model_copy(
        update={
            "run": settings.run.model_copy(update={**run, "monitor": False}),
            "schedule": settings.schedule.model_copy(update={"epochs": epochs}),
        }
    )
    found = train(settings, data, each, resume=resume)
    sys.stdout.write(json.dumps(found))
    return DONE if found["epochs"] == epochs else STOPPED


def kept_epochs(out: Path) -> int:
    """Read the epochs of the run that is resumed."""
    return int(tomllib.loads((out / "settings.toml").read_text(encoding="utf-8"))["schedule"]["epochs"])


def fitting_epochs(settings: Settings, data: Evaluation, curve: Path, seconds: float) -> int:
    """Epochs that should fit: by the plan, and by the neighbours of the untrained network, the curve's first point."""
    (planned,) = [event for event in dry_run(settings) if isinstance(event, Planned)]
    untrained = build_objective(settings, resolve_device(settings.hardware.device))
    for _ in range(2):  # the first time builds kernels
        start = time.monotonic()
        top1 = knn_of(untrained, settings, "fp32", data)["top1"]
        neighbours = time.monotonic() - start
    append(curve, {"epoch": 0, "step": 0, "top1": top1, "seconds": neighbours})
    epoch = planned.expected["images"] / planned.expected["rate"] + neighbours
    return min(max(int(USED * seconds / epoch), FEWEST), MOST)


def curve_of(out: Path) -> Path:
    """Name the file with a line for every epoch: next to the run folder, in which only the run writes."""
    return out.with_name(f"{out.name}.knn.jsonl")


def append(curve: Path, line: dict[str, Any]) -> None:
    """Add a point to the curve."""
    curve.parent.mkdir(parents=True, exist_ok=True)
    with curve.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def train(settings: Settings, data: Evaluation, each: int, *, resume: bool) -> dict[str, Any]:
    """Train to the end or to the time, with a point of the curve for every `each` steps."""
    out, device = Path(str(settings.run.out)), resolve_device(settings.hardware.device)
    rates: list[float] = []
    planned: Planned | None = None
    stopped: Stopped | None = None
    for event in pretrain(settings, origins={"run.max_time": "the command line"}, resume=resume, overwrite=False):
        sys.stderr.write(f"{event}\n")
        if isinstance(event, Planned):
            planned = event
        elif isinstance(event, Stopped):
            stopped = event
        elif isinstance(event, Stepped):
            rates.append(event.rate)
        elif isinstance(event, Saved) and event.step % each == 0:
            measure(out, data, event.step // each)
    lines = curve_of(out).read_text(encoding="utf-8").splitlines()
    curve = {line["epoch"]: line for line in map(json.loads, lines)}  # of an epoch taken twice, the last word
    return {
        "method": settings.method.name,
        "data": data.bank.name,
        "batch": settings.run.batch,
        "epochs": max(curve),
        "of_epochs": settings.schedule.epochs,
        "knn": [curve[epoch] for epoch in sorted(curve)],
        "bank": len(data.bank),
        "queries": len(data.queries),
        "images_per_second": median_rate(rates),
        "peak_memory": {
            "planned": planned.expected.get("peak_memory") if planned else None,
            "actual": memory.peak(device),
        },
        "stopped": stopped.reason if stopped else None,
    }


def measure(out: Path, data: Evaluation, epoch: int) -> None:
    """Neighbours by the newest checkpoint, as a line of the curve."""
    start = time.monotonic()
    trained = open_run(str(out))
    result = knn_of(trained.objective, trained.settings, trained.precision, data)
    seconds = time.monotonic() - start
    append(curve_of(out), {"epoch": epoch, "step": trained.step, "top1": result["top1"], "seconds": seconds})


def held(settings: Settings) -> Evaluation:
    """Some images of each class, decoded once where they are of one size."""
    limited = settings.data.model_copy(update={"limit": EACH})
    found = open_evaluation(limited, settings.run.seed)
    return Evaluation(in_memory(found.bank), in_memory(found.queries), found.note)


def in_memory(source: Source) -> Source:
    """The source's images as one tensor, where that is possible."""
    images, labels = [], []
    for part, label, _ in read_all(source):
        images += [part] if isinstance(part, Tensor) else [image[None] for image in part]
        labels.append(label)
    if len({image.shape[1:] for image in images}) > 1:
        return source
    return Arrays(source.name, torch.cat(images), torch.cat(labels), source.classes)


if __name__ == "__main__":
    sys.exit(main())
