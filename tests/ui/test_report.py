"""The summary at the end: quality, what it is worth, where things are, what to do next."""

import json
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest

from ssl_cli.events import Evaluated, Event, Finished, Planned, Started, Warned
from ssl_cli.ui import report
from ssl_cli.ui.screen import Screen, fold
from tests.ui.events import CHOICES, EXPECTED, HOSTILE, knn, stepped, stopped, training

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


def written(events: list[Event], command: str = "pretrain") -> str:
    screen = reduce(fold, events, Screen())
    return "\n".join(f"{label:<10}{words}" for label, words in report.lines(command, screen))


def document(events: list[Event], command: str = "pretrain") -> dict[str, object]:
    screen = reduce(fold, events, Screen())
    text = json.dumps(report.document(command, screen))
    return dict(json.loads(text))


def test_a_good_run_says_trained_against_untrained_and_what_next() -> None:
    summary = written(training())
    for words in (
        "top-1 81.0 % ± 0.9, top-5 98.0 %", "top-1 17.0 % by the same network untrained",
        "top-1 16.0 % by raw pixels", "k 200, temperature 0.1, on h, 2,048 queries in a bank of 16,384",
        "runs/first/checkpoints/step_00000448.pt", "sslcli linear-eval runs/first", "sslcli export runs/first -o",
    ):  # fmt: skip
        assert words in summary
    assert "verdict" not in summary


@pytest.mark.parametrize("started", [True, False])
def test_a_run_that_started_from_weights_is_compared_with_these(started: bool) -> None:
    score = Evaluated(name="knn", result={**knn().result, "started": started})
    assert ("by the network as it started" in written([score], "knn-eval")) == started
    label_free = Evaluated(
        name="quality",
        result={
            "measure": "consistency", "images": 9, "width": 4, "started": started,
            "trained": {"consistency": 0.5, "rankme": 2.0}, "untrained": {"consistency": 0.4, "rankme": 1.0},
        },
    )  # fmt: skip
    words = written([*training()[:2], label_free])
    assert ("by the network as it started" in words and "as it started 1.0" in words) == started


def test_quality_comes_first_then_the_facts_then_what_next() -> None:
    labels = [line.split()[0] for line in written(training()).splitlines()]
    order = [labels.index(label) for label in ("kNN", "loss", "planned", "time", "encoder", "next")]
    assert order == sorted(order)
    assert order[0] == 0


def test_the_plan_against_the_fact() -> None:
    rows = written(training()).splitlines()
    first = next(number for number, row in enumerate(rows) if "planned" in row)
    assert rows[first : first + 6] == [
        "             planned       actual",
        "time      2 min 50 s   2 min 58 s    +4.7 %",
        "memory        1.0 GB       1.1 GB   +10.0 %",
        "images/s         850          812    -4.5 %",
        "checkpoint    5.8 MB       5.9 MB    +1.7 %",
        "steps            448          448",
    ]
    found = document(training())["plan_against_fact"]
    assert isinstance(found, dict)
    assert list(found) == ["seconds", "peak_memory", "rate", "checkpoint", "steps"]
    assert found["seconds"] == {"expected": 170.0, "actual": 178.0}


def test_only_what_is_known_is_compared() -> None:
    run = training()
    without_plan = [Planned(choices=CHOICES), *run[1:]]
    assert "planned" not in written(without_plan)
    assert "448 steps in 2 min 58 s, peak memory 1.1 GB" in written(without_plan)
    assert document(without_plan)["plan_against_fact"] == {}
    partly = [Planned(choices=CHOICES, expected={"seconds": 170.0, "checkpoint": 9.0}), *run[1:-3], run[-1]]
    assert document(partly)["plan_against_fact"] == {"seconds": {"expected": 170.0, "actual": 178.0}}
    assert "448 steps in" in written(partly)
    assert "+4.7 %" in written(partly)
    assert "planned" not in written(stopped())


