"""What stages reached is read from their files; what is missing, damaged or hostile there is left out."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from ssl_cli import records, status
from ssl_cli.planning.reached import LINEAR_FILE, is_done, reached, row, stage_result, timed
from ssl_cli.planning.stages import FINETUNE, LINEAR, PRETRAIN, STAGES

RESULT = {"top1": 0.25, "top5": 0.5, "test": 300, "labelled": 24, "train": 24}


def write(path: Path, found: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found))


def events(run: Path, *lines: tuple[str, float] | str, **last: Any) -> None:
    run.mkdir(exist_ok=True)
    written = [line if isinstance(line, str) else json.dumps({"event": line[0], "time": line[1]}) for line in lines]
    if last:
        written.append(json.dumps({"event": "finished", **last}))
    (run / "metrics.jsonl").write_text("".join(f"{line}\n" for line in written))


def test_a_row_is_read_from_the_run_s_own_files(tmp_path: Path) -> None:
    write(tmp_path / "finetune" / "eval" / "finetune.json", {"result": RESULT})
    write(tmp_path / "finetune" / "plan.json", {"expected": {"parameters": 1234}})
    events(tmp_path / "finetune", ("planned", 100.0), ("saved", 112.0))
    found = row(tmp_path, FINETUNE)
    assert (found.top1, found.top5, found.test, found.labelled) == (0.25, 0.5, 300, 24)
    assert (found.seconds, found.parameters) == (12, 1234)
    assert found.error == pytest.approx(math.sqrt(0.25 * 0.75 / 300))


def test_the_linear_probe_s_row_is_in_a_file_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "pretrain" / "eval" / "linear.json", {"result": {**RESULT, "top1": 0.9}})  # evaluated later
    write(tmp_path / LINEAR_FILE, {"result": {**RESULT, "seconds": 2.5, "parameters": 77}})
    found = row(tmp_path, LINEAR)
    assert (found.top1, found.labelled, found.seconds, found.parameters) == (0.25, 24, 2.5, 77)
    assert is_done(tmp_path, LINEAR)


def test_seconds_are_those_of_every_process_but_not_those_between_them(tmp_path: Path) -> None:
    events(
        tmp_path / "run", ("warned", 90.0), ("planned", 100.0), ("stepped", 110.0), ("stepped", 120.0),
        ("planned", 1000.0), ("stepped", 1003.0), time=1004.0, rate=55.5,
    )  # fmt: skip
    assert timed(records.events(tmp_path / "run")) == (24.0, 55.5)


def test_lines_that_are_no_events_are_left_out(tmp_path: Path) -> None:
    events(
        tmp_path / "run", "{", "[1]", '{"time": "x"}', "[" * 20_000, ("planned", 1.0), '{"time": NaN}', ("saved", 3.0)
    )
    assert timed(records.events(tmp_path / "run")) == (2.0, None)
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert timed(records.events(tmp_path)) == (None, None)
    assert timed(records.events(tmp_path / "gone")) == (None, None)


@pytest.mark.parametrize("value", ["x", None, True, -0.1, 1.5, float("nan"), float("inf"), 10**400, [0.5], {"a": 1}])
def test_an_accuracy_that_is_none_is_left_out(tmp_path: Path, value: object) -> None:
    write(tmp_path / LINEAR_FILE, {"result": {**RESULT, "top1": value}})
    assert "top1" not in stage_result(tmp_path, LINEAR)
    assert not is_done(tmp_path, LINEAR)
    assert row(tmp_path, LINEAR).error is None


@pytest.mark.parametrize("found", [[], {}, {"result": 3}, {"result": []}, "x"])
def test_a_result_that_is_none_is_left_out(tmp_path: Path, found: object) -> None:
    write(tmp_path / LINEAR_FILE, found)
    write(tmp_path / "finetune" / "plan.json", {"expected": found})
    assert stage_result(tmp_path, LINEAR) == {}
    assert row(tmp_path, FINETUNE).parameters is None


def test_a_stage_is_done_by_its_own_status(tmp_path: Path) -> None:
    assert not any(is_done(tmp_path, stage) for stage in STAGES)
    folder = tmp_path / "pretrain"
    folder.mkdir()
    for state in status.STATES:
        status.write(folder, "its id", state, 0, "")
        assert is_done(tmp_path, PRETRAIN) == (state == status.FINISHED)


def test_nothing_is_known_of_an_empty_folder(tmp_path: Path) -> None:
    assert [(found.stage, found.top1, found.seconds) for found in reached(tmp_path)] == [
        (s, None, None) for s in STAGES
    ]
