"""The real TensorBoard reads what a run wrote; the other libraries, where they are installed, in the slow tests."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssl_cli import packages
from ssl_cli.config.tree import Settings
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.errors import UsageError
from ssl_cli.events import Event, Stepped, Warned
from ssl_cli.registry import TRACKERS
from ssl_cli.trackers import places, track
from tests.engine.test_pretrain import run, settings

SMALL = ["--epochs", "2", "--batch", "16", "--image-size", "8", "--width", "0.0625", "--device", "cpu"]
SETS = ["--set", "data.images=64", "--set", "run.log_every=1", "--set", "run.evaluate=false", "--precision", "fp32"]
HANG = """
import threading
class Settings:
    def __init__(self, **_): pass
def init(**_):
    threading.Thread(target=threading.Event().wait).start()  # not a daemon: an exit would wait for it
    print("a word on stdout")
    threading.Event().wait()
"""


def chosen(out: Path, *trackers: str, **more: Any) -> Settings:
    return settings(out, run={"trackers": trackers, "checkpoint_every": 2, **more}, data={"size": 8, "images": 64})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def killed(out: Path, *trackers: str) -> list[Event]:
    """Train, and leave the folder as a kill after step 7 of 8 would, with the checkpoint of step 6."""
    found = run(chosen(out, *trackers))
    for file in (out / "checkpoints").glob("step_00000008*"):
        file.unlink()
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    before = [line for line in lines if json.loads(line)["step"] < 8]
    (out / "metrics.jsonl").write_text("".join(before))
    status = json.loads((out / "status.json").read_text())
    (out / "status.json").write_text(json.dumps({**status, "state": "running"}))
    return found


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_has_each_step_once_after_a_kill(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    out = tmp_path / "run"
    first = killed(out, "tensorboard")
    again = run(chosen(out, "tensorboard"), resume=True)
    losses = {event.step: event.loss for event in [*first, *again] if isinstance(event, Stepped)}
    assert not [event for event in again if isinstance(event, Warned) and event.about == "tracker"]
    found = scalars(out / "tensorboard")
    assert [step for step, _ in found["train/loss"]][:7] == [1, 2, 3, 4, 5, 6, 7]
    assert [value for _, value in found["train/loss"]][:7] == pytest.approx([losses[step] for step in range(1, 8)])
    assert (out / "trackers" / "tensorboard.json").is_file()
    run(chosen(out), overwrite=True)
    assert not (out / "tensorboard").exists()
    assert not (out / "trackers").exists()


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_named_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from ssl_cli.cli import main

    monkeypatch.setattr(packages, "is_installed", lambda name: False)
    out = tmp_path / "run"
    assert main(["pretrain", "--out", str(out), "--tracker", name]) == 2
    assert f"pip install 'sslcli[{name}]'" in capsys.readouterr().err
    assert not out.exists()


def test_a_resumed_run_has_its_own_trackers_unless_others_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "require_installed", lambda names: asked.append(tuple(names)))
    monkeypatch.setattr(track, "KINDS", {name: lambda run: 1 / 0 for name in TRACKERS})
    asked: list[tuple[str, ...]] = []
    out = tmp_path / "run"
    run(chosen(out, "trackio"))
    run(chosen(out, "mlflow"), resume=True, run__trackers="--tracker")
    run(chosen(out), resume=True)
    assert asked == [("trackio",), ("mlflow",), ("mlflow",)]


def test_a_missing_package_ends_a_resume_before_it_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    monkeypatch.setattr(packages, "is_installed", lambda name: True)
    events = pretrain(chosen(out, "wandb"), origins={}, resume=False, overwrite=False)
    while next(events).step < 2:
        pass
    events.close()
    monkeypatch.setattr(packages, "is_installed", lambda name: False)
    seen: list[Event] = []
    with pytest.raises(UsageError, match="wandb"):
        seen.extend(pretrain(chosen(out, "wandb"), origins={}, resume=True, overwrite=False))
    assert not [event for event in seen if isinstance(event, Stepped)]


@pytest.mark.slow
def test_a_tracker_that_hangs_holds_no_process(tmp_path: Path) -> None:
    (tmp_path / "wandb.py").write_text(HANG)
    paths = [str(tmp_path), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    program = (
        "import sys; from ssl_cli.trackers import track; from ssl_cli import status; "
        "track.ENDS = {kind: (state, 0.5) for kind, (state, _) in track.ENDS.items()}; "
        "from ssl_cli.__main__ import run; sys.exit(run())"
    )
    words = ["pretrain", "--out", "run", *SMALL, *SETS, "--tracker", "wandb", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=tmp_path, env=environment, capture_output=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    document = json.loads(done.stdout)
    assert "it did not end in time" in done.stderr.decode()
    assert document["command"] == "pretrain"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_the_libraries_take_a_run_and_continue_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    if not packages.is_installed(name):
        pytest.skip(f"{name} is not installed")
    for variable in ("WANDB_MODE", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("HOME", str(tmp_path))
    out = tmp_path / "run"
    found = [*killed(out, name)]
    id = places.earlier_id(out, name)
    found += run(chosen(out, name), resume=True)
    assert not [event for event in found if isinstance(event, Warned) and event.about == "tracker"]
    assert places.earlier_id(out, name) == id
    steps = {"wandb": wandb_steps, "mlflow": mlflow_steps, "trackio": trackio_steps}[name](out, id)
    assert sorted(steps) == [1, 2, 3, 4, 5, 6, 7, 8, 8]  # the kill forgot that step 8 was logged


def mlflow_steps(out: Path, id: str) -> list[int]:
    from mlflow import MlflowClient

    client = MlflowClient((out / "mlruns").as_uri())
    assert client.get_run(id).data.params["run.batch"] == "16"
    assert client.get_run(id).info.status == "FINISHED"
    return [metric.step for metric in client.get_metric_history(id, "train/loss")]


def trackio_steps(out: Path, id: str) -> list[int]:
    import sqlite3

    (place,) = (out.parent / "trackio").glob("*.db")
    with sqlite3.connect(place) as database:
        rows = database.execute("select step, metrics from metrics where run_name = ?", (id,))
        return [step for step, metrics in rows if "train/loss" in json.loads(metrics)]


def wandb_steps(out: Path, id: str) -> list[int]:
    from wandb.proto import wandb_internal_pb2

    found = []
    for file in sorted(out.glob(f"wandb/offline-run-*/run-{id}.wandb")):
        for data in log_records(file.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if "train/loss" in items:
                found.append(int(float(items["step"])))
    return found


def log_records(data: bytes, block: int = 1 << 15) -> Iterator[bytes]:
    """Read the records of LevelDB's log format, behind a header of 7 bytes."""
    place, parts = 7, b""
    while place + 7 <= len(data):
        if block - place % block < 7:  # too short for a record's own header
            place += block - place % block
        length, kind = struct.unpack_from("<HB", data, place + 4)
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in {1, 4}:  # whole, or its last part
            yield parts
            parts = b""