def test_measurements_on_the_way() -> None:
    assert document(training())["online_knn"] == [
        {"step": 4, "top1": 0.17},
        {"step": 64, "top1": 0.43},
        {"step": 128, "top1": 0.61},
    ]
    assert "top-1 17.0 % at step 4, while training" in written(stopped())


def test_a_plan_alone_is_the_result() -> None:
    events = [*training()[:1], Warned(message="The queue is capped.", hint="Pass less.")]
    assert document(events) == {
        "schema": 1,
        "command": "pretrain",
        "dry_run": True,
        "plan": [{"name": c.name, "value": c.value, "reason": c.reason} for c in CHOICES],
        "expected": EXPECTED,
        "warnings": ["The queue is capped."],
    }
    assert written(events) == "warning   The queue is capped. Pass less."


@pytest.mark.parametrize(("steps", "few"), [(28, True), (96, True), (100, False)])
def test_too_few_steps_are_called_so(steps: int, few: bool) -> None:
    summary = written(training(steps))
    assert ("too few to learn much" in summary) is few
    assert ("sslcli pretrain --resume --out runs/first --epochs" in summary) is few


def test_a_small_gain_is_called_so() -> None:
    assert "only +2.0 points" in written(training(quality=knn(0.19)))
    assert written(training(quality=knn(0.14))).startswith("verdict   Worse than the same network untrained (17.0 %)")
    assert " points " not in written(training(quality=knn(0.19, None)))
    assert document(training(quality=knn(0.19)))["verdict"]


def quality(measure: str = "knn", *, worse: bool = False, message: str = "Look.") -> Evaluated:
    """What a run measures at its end."""
    commands = ["sslcli pretrain --gentle", f"sslcli inspect-augs {HOSTILE}"]
    found: dict[str, object] = {
        "measure": measure, "images": 512, "advice": {"message": message, "next": commands, "worse": worse}
    }  # fmt: skip
    if measure == "consistency":
        values = {"consistency": 0.962, "rankme": 87.31}, {"consistency": 0.41, "rankme": 5.08}
        found |= {"width": 128, "trained": values[0], "untrained": values[1]}
    return Evaluated(name="quality", result=found)


def test_without_labels_consistency_and_rankme_stand_next_to_the_untrained_network() -> None:
    run = [event for event in training() if not (isinstance(event, Evaluated) and event.name == "knn")]
    summary = written([*run[:-1], quality("consistency", message=""), run[-1]])
    assert "quality   96.2 % of 512 images are the nearest neighbour of a view of theirs (41.0 % by" in summary
    assert "RankMe 87.3 of 128 dimensions of h (untrained 5.1)" in summary
    assert "kNN" not in summary
    assert "warning" not in summary
    found = document([*run, quality("consistency")])["quality"]
    assert isinstance(found, dict)
    assert found["trained"] == {"consistency": 0.962, "rankme": 87.31}


@pytest.mark.parametrize("measure", ["knn", "consistency"])
@pytest.mark.parametrize("worse", [True, False])
def test_advice_comes_first_only_where_training_did_harm(measure: str, worse: bool) -> None:
    run = training()
    events = [*run[:-1], quality(measure, worse=worse), run[-1]]
    rows = written(events).splitlines()
    label = "verdict" if worse else "advice"
    assert (rows[0].split()[0] == "verdict") is worse
    assert f"{label:<10}Look." in rows
    first = rows.index("next      sslcli pretrain --gentle")
    assert "inspect-augs" in rows[first + 1]
    assert all(row.isprintable() for row in rows)
    assert document(events)["verdict"] == "Look."


@pytest.mark.parametrize("name", ["knn", "linear"])
def test_an_evaluation_below_a_baseline_says_so_first(name: str) -> None:
    event = knn() if name == "knn" else LINEAR
    for worse in (True, False):
        advice = {"message": "Worse than raw pixels.", "next": ["sslcli pretrain --gentle"], "worse": worse}
        rows = written([Evaluated(name=name, result={**event.result, "advice": advice})], f"{name}-eval").splitlines()
        assert rows[0].startswith("verdict   Worse than raw pixels.") is worse
        assert rows[-1] == "next      sslcli pretrain --gentle"


