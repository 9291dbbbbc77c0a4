"""What the run folders below a folder hold: read from their own files within limits, without torch."""

import contextlib
import json
import math
import os
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_cli import disk, status
from ssl_cli.config.toml_file import parse_toml

FOLDERS, DEPTH = 20_000, 4
"""The most folders that are looked into, and how far below the first."""
TAIL = 1 << 18
"""Bytes at the end of metrics.jsonl in which the last step is looked for."""
ACCURACIES = {"knn": "knn", "linear": "linear", "finetune": "classifier", "distill": "classifier"}
"""Results in `eval/NAME.json`, and the field of `Run` that each one is."""


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
        knn: top-1 of the newest kNN evaluation, a fraction; where there is none, of the one at the end of training.
        linear: top-1 of the newest linear probe.
        classifier: top-1 of a fine-tuned or distilled run.
        bytes: of all its files.
        time: when its state was last written, in seconds since 1970.
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
            own = {"checkpoints", "eval", "export"} if run else set[str]()
            waiting += [(Path(path), depth + 1) for path in sorted(inside) if Path(path).name not in own]
    return sorted(found, key=lambda run: (run.time, run.path)), not waiting


def read_run(folder: Path) -> Run | None:
    """Read the run in a folder; None where there is none."""
    about = status.read(folder)
    state = status.state(folder)
    if not about or state is None:
        return None
    settings, last = _settings(folder), _last_step(folder)
    results = {field: top1 for name, field in ACCURACIES.items() if (top1 := _top1(folder, name)) is not None}
    if "knn" not in results and (top1 := _measured_at_the_end(about)) is not None:
        results["knn"] = top1
    chosen = _chosen(folder)
    method, model, data, run = (
        {**_table(settings, name), **chosen.get(name, {})} for name in ("method", "model", "data", "run")
    )
    width = _number(model.get("width"))
    return Run(
        str(folder),
        state,
        str(about["reason"]),
        _text(method.get("name")),
        f"{model['backbone']} x {width:g}" if width is not None and "backbone" in model else None,
        _text(data.get("source", "shapes")) if settings else None,
        _whole(last.get("step")),
        _number(last.get("epoch")),
        _whole(run.get("batch")),
        _number(last.get("loss")),
        bytes=_size(folder),
        time=_number(about["time"]) or 0.0,
        **results,
    )


def age(run: Run, now: float | None = None) -> float:
    """Return the seconds since the state of the run was written."""
    return max(0.0, (time.time() if now is None else now) - run.time)


def _settings(folder: Path) -> Mapping[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return parse_toml(disk.read_bytes(folder / "settings.toml").decode("utf-8", "replace"))
    return {}


def _chosen(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the settings that the plan chose by the images, the machine and the time, by section and key."""
    found: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError, ValueError):
        for key, value in _table(_table(disk.read_json(folder / "plan.json"), "resolved"), "sized").items():
            section, _, name = key.partition(".")
            found.setdefault(section, {})[name] = value
    return found


def _last_step(folder: Path) -> Mapping[str, Any]:
    """Return the last `stepped` event in metrics.jsonl."""
    with contextlib.suppress(OSError, ValueError):
        path = folder / "metrics.jsonl"
        disk.require_file(path)
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - TAIL, 0))
            for line in reversed(file.read(TAIL).splitlines()):
                with contextlib.suppress(ValueError, RecursionError):
                    event = json.loads(line)
                    if isinstance(event, dict) and event.get("event") == "stepped":
                        return event
    return {}


def _top1(folder: Path, name: str) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        return _share(_table(disk.read_json(folder / "eval" / f"{name}.json"), "result").get("top1"))
    return None


def _measured_at_the_end(about: Mapping[str, Any]) -> float | None:
    """Return the kNN accuracy that `status.json` holds, if labels were there to measure it."""
    quality = _table(about, "quality")
    return _share(_table(quality, "trained").get("top1")) if quality.get("measure") == "knn" else None


def _size(folder: Path) -> int:
    """Return the bytes of the run's files, those of runs within it left out."""
    total = 0
    for part in (folder, *(folder / name for name in ("checkpoints", "eval", "export"))):
        with contextlib.suppress(OSError), os.scandir(part) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    total += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    return total


def _table(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = of.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: Any) -> str | None:
    """Return the words for a name, or for several."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else None


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if known and math.isfinite(value) else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63 else None


def _share(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and 0 <= number <= 1 else None
