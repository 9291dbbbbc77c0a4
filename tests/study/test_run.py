"""Runs of a study: an arm that fails is a row, a signal ends the study resumable, and paths are never in a file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ssl_cli import spinning, status
from ssl_cli.config.toml_file import parse_toml
from ssl_cli.errors import CheckpointError, DataError, Interrupted, LockedError, SslcliError, UsageError
from ssl_cli.lock import acquire
from ssl_cli.signals import StopRequest
from ssl_cli.spinning import CpuTime
from ssl_cli.study import run as module
from ssl_cli.study.book import FINISHED, Planned, Result
from ssl_cli.study.run import Runner, run_folder
from tests.study.books import ROAD, TWO, planned

ARM = TWO.arms[1]


class FakeRun:
    """Stands in for the process of a run: ends with these codes, one after the other."""

    def __init__(self, *codes: int, reason: str = "") -> None:
        self.codes, self.reason = list(codes), reason
        self.calls: list[list[str]] = []

    def __call__(self, words: list[str], folder: Path, request: StopRequest) -> int:
        self.calls.append(words)
        code, out = self.codes.pop(0), Path(words[words.index("--out") + 1])
        out.mkdir(exist_ok=True)
        state = {0: status.FINISHED, 75: status.STOPPED, 130: status.STOPPED}.get(code, status.FAILED)
        if code >= 0:
            status.write(out, "0" * 32, state, code, self.reason)
        (out / "settings.toml").touch()
        events = [
            {"event": "planned", "time": 10.0},
            {"event": "stepped", "time": 11.0, "epoch": 2.5},
            {"event": "finished", "time": 14.0, "steps": 40, "peak_memory": 10**9, "rate": 128.0},
        ]
        (out / "metrics.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
        return code


def runner(folder: Path, train: FakeRun, measured: Callable[[], dict[str, Any]] = lambda: {"knn": 0.5}) -> Runner:
    return Runner(folder, StopRequest(), lambda run, book, arm: measured(), train)


def test_a_run_is_trained_and_measured(tmp_path: Path) -> None:
    train = FakeRun(0)
    found = runner(tmp_path, train, lambda: {"knn": 0.5, "linear": float("nan")}).run(TWO, ARM, 4)
    assert (found.arm, found.seed, found.state, found.reason) == ("simclr-b64", 4, FINISHED, "")
    assert 0 <= found.numbers.pop("machine", 1.0) <= 1  # not known where there is no /proc/stat
    assert found.numbers == {
        "steps": 40, "peak_memory": 10**9, "epochs": 2.5, "seconds": 4.0, "rate": 128.0, "per_thousand": 7.8125,
        "knn": 0.5,
    }  # fmt: skip
    words = train.calls[0]
    assert words[0] == "pretrain"
    assert words[-4:] == ["--seed", "4", "--out", str(tmp_path / "simclr-b64-seed4")]


def test_a_finished_run_is_only_measured(tmp_path: Path) -> None:
    runner(tmp_path, FakeRun(0)).run(TWO, ARM, 0)
    train = FakeRun()
    assert runner(tmp_path, train, lambda: {"knn": 0.25}).run(TWO, ARM, 0).numbers["knn"] == 0.25
    assert train.calls == []


def test_a_run_that_was_started_is_resumed(tmp_path: Path) -> None:
    runner(tmp_path, first := FakeRun(-9, 0)).run(TWO, ARM, 0)
    assert first.calls[1] == ["pretrain", "--resume", "--out", str(tmp_path / "simclr-b64-seed0")]


@pytest.mark.parametrize(
    ("codes", "state", "reason"),
    [
        ((6,), "diverged", "why"),
        ((5,), "no memory or disk", "why"),
        ((-9, -9), "killed", "by signal 9, twice"),
        ((-9, 6), "diverged", "why"),
    ],
)
def test_an_arm_that_fails_is_a_row(tmp_path: Path, codes: tuple[int, ...], state: str, reason: str) -> None:
    found = runner(tmp_path, FakeRun(*codes, reason="why")).run(TWO, ARM, 0)
    assert (found.state, found.reason, found.numbers) == (state, reason, {})


@pytest.mark.parametrize("code", [75, 130])
def test_a_run_that_was_stopped_ends_the_study(tmp_path: Path, code: int) -> None:
    with pytest.raises(Interrupted) as caught:
        runner(tmp_path, FakeRun(code, reason="SIGTERM was received")).run(TWO, ARM, 0)
    assert (caught.value.code, caught.value.reason) == (code, "SIGTERM was received")


@pytest.mark.parametrize(
    ("code", "kind"), [(1, SslcliError), (2, UsageError), (3, DataError), (4, CheckpointError), (99, SslcliError)]
)
def test_other_errors_name_the_run_and_keep_their_code(tmp_path: Path, code: int, kind: type[SslcliError]) -> None:
    with pytest.raises(SslcliError, match="simclr-b64-seed0 failed: no images") as caught:
        runner(tmp_path, FakeRun(code, reason="no images")).run(TWO, ARM, 0)
    assert (type(caught.value), caught.value.code) == (kind, kind.code)
    assert f"sslcli study --resume --out {tmp_path}" in caught.value.hint


def test_a_run_that_another_process_trains_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    out = run_folder(tmp_path, "simclr-b64", 0)
    out.mkdir()
    train = FakeRun(0)
    with acquire(out), pytest.raises(LockedError):
        runner(tmp_path, train).run(TWO, ARM, 0)
    assert train.calls == []


def test_paths_are_words_and_never_in_a_file(tmp_path: Path) -> None:
    arm = planned("simclr-b64")
    data = {"source": "caf\udce9", "test": "x\udce9", "folder": "d\udce9", "size": 8}
    model = {"width": 0.5, "init_from": "w\udce9"}
    settings = {**arm.settings, "data": data, "model": model, "run": {"batch": 64, "seed": 0, "out": "o\udce9"}}
    train = FakeRun(0)
    runner(tmp_path, train).run(TWO, Planned(arm.name, arm.method, settings, {}), 3)
    words = train.calls[0]
    assert words[:2] == ["pretrain", "caf\udce9"]
    assert words[2:6] == ["--test-data", "x\udce9", "--init-from", "w\udce9"]
    assert "data.folder=d\udce9" in words
    written = parse_toml((tmp_path / "arms" / "simclr-b64.toml").read_text())
    assert written["data"] == {"size": 8}
    assert written["run"] == {"batch": 64}
    assert written["model"] == {"width": 0.5}
    assert settings["data"] == data  # and the book's settings are as they were


def test_an_arm_starts_from_the_run_of_its_seed(tmp_path: Path) -> None:
    train = FakeRun(0, 0)
    for name in ("layer1-1pct", "half-distilled-1pct"):
        runner(tmp_path, train).run(ROAD, ROAD.arm(name), 4)
    tuned, student = train.calls
    assert tuned[:2] == ["finetune", str(tmp_path / "pretrain-seed4")]
    assert tuned[-4:] == ["--seed", "4", "--out", str(tmp_path / "layer1-1pct-seed4")]
    assert student[:4] == ["distill", str(tmp_path / "layer1-1pct-seed4"), "--width", "0.125"]
    assert parse_toml((tmp_path / "arms" / "layer1-1pct.toml").read_text())["data"] == {"labels": "1%"}


def test_a_probe_trains_nothing_and_has_no_time_of_another_run(tmp_path: Path) -> None:
    runner(tmp_path, FakeRun(0)).run(ROAD, ROAD.arm("pretrain"), 4)
    asked: list[Path] = []

    def measure(run: Path, book: object, arm: Planned) -> dict[str, Any]:
        asked.append(run)
        return {"classifier": 0.5}

    found = Runner(tmp_path, StopRequest(), measure, FakeRun()).run(ROAD, ROAD.arm("linear-1pct"), 4)
    assert found.numbers == {"classifier": 0.5}
    assert asked == [tmp_path / "pretrain-seed4"]


def test_what_starts_from_a_run_that_failed_is_a_row(tmp_path: Path) -> None:
    book = ROAD.with_result(Result("layer1-1pct", 4, "diverged", "why"))
    train = FakeRun()
    found = runner(tmp_path, train).run(book, book.arm("half-distilled-1pct"), 4)
    assert (found.state, found.numbers, train.calls) == ("not started", {}, [])
    assert "starts from layer1-1pct, which ended: diverged" in found.reason
    unfinished = book.with_result(found)
    assert unfinished.failed("half-distilled-1pct") == [found]


def test_the_share_of_the_machine_is_that_of_the_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes of it count together; of a resumed one, whose first part was not observed, it is not known."""
    readings = iter([CpuTime(0, 0, 0), CpuTime(8, 2, 20), CpuTime(9, 2, 30), CpuTime(9, 2, 40)])
    monkeypatch.setattr(spinning, "cpu_time", lambda: next(readings))
    found = runner(tmp_path, FakeRun(-9, 0)).run(TWO, ARM, 0)
    assert found.numbers["machine"] == pytest.approx(1 - 6 / 20)
    status.write(tmp_path / "simclr-b64-seed0", "0" * 32, status.STOPPED, 75, "")
    assert "machine" not in runner(tmp_path, FakeRun(0)).run(TWO, ARM, 0).numbers
