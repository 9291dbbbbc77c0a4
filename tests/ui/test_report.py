"""The summary at the end: quality, what it is worth, where things are, what to do next."""

import json
from functools import reduce

import pytest

from ssl_cli.events import Evaluated, Event, Warned
from ssl_cli.ui import report
from ssl_cli.ui.screen import Screen, fold
from tests.ui.events import HOSTILE, knn, stopped, training

LINEAR = Evaluated(
    name="linear",
    result={"top1": 0.8, "top5": 0.9, "protocol": "logistic regression", "train": 100, "test": 50, "note": "a split"},
)
EXPORT = Evaluated(
    name="export",
    result={
        "path": "encoder.onnx", "bytes": 2_900_000, "opset": 18, "max_error": 1e-6, "cosine": 1.0,
        "batch_sizes": [1, 2, 5], "input": "images: float32", "output": "h: float32",
    },
)  # fmt: skip
SHEET = Evaluated(name="sheet", result={"path": "sheet.png", "images": 8, "views": 6})


def told(events: list[Event], command: str = "pretrain") -> str:
    screen = reduce(fold, events, Screen())
    return "\n".join(f"{label:<10}{words}" for label, words in report.lines(command, screen))


def document(events: list[Event], command: str = "pretrain") -> dict[str, object]:
    screen = reduce(fold, events, Screen())
    text = json.dumps(report.document(command, screen))
    return dict(json.loads(text))


def test_a_good_run_says_trained_against_untrained_and_what_next() -> None:
    summary = told(training())
    for words in (
        "448 steps in 2 min 58 s", "top-1 81.0 %, top-5 98.0 %", "top-1 17.0 % by the same network untrained",
        "top-1 16.0 % by raw pixels", "k 200, temperature 0.1, on h, 2,048 queries in a bank of 16,384",
        "runs/first/checkpoints/step_00000448.pt", "sslcli linear-eval runs/first", "sslcli export runs/first -o",
    ):  # fmt: skip
        assert words in summary
    assert "verdict" not in summary


@pytest.mark.parametrize(("steps", "few"), [(28, True), (96, True), (100, False)])
def test_too_few_steps_are_called_so(steps: int, few: bool) -> None:
    summary = told(training(steps))
    assert ("too few to learn much" in summary) is few
    assert ("sslcli pretrain --resume --out runs/first --epochs" in summary) is few


def test_a_small_gain_is_called_so() -> None:
    assert "only +2.0 points" in told(training(quality=knn(0.19)))
    assert "only -3.0 points" in told(training(quality=knn(0.14)))
    assert " points " not in told(training(quality=knn(0.19, None)))
    assert document(training(quality=knn(0.19)))["verdict"]


def test_a_stopped_run_says_how_to_go_on() -> None:
    summary = told(stopped())
    assert "stopped, resumable" in summary
    assert "sslcli pretrain --resume --out runs/first" in summary
    assert "linear-eval" not in summary
    error = document(stopped())["error"]
    assert isinstance(error, dict)
    assert error["code"] == 75
    assert "--resume" in error["hint"]


def test_commands_can_be_copied_whatever_the_folder_is_called() -> None:
    assert "--out 'my runs/a b'" in told(stopped()[:1] + training(28, out="my runs/a b"))
    assert told(training(out=HOSTILE)).replace("\n", "").isprintable()


def test_evaluations_exports_and_sheets() -> None:
    assert "top-1 80.0 %" in told([LINEAR], "linear-eval")
    assert "logistic regression" in told([LINEAR], "linear-eval")
    assert "a split" in told([LINEAR], "linear-eval")
    assert "2.9 MB, ONNX opset 18" in told([EXPORT], "export")
    assert "batch sizes 1, 2, 5: largest difference 1.0e-06" in told([EXPORT], "export")
    assert "8 images and 6 views" in told([SHEET], "inspect-augs")
    assert "raw pixels" in told([knn()], "knn-eval")


def test_documents() -> None:
    pretrain = document(training())
    assert pretrain["schema"] == 1
    assert pretrain["command"] == "pretrain"
    assert pretrain["out"] == "runs/first"
    assert isinstance(pretrain["knn"], dict)
    assert "error" not in pretrain
    found = document([Warned(message="odd"), knn()], "knn-eval")
    assert {"top1", "top5", "k", "temperature", "feature", "bank", "queries", "baselines"} <= found.keys()
    assert found["warnings"] == ["odd"]
    assert document([], "knn-eval") == {"schema": 1, "command": "knn-eval", "warnings": []}