def test_how_hard_the_views_are_is_stated() -> None:
    matched = {"colour": 0.95, "pixels": 0.2, "images": 64}
    result = {**SHEET.result, "matched": matched, "note": "Looks too easy."}
    summary = written([Evaluated(name="sheet", result=result)], "inspect-augs")
    assert (
        "task      colours alone match 95.0 % of the views, pixels alone 20.0 % (64 images). Looks too easy." in summary
    )


def test_a_loss_that_stayed_near_chance_is_called_so_where_no_labels_tell_more() -> None:
    last = [event for event in training() if not isinstance(event, Evaluated)]
    assert "The loss is still near chance: try" in written([*last, stepped(448, loss=6.2)])
    assert "still near chance" not in written(last)


@pytest.mark.parametrize(("labelled", "words"), [(16, "a label each (10%)"), (4, "4 labels (10%)"), (0, "no labels")])
def test_a_classifier_says_what_it_was_trained_on(labelled: int, words: str) -> None:
    labels: dict[str, Any] = {"labelled": labelled, "labels": "10%" if labelled else None}
    result = {"top1": 0.5, "top5": None, "test": 40, "train": 16, "per_class": {}, **labels}
    lines = written([*training()[:2], Evaluated(name="finetune", result=result)], "finetune").splitlines()
    assert f"images    40 for testing; trained on 16 with {words}" in lines
    assert "accuracy  top-1 50.0 % ± 7.9" in lines


def test_of_a_resumed_run_it_is_said_what_all_of_it_took_and_what_is_since() -> None:
    plan, started, *rest, end = training()
    assert isinstance(started, Started)
    events = [plan, replace(started, step=100, resumed=True, seconds=60.0), *rest, end]
    rows = written(events).splitlines()
    took = "448 steps in 3 min 58 s, peak memory 1.1 GB; 348 of them in 2 min 58 s since it was resumed"
    assert f"trained   {took}" in rows
    assert any(row.split() == ["resumed", "planned", "actual"] for row in rows)
    assert (document(events)["seconds"], document(events)["seconds_in_all"]) == (178.0, 238.0)


def test_a_resume_with_nothing_left_compares_nothing() -> None:
    plan, started, *_, end = training()
    assert isinstance(started, Started)
    assert isinstance(end, Finished)
    events = [plan, replace(started, step=448, resumed=True, seconds=178.0), replace(end, seconds=1e-5, rate=0.0)]
    assert "trained   448 steps in 2 min 58 s; nothing was left to train" in written(events).splitlines()
    assert "planned" not in written(events)
    assert document(events)["plan_against_fact"] == {}


def test_a_stopped_run_says_how_to_go_on() -> None:
    summary = written(stopped())
    assert "stopped, resumable" in summary
    assert "sslcli pretrain --resume --out runs/first" in summary
    assert "linear-eval" not in summary
    error = document(stopped())["error"]
    assert isinstance(error, dict)
    assert error["code"] == 75
    assert "--resume" in error["hint"]


def test_commands_can_be_copied_whatever_the_folder_is_called() -> None:
    assert "--out 'my runs/a b'" in written(stopped()[:1] + training(28, out="my runs/a b"))
    assert written(training(out=HOSTILE)).replace("\n", "").isprintable()


def test_evaluations_exports_and_sheets() -> None:
    assert "top-1 80.0 %" in written([LINEAR], "linear-eval")
    assert "logistic regression" in written([LINEAR], "linear-eval")
    assert "a split" in written([LINEAR], "linear-eval")
    assert "2.9 MB, ONNX opset 18" in written([EXPORT], "export")
    assert "batch sizes 1, 2, 5: largest difference 1.0e-06" in written([EXPORT], "export")
    assert "8 images and 6 views" in written([SHEET], "inspect-augs")
    assert "raw pixels" in written([knn()], "knn-eval")


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
