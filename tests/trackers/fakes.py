"""Trackers that note what they are given, and those that fail, hang or are slow, in place of the real ones."""

import sys
import threading
from collections.abc import Callable, Generator, Mapping
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tomli_w

from ssl_cli.events import Event, Finished, Planned, Started, Stepped
from ssl_cli.trackers import kinds, track
from ssl_cli.trackers.kinds import TrackedRun


class Fake:
    """Keeps what it is given. `release` lets go what hangs."""

    made: "list[Fake]"
    release: threading.Event

    def __init__(self, run: TrackedRun) -> None:
        self.run, self.id, self.state = run, run.earlier or f"fake of {run.id}", ""
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.made.append(self)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self.logged.append((step, dict(numbers)))

    def close(self, state: str) -> None:
        self.state = state


def install(monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Fake]) -> type[Fake]:
    """Put a fake in place of a tracker, and an empty module in that of its package."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, origin="here")
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(kinds, "KINDS", {**kinds.KINDS, name: kind})
    monkeypatch.setattr(track, "KINDS", kinds.KINDS)
    kind.made, kind.release = [], threading.Event()
    return kind


def stepped(step: int, loss: float = 1.0, **numbers: float) -> Stepped:
    return Stepped(
        step=step, epoch=step / 10, loss=loss, chance=None, lr=0.1, rate=10.0, step_seconds=0.1, data_wait=0.0,
        memory=1, numbers=numbers,
    )  # fmt: skip


def events(steps: int, *more: Event, last: Event | None = None) -> Generator[Event, None, None]:
    yield Planned(choices=())
    yield Started(out="out", steps=steps)
    for step in range(1, steps + 1):
        yield stepped(step)
    yield from more
    yield last or Finished(step=steps, steps=steps, seconds=1.0, peak_memory=1)


def write_settings(folder: Path, *trackers: str) -> None:
    table = {"run": {"batch": 16, "trackers": list(trackers)}, "optim": {"lr": 0.1}}
    (folder / "settings.toml").write_text(tomli_w.dumps(table), encoding="utf-8")


def run(
    folder: Path, found: Generator[Event, None, None], record: Callable[[Event], Any] = lambda event: None
) -> list[Event]:
    return list(track.tracked(found, record, folder, "its id"))
