"""The table of a pipeline: accuracies with their standard errors, and differences that are none."""

import dataclasses
from pathlib import Path

from ssl_cli.planning.reached import Row
from ssl_cli.planning.stages import DISTILL, FINETUNE, LINEAR, PRETRAIN, SCRATCH, STAGES, Asked
from ssl_cli.ui.pipeline import document, lines, plan, plan_document, title

ROWS = [
    Row(PRETRAIN, seconds=200.0, parameters=900_000),
    Row(LINEAR, 0.5, 0.9, 1000, 40, 3.0, 700_000),
    Row(SCRATCH, 0.3, 0.8, 1000, 40, 20.0, 800_000),
    Row(FINETUNE, 0.6, 0.95, 1000, 40, 20.0, 800_000),
    Row(DISTILL, 0.59, 0.95, 1000, 0, 90.0, 180_000),
]
ASKED = Asked("10%", time=7200.0)


def shown(rows: list[Row]) -> list[str]:
    return list(lines(rows, ASKED, Path("runs/my road")))


def test_the_table_has_a_line_for_each_stage() -> None:
    found = shown(ROWS)
    assert found[0] == "labels     10%: 40 images, 1,000 test images"
    assert found[1].split() == ["top-1", "top-5", "time", "parameters"]
    assert found[2].split() == ["pretraining", "3", "min", "20", "s", "0.90", "M"]
    assert " ".join(found[5].split()) == "fine-tuned 60.0 % ± 1.5 95.0 % 20 s 0.80 M"
    assert found[-1] == "next       sslcli export 'runs/my road/distill' --classifier -o classifier.onnx"


def test_of_few_classes_there_is_no_column_of_top_5() -> None:
    found = shown([dataclasses.replace(row, top5=None) for row in ROWS])
    assert found[1].split() == ["top-1", "time", "parameters"]
    assert " ".join(found[5].split()) == "fine-tuned 60.0 % ± 1.5 20 s 0.80 M"


def test_a_difference_is_one_from_two_standard_errors_on() -> None:
    found = " ".join(" ".join(shown(ROWS)).split())
    assert "fine-tuned against from scratch: +30.0 ± 2.1 points distilled" in found
    assert "distilled against fine-tuned: -1.0 ± 2.2 points: not distinguishable" in found


def test_the_best_classifier_is_exported_and_guessing_is_told() -> None:
    poor = dataclasses.replace(ROWS[4], top1=0.11, classes=10)
    found = shown([*ROWS[:4], poor])
    assert "           distilled: no better than guessing one of 10 classes" in found
    assert found[-2:] == [
        "best       fine-tuned: the next command exports it",
        "next       sslcli export 'runs/my road/finetune' --classifier -o classifier.onnx",
    ]
    few = [dataclasses.replace(row, test=20) for row in ROWS]  # 30 points are not more than chance then
    assert not any(line.startswith("best") for line in shown([*few[:2], few[3], few[2], few[4]]))
    better = dataclasses.replace(ROWS[2], top1=0.9)
    assert "runs/my road/scratch" in shown([*ROWS[:2], better, *ROWS[3:]])[-1]


def test_what_is_not_known_is_a_dash() -> None:
    rows = [Row(stage) for stage in STAGES]
    found = shown(rows)
    assert found[4].split() == ["from", "scratch", "-", "-", "-"]
    assert len(found) == 3 + len(STAGES)  # no differences
    assert document(rows, ASKED, Path("o"))["rows"][2]["top1"] is None


def test_a_program_gets_the_same_numbers() -> None:
    rows = {row["name"]: row for row in document(ROWS, ASKED, Path("o"))["rows"]}
    assert list(rows) == [stage.name for stage in STAGES]
    assert rows["finetune"] == {
        "name": "finetune", "top1": 0.6, "standard_error": ROWS[3].error, "top5": 0.95, "test": 1000, "labelled": 40,
        "seconds": 20.0, "parameters": 800_000, "out": "o/finetune",
    }  # fmt: skip
    assert rows["linear"]["out"] is None


def test_the_plan_names_each_stage_and_its_time() -> None:
    images = {"labelled": 40, "classes": 10, "test": 1000}
    found = list(plan(ASKED, Path("o"), images))
    assert [line for line in found if line[0].isdigit()] == [
        f"{title(stage)} (about {time})"
        for stage, time in zip(
            STAGES, ["1 h 00 min", "6 min 00 s", "18 min 00 s", "18 min 00 s", "18 min 00 s"], strict=True
        )
    ]
    assert "40 images of 10 classes" in found[0]
    untimed = list(plan(dataclasses.replace(ASKED, time=None), Path("o"), images))
    assert not any("about" in line for line in untimed)
    stages = plan_document(ASKED, Path("o"), images)["stages"]
    assert [stage["seconds"] for stage in stages] == [stage.share * 7200 for stage in STAGES]
