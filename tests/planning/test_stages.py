"""A pipeline's stages: how its time is divided, what it was asked for, and its file, also a damaged one."""

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_cli import lock
from ssl_cli.config.labels import require_unchanged
from ssl_cli.errors import CheckpointError, DataError, LockedError, UsageError
from ssl_cli.planning import stages
from ssl_cli.planning.stages import DISTILL, FILE, FINETUNE, LINEAR, PRETRAIN, SCRATCH, STAGES, Asked, epochs_within

NOTHING = dict.fromkeys(("data", "test_data", "labels", "method", "time", "student", "width", "seed"))
ASKED = Asked("10%", time=600.0, method="simclr-v2", sets=("run.batch=8",), env={"SSLCLI_RUN__KEEP": "1"}, seed=3)


def test_the_time_is_divided_over_all_stages() -> None:
    assert sum(stage.share for stage in STAGES) == pytest.approx(1)
    assert SCRATCH.share == FINETUNE.share  # what is compared trains equally long
    assert ASKED.seconds(PRETRAIN) == pytest.approx(300)
    assert Asked("10%").seconds(PRETRAIN) is None


@pytest.mark.parametrize(
    ("seconds", "rate", "images", "epochs"),
    [
        (None, 100.0, 50, 30),  # no time was given
        (60.0, 100.0, 50, 30),  # 240 epochs would fit
        (10.0, 100.0, 100, 20),  # an image has one view, and not two
        (10.0, 100.0, 300, 6),  # whole ones
        (0.1, 1.0, 5000, 1),  # one at least
        (60.0, None, 50, 30),  # pretraining's throughput is not known
        (60.0, 100.0, None, 30),
    ],
)
def test_stages_on_labels_have_their_recipe_s_epochs_or_as_many_as_their_time_allows(
    seconds: float | None, rate: float | None, images: int | None, epochs: int
) -> None:
    assert epochs_within(seconds, rate, images, 30) == epochs


def test_only_the_stages_on_labels_get_labels_and_only_scratch_is_random() -> None:
    more = {"run": {"out": "o"}}
    tables = {stage: ASKED.flags(stage, more) for stage in STAGES if stage is not LINEAR}
    assert {stage for stage in tables if "labels" in tables[stage]["data"]} == {SCRATCH, FINETUNE}
    assert [tables[stage]["method"].get("scratch") for stage in (SCRATCH, FINETUNE, DISTILL)] == [True, None, None]
    assert tables[PRETRAIN]["run"] == {"seed": 3, "time": 300.0, "out": "o"}
    assert tables[DISTILL]["run"] == {"time": pytest.approx(90), "out": "o"}


def test_what_is_asked_for_survives_its_file(tmp_path: Path) -> None:
    asked = dataclasses.replace(ASKED, data="caf\udce9\x1b", project="[run]\nbatch = 8\n", width=0.5)
    stages.write(tmp_path, asked)
    assert stages.read(tmp_path) == asked
    assert (tmp_path / "sslcli.toml").read_text() == asked.project
    assert json.loads((tmp_path / FILE).read_text())["schema"] == 1


def test_surroundings_are_recorded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLCLI_SCHEDULE__EPOCHS", "2")
    monkeypatch.setenv("SSLCLI_DEBUG", "1")
    (tmp_path / "sslcli.toml").write_text("[model]\nwidth = 0.5\n")
    asked = stages.asked({**NOTHING, "labels": "10%", "sets": ()}, tmp_path)
    assert (asked.env, asked.project) == ({"SSLCLI_SCHEDULE__EPOCHS": "2"}, "[model]\nwidth = 0.5\n")
    monkeypatch.setenv("SSLCLI_SCHEDULE__EPOCHS", "7")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    stages.write(folder, asked)
    settings = stages.settle_pretraining(stages.read(folder), folder).settings
    assert (settings.schedule.epochs, settings.model.width) == (2, 0.5)


DAMAGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no object": lambda file: [],
    "another format": lambda file: {**file, "schema": 2},
    "no format": lambda file: {"asked": file["asked"]},
    "nothing asked": lambda file: {"schema": 1},
    "no labels": lambda file: {**file, "asked": {"time": 600}},
    "a time that is none": lambda file: {**file, "asked": {**file["asked"], "time": float("nan")}},
    "a time below all": lambda file: {**file, "asked": {**file["asked"], "time": -1}},
    "a width that is none": lambda file: {**file, "asked": {**file["asked"], "width": float("inf")}},
    "text for a number": lambda file: {**file, "asked": {**file["asked"], "seed": "x"}},
    "a list for text": lambda file: {**file, "asked": {**file["asked"], "method": ["a"]}},
    "variables that are none": lambda file: {**file, "asked": {**file["asked"], "env": {"A": 1}}},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_a_sentence(tmp_path: Path, case: str) -> None:
    stages.write(tmp_path, ASKED)
    found = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(DAMAGED[case](found)))
    refused(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[" * 200_000, b" " * (2 << 20), b'{"schema": 1' + b"0" * 5000]
)
def test_a_file_that_is_none_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    refused(tmp_path)


def test_neither_a_pipe_nor_a_folder_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)
    refused(tmp_path)
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    refused(tmp_path)


