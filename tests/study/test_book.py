"""A study's file: whole again after it is read, refused in a sentence where it is damaged, not changed by a resume."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.study import book as books
from ssl_cli.study.book import ABSENT, Asked, Result, asked, normal, opened, read, require_same, write
from tests.study.books import CLEAR, ROAD, TWO

GIVEN: dict[str, Any] = {**ABSENT, "name": "rivalry"}


def test_a_book_survives_its_file(tmp_path: Path) -> None:
    found = dataclasses.replace(
        CLEAR, asked=Asked("rivalry", data="caf\udce9\x1b", sets=("a.b=c",), env={"SSLCLI_RUN__KEEP": "3"}, project="x")
    ).with_result(Result("simclr-b64", 7, "diverged", "The loss is not finite.", {"steps": 3}))
    write(tmp_path, found)
    assert read(tmp_path) == found
    assert found.result("simclr-b64", 7) == found.results[-1]
    assert found.result("simclr-b64", 8) is None
    assert found.failed("simclr-b64") == [found.results[-1]]
    assert found.values("knn")["simclr-b64"] == {0: 0.40, 1: 0.43, 2: 0.41}


DAMAGED: dict[str, Callable[[dict[str, Any]], object]] = {
    "no object": lambda file: [],
    "another format": lambda file: {**file, "schema": 99},
    "no arms": lambda file: {key: file[key] for key in file if key != "arms"},
    "a time that is none": lambda file: {**file, "asked": {**file["asked"], "time": float("nan")}},
    "no seeds": lambda file: {**file, "asked": {**file["asked"], "seeds": 0}},
    "no arm": lambda file: {**file, "arms": []},
    "a study that there is not": lambda file: {**file, "asked": {**file["asked"], "name": "\x1bnosuch"}},
    "an arm without settings": lambda file: {**file, "arms": [{**file["arms"][0], "settings": {"run": 3}}]},
    "images below one": lambda file: {**file, "about": {**file["about"], "images": 0}},
    "an arm that starts from none": lambda file: {**file, "arms": [{**file["arms"][0], "start": "nosuch"}]},
    "a result that is no number": lambda file: {**file, "results": [{**file["results"][0], "numbers": {"knn": "x"}}]},
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_a_sentence(tmp_path: Path, case: str) -> None:
    write(tmp_path, CLEAR)
    file = tmp_path / "study.json"
    file.write_text(json.dumps(DAMAGED[case](json.loads(file.read_text()))))
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        opened(tmp_path, resume=True)
    assert caught.value.message.isprintable()


def test_arms_that_start_from_another_survive_too(tmp_path: Path) -> None:
    write(tmp_path, ROAD)
    assert read(tmp_path) == ROAD
    rounds = [arm for arm, seed in ROAD.turns if seed == 2]
    assert rounds.index("pretrain") < rounds.index("layer1-1pct") < rounds.index("half-distilled-1pct")


def test_a_folder_is_opened_as_it_is(tmp_path: Path) -> None:
    assert opened(tmp_path / "new", resume=False) is None
    assert opened(tmp_path, resume=True) is None
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="holds no study"):
        opened(tmp_path, resume=True)
    write(tmp_path, TWO)
    with pytest.raises(UsageError, match="is not empty"):
        opened(tmp_path, resume=False)
    assert opened(tmp_path, resume=True) == TWO


def test_flags_are_recorded_so_that_they_mean_the_same_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSLCLI_MODEL__WIDTH", "0.5")
    (tmp_path / "photos").mkdir()
    found = asked(normal({**GIVEN, "data": ["photos"], "time": "2m", "seeds": None}))
    assert (found.data, found.time, found.seeds) == (str(tmp_path / "photos"), 120, 3)
    assert found.env == {"SSLCLI_MODEL__WIDTH": "0.5"}
    monkeypatch.delenv("SSLCLI_MODEL__WIDTH")
    assert found.settled("simclr", {}).settings.model.width == 0.5


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"time": "10"}, "no unit"),
        ({"time": "0s"}, "takes some time"),
        ({"seeds": 0}, "1 to 1,000"),
        ({"data": ["a", "b"]}, "one DATA"),
        ({"data": ["-"]}, "one DATA"),
    ],
)
def test_what_no_study_takes_is_a_sentence(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        normal({**GIVEN, **given})


def test_flags_of_a_resume_are_absent_or_the_same() -> None:
    before = Asked("rivalry", time=900.0, sets=("a.b=c",))
    require_same(before, {**GIVEN, "time": 900.0, "sets": ()})
    for name, value in {"name": "simclr-head", "time": 60.0, "seeds": 4, "device": "cuda", "sets": ("x=y",)}.items():
        with pytest.raises(UsageError, match="in this study and cannot become"):
            require_same(before, {**GIVEN, name: value})


def test_all_runs_are_measured_by_the_study_alone() -> None:
    found = Asked("rivalry").settled("simclr", {}).settings.run
    assert (found.evaluate, found.monitor) == (False, False)
    assert books.finite({"a": 1, "b": float("nan"), "c": None, "d": True}) == {"a": 1}


def test_results_of_arms_that_there_are_not_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, CLEAR.with_result(Result("nosuch", 0, "finished", "", {"knn": 0.9})))
    assert read(tmp_path) == CLEAR
