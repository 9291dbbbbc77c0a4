"""`ssl_cli.train`: the command's own run, as events; where the reading stops the run is whole, and continues."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import ssl_cli
from ssl_cli import status
from ssl_cli.api.train import _tables
from ssl_cli.errors import DataError, UsageError
from ssl_cli.events import Event, Finished, Saved, Started, Stepped

SMALL: dict[str, Any] = {
    "model": {"backbone": "resnet18", "width": 0.0625},
    "image_size": 16,
    "batch": 8,
    "epochs": 4,
    "run": {"log_every": 1, "evaluate": False, "monitor": False},
    "hardware": {"precision": "fp32", "memory_format": "channels_last", "device": "cpu"},
    "data": {"images": 32},
}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings but those given."""
    for name in ("XDG_CONFIG_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.chdir(tmp_path)


def weights(run: Path) -> dict[str, torch.Tensor]:
    newest = max((run / "checkpoints").glob("*.pt"))
    found: dict[str, torch.Tensor] = torch.load(newest, weights_only=True)["objective"]
    return found


def stopped_at(events: Iterator[Event], step: int) -> None:
    for event in events:
        if isinstance(event, Stepped) and event.step == step:
            break


def test_reading_stops_anywhere_and_the_run_continues_bit_for_bit(tmp_path: Path) -> None:
    whole = list(ssl_cli.train(out=tmp_path / "whole", method="moco-v2", **SMALL))
    assert isinstance(whole[-1], Finished)
    assert sum(isinstance(event, Stepped) for event in whole) == 16
    out = tmp_path / "run"
    stopped_at(ssl_cli.train(out=out, method="moco-v2", **SMALL), 5)  # the generator is closed as it is dropped
    about = status.read(out)
    assert (about["state"], about["exit_code"]) == ("stopped", 75)
    assert [path.stem for path in (out / "checkpoints").glob("*.pt")] == ["step_00000005"]
    rest = list(ssl_cli.train(out=out, method="moco-v2", resume=True, **SMALL))
    assert next(event.step for event in rest if isinstance(event, Started)) == 5
    assert isinstance(rest[-1], Finished)
    before, after = weights(tmp_path / "whole"), weights(out)
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    logged = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [event["step"] for event in logged if event["event"] == "stepped"] == list(range(1, 17))


@pytest.mark.slow
def test_an_error_of_the_reader_saves_the_run_too(tmp_path: Path) -> None:
    def read() -> None:
        for event in ssl_cli.train(out=tmp_path / "run", **SMALL):
            if isinstance(event, Stepped) and event.step == 3:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        read()
    assert (tmp_path / "run" / "checkpoints" / "step_00000003.pt").is_file()


@pytest.mark.slow
def test_nothing_is_saved_twice(tmp_path: Path) -> None:
    events = ssl_cli.train(out=tmp_path / "run", **{**SMALL, "run": {**SMALL["run"], "checkpoint_every": 2}})
    for event in events:
        if isinstance(event, Saved) and event.step == 4:
            break
    before = (tmp_path / "run" / "checkpoints" / "step_00000004.pt").stat()
    events.close()
    after = (tmp_path / "run" / "checkpoints" / "step_00000004.pt").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_settings_are_those_of_the_command_line() -> None:
    tables, names = _tables({
        "data": ["a", "b"], "method": {"name": "moco-v2", "queue": 64}, "lr": 0.5, "out": Path("x"), "batch": None,
        "optim": {"name": "sgd"}, "init_from": Path("w.pth"),
    })  # fmt: skip
    assert tables == {
        "data": {"source": ("a", "b")}, "method": {"name": "moco-v2", "queue": 64}, "run": {"out": "x", "batch": None},
        "optim": {"lr": 0.5, "name": "sgd"}, "model": {"init_from": "w.pth"},
    }  # fmt: skip
    assert names["optim.lr"] == "the argument lr"
    assert names["method.queue"] == "the argument method"


@pytest.mark.parametrize(
    ("given", "said", "hint"),
    [
        ({"epoch": 3}, "There is no setting 'epoch'", "Did you mean 'epochs'?"),
        ({"optim": 3}, "'optim' is a table", "optim={'key': value}"),
        ({"optim": {"rate": 3}}, "There is no setting 'optim.rate' (from the argument optim)", ""),
        ({"lr": -1}, "optim.lr = -1 (from the argument lr)", ""),
        ({"method": "simclrr"}, "There is no method 'simclrr' (from the argument method)", "Did you mean 'simclr'?"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(given: dict[str, Any], said: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        ssl_cli.train(**given)
    assert said in caught.value.message
    assert hint in caught.value.hint


def test_errors_come_where_the_events_are_read(tmp_path: Path) -> None:
    rest = {name: value for name, value in SMALL.items() if name != "data"}
    events = ssl_cli.train(tmp_path / "none", out=tmp_path / "run", **rest)
    with pytest.raises((UsageError, DataError)):
        next(events)


def test_a_resume_changes_what_is_asked_for(tmp_path: Path) -> None:
    stopped_at(ssl_cli.train(out=tmp_path / "run", **SMALL), 2)
    with pytest.raises(UsageError, match=r"run.seed is 0 in this run and cannot become 1 \(the argument seed\)"):
        list(ssl_cli.train(out=tmp_path / "run", resume=True, seed=1, **SMALL))
    rest = list(ssl_cli.train(out=tmp_path / "run", resume=True, **{**SMALL, "epochs": 1}))
    assert isinstance(rest[-1], Finished)
    assert rest[-1].steps == 4
