"""Images without labels: measured by what needs none, with how it moved in training; also of an exported file."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_cli.augment.sheet import png
from ssl_cli.errors import NoLabelsError, OneClassError
from ssl_cli.events import Evaluated, Event
from ssl_cli.protocols.knn import knn_eval
from ssl_cli.protocols.label_free import MEANING, trend
from ssl_cli.records import logged_steps
from ssl_cli.ui import accuracy
from tests.engine.toy_run import toy_settings, write_run
from tests.protocols.test_onnx import FLOAT, UINT8, save

MEASURES = {"consistency", "rankme", "alignment", "uniformity"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with metrics, and images without labels."""
    folder, draw = tmp_path_factory.mktemp("here"), torch.Generator().manual_seed(0)
    write_run(folder / "run", toy_settings())
    lines = [logged(0, 0.5), "no event", logged(10, 0.4), json.dumps({"event": "saved"}), logged(20, 0.2)]
    (folder / "run" / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "photos").mkdir()
    for k in range(12):
        image = torch.randint(256, (3, 16, 20), dtype=torch.uint8, generator=draw)
        (folder / "photos" / f"{k}.png").write_bytes(png(image))
    return folder


def logged(step: int, alignment: float) -> str:
    numbers = {"alignment": alignment, "uniformity": -10 * alignment, "top1": 0.5}
    return json.dumps({"event": "stepped", "step": step, "numbers": numbers})


def result(events: Iterator[Event]) -> Any:
    *_, last = events
    assert isinstance(last, Evaluated)
    assert last.name == "quality"
    return last.result


@pytest.mark.parametrize("feature", ["h", "z"])
def test_images_without_labels_are_measured_without(here: Path, feature: str) -> None:
    found = result(knn_eval(str(here / "run"), str(here / "photos"), feature=feature, device="cpu"))
    assert found["trained"].keys() == found["untrained"].keys() == MEASURES
    assert (found["images"], found["feature"], found["meaning"]) == (12, feature, MEANING)
    assert found["width"] == (32 if feature == "h" else 128)
    assert "it needs images with labels" in found["note"]
    moved = {"first": 0.5, "first_step": 0, "last": 0.2, "last_step": 20}
    assert found["trend"]["alignment"] == moved
    assert found["trend"].keys() == {"alignment", "uniformity"}
    (file,) = (here / "run" / "eval").glob(f"label-free-{feature}-*.json")
    assert json.loads(file.read_text())["result"] == found
    words = "\n".join(f"{label:<11}{text}" for label, text in accuracy.label_free(found))
    assert f"dimensions of {feature}" in words
    assert "training   alignment 0.500 to 0.200 from step 0 to 20, on z" in words
    assert words.count("untrained") >= 3
    assert f"meaning    {MEANING}." in words


def test_images_with_labels_are_measured_so_if_asked(here: Path) -> None:
    found = result(knn_eval(str(here / "run"), without_labels=True, device="cpu"))
    assert (found["images"], found["note"]) == (64, "")


@pytest.mark.parametrize("asked", [{"baselines": True}, {"confusion": Path("c.png")}])
def test_what_needs_labels_is_refused(here: Path, asked: dict[str, Any]) -> None:
    with pytest.raises(NoLabelsError):
        list(knn_eval(str(here / "run"), str(here / "photos"), device="cpu", **asked))


def test_images_of_one_class_are_named_and_measured_without_if_asked(here: Path, tmp_path: Path) -> None:
    (tmp_path / "bird").symlink_to(here / "photos")
    with pytest.raises(OneClassError, match="one class, 'bird'") as caught:
        list(knn_eval(str(here / "run"), str(tmp_path), device="cpu"))
    assert "--without-labels" in (caught.value.hint or "")
    assert result(knn_eval(str(here / "run"), str(tmp_path), without_labels=True, device="cpu"))["images"] == 12


@pytest.mark.parametrize("kind", [FLOAT, UINT8])
def test_an_exported_file_is_measured_without_its_untrained_network(here: Path, tmp_path: Path, kind: str) -> None:
    found = result(knn_eval(str(save(tmp_path / "encoder.onnx", kind)), str(here / "photos")))
    assert found["trained"].keys() == MEASURES
    assert "untrained" not in found
    assert found["trend"] == {}


def test_a_trend_is_of_two_steps_at_least_and_the_last_line_of_a_step_counts(tmp_path: Path) -> None:
    assert trend([]) == {}
    assert trend([json.loads(logged(3, 0.1))]) == {}
    lines = [logged(0, 0.9), logged(5, 0.1), '{"event": "stepped", "step": 1}', "[]", logged(5, 0.3)]
    (tmp_path / "metrics.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff")
    assert trend(logged_steps(tmp_path))["alignment"]["last"] == 0.3
    assert trend([{"step": 1}, {"step": 2, "numbers": 3}, {"step": 3, "numbers": {"alignment": "much"}}]) == {}
