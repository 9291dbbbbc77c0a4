"""A benchmark of the toy run: small arrays, short samples."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ssl_cli.bench import ceilings, knn, loader, measure, step, timing
from ssl_cli.bench.subject import Subject, assembled
from ssl_cli.config.tree import Settings


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure as shortly as possible: what is found is of no interest."""
    monkeypatch.setattr(ceilings, "ARRAY", {"cpu": 4096})
    monkeypatch.setattr(ceilings, "LARGEST_MATRIX", {"cpu": ceilings.SMALLEST_MATRIX})
    monkeypatch.setattr(measure, "busy_elsewhere", lambda: 0.0)
    monkeypatch.setattr(timing, "SAMPLE", 0.0)
    monkeypatch.setattr(loader, "MOST", 32)
    monkeypatch.setattr(step, "PASS_SECONDS", 0.001)
    monkeypatch.setattr(knn, "QUERIES", 16)


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


@contextmanager
def subject(**sections: dict[str, Any]) -> Iterator[Subject]:
    with assembled(settings(**sections)) as made:
        yield made
