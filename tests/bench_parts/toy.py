"""A run too small to learn anything, and a clock that moves only when a call says so."""

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from ssl_cli.bench import machine, parts
from ssl_cli.bench.run import Run
from ssl_cli.config.tree import Settings


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure as shortly as possible: two rounds of one call each, small arrays."""
    monkeypatch.setattr(machine, "ARRAY", {"cpu": 4096})
    monkeypatch.setattr(machine, "SIDE", {"cpu": 64})
    monkeypatch.setattr(machine, "SAMPLE", 0.0)
    monkeypatch.setattr(machine, "ROUNDS", 2)
    monkeypatch.setattr(parts, "QUERIES", 16)
    monkeypatch.setattr("psutil.cpu_percent", lambda seconds: 0.0)


def settings(**sections: dict[str, Any]) -> Settings:
    base: dict[str, dict[str, Any]] = {
        "method": {"name": "simclr"},
        "model": {"backbone": "resnet18", "width": 0.0625},
        "data": {"images": 64, "size": 16, "threads": 1},
        "optim": {"name": "sgd", "lr": 0.1},
        "schedule": {"epochs": 4},
        "run": {"batch": 8},
        "hardware": {"device": "cpu", "precision": "fp32", "memory_format": "channels_last"},
    }
    for name, values in sections.items():
        base[name] = {**base.get(name, {}), **values}
    return Settings.model_validate(base)


def run(**sections: dict[str, Any]) -> Run:
    """A run without a deadline."""
    return Run(settings(**sections), math.inf)


class Clock:
    """Time that passes only when a call says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.calls = 100.0, 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def takes(self, seconds: float) -> Callable[[], None]:
        """A call of so many seconds."""

        def call() -> None:
            self.now += seconds
            self.calls += 1

        return call
