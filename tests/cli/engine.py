"""Stands in for the engine: takes what the commands pass on, and yields what an engine would."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ssl_cli.config.start import settle_resumed
from ssl_cli.events import Evaluated, Event
from ssl_cli.transfer import start
from tests.ui.events import MEASURED, knn, training

AGAIN = {"images": 0, "groups": 0, "largest": 0, "between_classes": 0, "between_splits": 0, "examples": []}
RESULTS = {
    "linear_eval": Evaluated(name="linear", result={"top1": 0.8, "top5": 0.9, "protocol": "p", "train": 2, "test": 1}),
    "export_run": Evaluated(
        name="export",
        result={
            "path": "e.onnx", "bytes": 1, "opset": 18, "max_error": 0.0, "cosine": 1.0, "batch_sizes": [1],
            "input": "images", "output": "h", "input_kind": "float-nchw", "l2": False,
            "preprocessing": {}, "sha256": "00",
        },
    ),
    "augmentation_sheet": Evaluated(name="sheet", result={"path": "s.png", "images": 8, "views": 6, "rows": []}),
    "export_weights": Evaluated(
        name="export",
        result={
            "path": "e.pth", "bytes": 1, "format": "torchvision", "input": "images", "output": "h", "load": "net = ...",
            "checked": "torchvision's resnet18", "max_error": 0.0,
        },
    ),
    "embed": Evaluated(
        name="embed",
        result={
            "path": "v.npy", "files": ["v.npy"], "images": 1, "width": 2, "feature": "h", "l2": False,
            "dtype": "float32", "data": "photos", "unreadable": 0, "continued_at": 0, "seconds": 1.0, "rate": 1.0,
            "step": 7,
        },
    ),
    "neighbors": Evaluated(
        name="neighbors",
        result={
            "query": "a.png", "in_set": False, "neighbors": [], "images": 1, "data": "photos", "feature": "h",
            "typical": None, "step": 7, "run": "run", "vectors": None, "sheet": None, "seconds": 1.0,
        },
    ),
    "duplicates": Evaluated(
        name="duplicates",
        result={
            "above": 0.98, "pairs": [], "count": 0, "paired": 0, "images": 1, "data": "photos", "feature": "h",
            "typical": None, "step": 7, "run": "run", "vectors": None, "sheet": None, "seconds": 1.0,
        },
    ),
    "make_map": Evaluated(
        name="map",
        result={
            "path": "m.png", "bytes": 1, "by": "pca", "images": 2, "of": 2, "data": "photos", "color": "none",
            "seed": 0, "feature": "h", "legend": [], "thumbnails": 0, "explained": [1.0, 0.0], "step": 7,
            "seconds": 1.0,
        },
    ),
    "bench": MEASURED,
    "check": Evaluated(
        name="check",
        result={
            "data": "photos", "places": ["photos"], "images": 2, "looked_at": 2, "passed_over": [], "splits": [],
            "test": None, "copies": AGAIN, "alike": AGAIN | {"compared": 2}, "classes": None, "groups": None,
            "bad": {"images": 0, "too_many": False, "files": []}, "notes": [], "plan": None, "sheet": None,
        },
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Toy:
    """Images of a pipeline."""

    labelled: int = 1
    classes: int = 2
    test: int = 1


class FakeEngine:
    """Remembers the calls; `answers` may be replaced by a test."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.answers: dict[str, Callable[[], list[Event]]] = {
            "pretrain": training,
            "dry_run": lambda: training()[:1],
            "knn_eval": lambda: [knn()],
            **{name: (lambda event=event: [event]) for name, event in RESULTS.items()},  # type: ignore[misc]
        }

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Put it in the place of the engine's modules."""
        for module, names in {
            "engine.pretrain": ["pretrain"],
            "engine.plan.dry_run": ["dry_run"],
            "protocols.knn": ["knn_eval"],
            "protocols.linear": ["linear_eval"],
            "exports.onnx": ["export_run"],
            "sheet": ["augmentation_sheet"],
            "data_check": ["check"],
            "vectors.embed": ["embed"],
            "vectors.neighbors": ["neighbors", "duplicates"],
            "maps.make": ["make_map"],
            "exports.weights": ["export_weights"],
            "bench.measure": ["bench"],
        }.items():
            fake = ModuleType(f"ssl_cli.{module}")
            for name in names:
                setattr(fake, name, self._call(name))
            monkeypatch.setitem(sys.modules, fake.__name__, fake)
        pipeline = ModuleType("ssl_cli.pipeline")
        vars(pipeline).update(Pipeline=self._pipeline, check=lambda asked: Toy(), clear=lambda folder: None)
        monkeypatch.setitem(sys.modules, pipeline.__name__, pipeline)
        monkeypatch.setattr(start, "settle_start", settle_resumed)  # the runs here are empty files

    def _pipeline(self, folder: Path, asked: Any, *machine: Any) -> Any:
        return SimpleNamespace(folder=folder, asked=asked, events=self._call("pretrain"))

    def _call(self, name: str) -> Callable[..., Any]:
        def events(*args: Any, **kwargs: Any) -> Iterator[Event]:
            self.calls.append((name, args, kwargs))
            yield from self.answers[name]()

        return events
