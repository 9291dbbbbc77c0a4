"""What the run folders below a folder hold: read from their own files within limits, without torch."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_cli import disk, status
from ssl_cli.config.toml_file import parse_toml
from ssl_cli.records import json_of, last_events, number, result_of, share, table, whole
from ssl_cli.registry import TRANSFERS
from ssl_cli.trackers.places import FOLDERS as TRACKED

FOLDERS, DEPTH = 20_000, 4
"""The most folders that are looked into, and how far below the first."""
TAIL = 1 << 18
"""Bytes at the end of metrics.jsonl in which the last step is looked for."""
ACCURACIES: Mapping[str, Collection[str]] = {"linear": ("linear",), "classifier": TRANSFERS}
"""Fields of `Run`, and the results in `eval/NAME.json` of which one may be there."""


@dataclass(frozen=True)
class Run:
    """One run; what its files do not say is None.

    Attributes:
        path: of its folder.
        state: one of `status.STATES` or `died`.
        reason: why it stopped, if it did.
        method: its name.
        network: backbone and width.
        data: the images, `shapes` for the embedded set.
        step: optimiser steps taken.
        epoch: passes over the images.
        batch: images per step.
        loss: of the last logged step.
        knn: top-1 of the kNN at the end of training, a fraction; where there is none, of the newest evaluation.
        linear: top-1 of the newest linear probe.
        classifier: top-1 of a fine-tuned or distilled run.
        bytes: of all its files.
        time: when its state was last written, in seconds since 1970.
        knn_k: the neighbours of `knn`.
        linear_labels: what the linear probe was fitted to, as `--labels` asked; None: all labels.
    """

    path: str
    state: str
    reason: str = ""
    method: str | None = None
    network: str | None = None
    data: str | None = None
    step: int | None = None
    epoch: float | None = None
    batch: int | None = None
    loss: float | None = None
    knn: float | None = None
    linear: float | None = None
    classifier: float | None = None
    bytes: int = 0
    time: float = 0.0
    knn_k: int | None = None
    linear_labels: str | None = None


def find_runs(root: Path) -> tuple[list[Run], bool]:
    """Read all runs in and below a folder, the newest last; also return whether every folder was looked into.

    A run may hold other runs, as those of a pipeline do; links to folders are not followed.
    """
    found, waiting, looked = list[Run](), deque([(root, 0)]), 0
    while waiting and looked < FOLDERS:
        folder, depth = waiting.popleft()
        looked += 1
        run = read_run(folder)
        if run is not None:
            found.append(run)
        if depth == DEPTH:
            continue
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            inside = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name[:1] != "."]
            own = {"checkpoints", "eval", "export", *TRACKED} if run else set[str]()
            waiting += [(Path(path), depth + 1) for path in sorted(inside) if Path(path).name not in own]
    return sorted(found, key=lambda run: (run.time, run.path)), not waiting


def read_run(folder: Path) -> Run | None:
    """Read the run in a folder; None where there is none."""
    about = status.read(folder)
    state = status.state(folder)
    if not about or state is None:
        return None
    settings = settings_of(folder)
    newest = list(last_events(folder, TAIL))
    last = next((event for event in newest if event["event"] == "stepped"), dict[str, Any]())
    found = {field: [result_of(folder, name).get("top1") for name in names] for field, names in ACCURACIES.items()}
    results = {field: top1 for field, each in found.items() for top1 in each if top1 is not None}
    labels = result_of(folder, "linear").get("labels") if "linear" in results else None
    results |= knn_of(folder, newest, about)
    method, model, data, run = (table(settings, name) for name in ("method", "model", "data", "run"))
    width = number(model.get("width"))
    return Run(
        str(folder),
        state,
        str(about["reason"]),
        _text(method.get("name")),
        f"{model['backbone']} x {width:g}" if width is not None and "backbone" in model else None,
        _text(data.get("source", "shapes")) if settings else None,
        whole(last.get("step")),
        number(last.get("epoch")),
        whole(run.get("batch")),
        number(last.get("loss")),
        bytes=_size(folder),
        time=number(about["time"]) or 0.0,
        linear_labels=_text(labels),
        **results,
    )


def age(run: Run, now: float | None = None) -> float:
    """Return the seconds since the state of the run was written."""
    return max(0.0, (time.time() if now is None else now) - run.time)


def settings_of(folder: Path) -> dict[str, Any]:
    """Return the settings of a run by section, with what its plan chose for the images, the machine and the time."""
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        found = parse_toml(disk.read_bytes(folder / "settings.toml").decode("utf-8", "replace"))
    tables = {name: dict(value) for name, value in found.items() if isinstance(value, Mapping)}
    for key, value in table(json_of(folder / "plan.json"), "resolved", "sized").items():
        section, _, name = key.partition(".")
        if found and name:
            tables.setdefault(section, {})[name] = value
    return tables


def knn_of(folder: Path, newest: Iterable[Mapping[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return top-1 and k of the kNN of a run; runs are compared by the one at the end of training, if there is one.

    Args:
        folder: of the run.
        newest: its last events, the newest first.
        about: its `status.json`.
    """
    quality = table(about, "quality")
    at_the_end = [table(event, "result") for event in newest if event.get("name") == "knn"]
    measured = [table(quality, "trained")] if quality.get("measure") == "knn" else []
    for result in (*at_the_end, *measured, result_of(folder, "knn")):
        if (top1 := share(result.get("top1"))) is not None:
            return {"knn": top1, "knn_k": whole(result.get("k"))}
    return {}


def _size(folder: Path) -> int:
    """Return the bytes of the run's files, those of runs within it left out."""
    total = 0
    for part in (folder, *(folder / name for name in ("checkpoints", "eval", "export"))):
        with contextlib.suppress(OSError), os.scandir(part) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    return total


def _text(value: Any) -> str | None:
    """Return the words for a name, or for several."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else None
