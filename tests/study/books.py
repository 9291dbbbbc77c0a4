"""Books of studies for tests: arms without a plan of their own, and results that are given."""

from collections.abc import Mapping
from typing import Any

from ssl_cli.study.book import FINISHED, About, Asked, Book, Planned, Result

ABOUT = About(
    equal="time", unit=100.0, images=1000, network="resnet18, width 0.25, 32 pixels", memory=4 * 10**9, bank=600,
    queries=200, device="cpu", seconds=900.0,
)  # fmt: skip


def planned(name: str, method: str = "simclr", batch: int = 64, share: float = 1.0) -> Planned:
    settings = {"run": {"batch": batch}, "data": {}, "model": {}, "method": {"name": method}}
    return Planned(name, method, settings, {"run.batch": batch}, share, {"rate": 100.0, "peak_memory": 1e9})


def book(*arms: Planned, study: str = "rivalry", seeds: int = 3, **asked: Any) -> Book:
    return Book(Asked(study, time=900.0, seeds=seeds, **asked), ABOUT, arms)


def with_results(empty: Book, values: Mapping[str, Mapping[int, float]], **numbers: float) -> Book:
    """The book with a finished run for each value, its kNN top-1."""
    for arm, by_seed in values.items():
        for seed, knn in by_seed.items():
            found = {"knn": knn, "linear": knn + 0.1, "queries": 200.0, "seconds": 60.0, "peak_memory": 1e9, **numbers}
            empty = empty.with_result(Result(arm, seed, FINISHED, numbers=found))
    return empty


TWO = book(planned("moco-v2-b128", "moco-v2", 128), planned("simclr-b64", batch=64))
GROUP = "1 % of the labels"


def later(name: str, command: str, start: str, **model: float) -> Planned:
    settings = {"data": {"labels": "1%"}, "model": model}
    expected = {"labelled": 10.0}
    return Planned(name, command, settings, {"data.labels": "1%"}, 0.5, expected, start=start, group=GROUP)


ROAD = book(
    planned("pretrain", "simclr-v2"),
    later("scratch-1pct", "finetune", "pretrain"),
    later("linear-1pct", "linear-eval", "pretrain"),
    later("layer1-1pct", "finetune", "pretrain"),
    later("half-distilled-1pct", "distill", "layer1-1pct", width=0.125),
    study="simclr-v2",
)
CLEAR = with_results(TWO, {"moco-v2-b128": {0: 0.50, 1: 0.52, 2: 0.51}, "simclr-b64": {0: 0.40, 1: 0.43, 2: 0.41}})
CLOSE = with_results(TWO, {"moco-v2-b128": {0: 0.42, 1: 0.44, 2: 0.40}, "simclr-b64": {0: 0.41, 1: 0.45, 2: 0.385}})