def refused(folder: Path) -> None:
    for how in ({"resume": True, "overwrite": False}, {"resume": False, "overwrite": True}):
        with pytest.raises(CheckpointError, match="cannot be read") as caught:
            stages.opened(folder, **how)
        assert caught.value.message.isprintable()
        assert len(caught.value.message) < 1000


def test_folders_are_opened_as_those_of_runs(tmp_path: Path) -> None:
    assert stages.opened(tmp_path / "new", resume=False, overwrite=False) is None
    assert stages.opened(tmp_path, resume=True, overwrite=False) is None
    (tmp_path / "mine.txt").touch()
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(UsageError, match="is not empty and holds no pipeline"):
            stages.opened(tmp_path, resume=resume, overwrite=overwrite)
    with pytest.raises(UsageError, match="is a file"):
        stages.opened(tmp_path / "mine.txt", resume=True, overwrite=False)
    (tmp_path / "mine.txt").unlink()
    stages.write(tmp_path, ASKED)
    with pytest.raises(UsageError, match="is not empty") as caught:
        stages.opened(tmp_path, resume=False, overwrite=False)
    assert "--resume" in caught.value.hint
    assert stages.opened(tmp_path, resume=True, overwrite=False) == ASKED
    with lock.acquire(tmp_path), pytest.raises(LockedError):
        stages.opened(tmp_path, resume=True, overwrite=False)


def test_flags_of_a_resume_are_absent_or_the_same() -> None:
    stages.require_same(ASKED, {**NOTHING, "sets": ()})
    stages.require_same(ASKED, {**NOTHING, "labels": "10%", "time": 600.0, "seed": 3, "sets": ("run.batch=8",)})
    for name, value in {"labels": "1%", "time": 601.0, "seed": 0, "width": 0.5, "sets": ("run.batch=9",)}.items():
        with pytest.raises(UsageError, match="in this pipeline and cannot become") as caught:
            stages.require_same(ASKED, {**NOTHING, name: value})
        assert "another --out" in caught.value.hint


def test_code_of_one_s_own_is_run_only_where_it_is_given_again() -> None:
    own = dataclasses.replace(ASKED, method="mine.py:Mine")
    with pytest.raises(UsageError, match="code of your own"):
        stages.require_same(own, NOTHING)
    stages.require_same(own, {**NOTHING, "method": "mine.py:Mine"})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"time": "59s"}, "too short for 5 stages"),
        ({"time": "10"}, "no unit"),
        ({"time": "soon"}, "cannot read"),
        ({"labels": "0%"}, "no share of the images"),
        ({"labels": "some"}, "no number of images and no file"),
    ],
)
def test_what_cannot_be_read_is_a_sentence(given: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        stages.normal({**NOTHING, **given})


def test_flags_are_recorded_so_that_they_mean_the_same_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "list.csv").touch()
    found = stages.normal({**NOTHING, "data": ["photos"], "test_data": "gone", "labels": "list.csv", "time": "2m"})
    assert found["data"] == str(tmp_path / "photos")
    assert found["labels"] == str(tmp_path / "list.csv")
    assert (found["test_data"], found["time"]) == ("gone", 120)
    several = stages.normal({**NOTHING, "data": ["photos", "cifar10"], "labels": "10%"})
    assert several["data"] == (str(tmp_path / "photos"), "cifar10")
    stages.write(tmp_path, asked := stages.asked({**several, "sets": ()}, tmp_path))
    assert stages.read(tmp_path) == asked
    stages.require_same(asked, several)
    with pytest.raises(UsageError, match=r"photos, cifar10 in this pipeline and cannot become cifar10, .*photos"):
        stages.require_same(asked, {"data": several["data"][::-1]})


def test_a_file_of_labels_is_known_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("cat/1.png\n")
    asked = stages.asked({**NOTHING, "labels": str(tmp_path / "list.csv"), "sets": ()}, tmp_path)
    require_unchanged(asked.labels, asked.labels_sha256)
    (tmp_path / "list.csv").write_text("cat/2.png\n")
    with pytest.raises(DataError, match="is not as it was when training started"):
        require_unchanged(asked.labels, asked.labels_sha256)


def test_labels_are_asked_for() -> None:
    with pytest.raises(UsageError, match="how many images are labelled") as caught:
        stages.asked(NOTHING)
    assert "--labels 10%" in caught.value.hint
