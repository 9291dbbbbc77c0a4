"""The launcher of `--devices` reports the failure that ended the run; rank 0 reads it from the error files."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.launcher.api import LaunchConfig

from ssl_cli import status
from ssl_cli.engine.workers import launch
from ssl_cli.error_file import VARIABLE, read_error_files, write_error_file
from ssl_cli.errors import DataError, OutOfMemoryError, RankError, SslcliError, convert_exception

SIGKILL, SIGTERM = -9, -15
LOST = 75
"""Exit code of a rank that has lost the connection to another."""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A run folder whose rank 0 is training."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "plan.json").write_text('{"resolved": {}}')
    set_status(tmp_path / "run", "running")
    return tmp_path / "run"


def set_status(out: Path, state: str, reason: str = "") -> None:
    status.write(out, "0" * 32, state, None, reason)


def read(out: Path, name: str = "status.json") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / name).read_text())
    return found


def error_file(folder: Path, rank: int, monkeypatch: pytest.MonkeyPatch, error: SslcliError | None = None) -> Path:
    """The error file of a rank, as torch's launchers name it, with an error that the rank has written."""
    path = folder / "attempt_0" / str(rank) / "error.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv(VARIABLE, str(path))
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", "2")
    if error is not None:
        write_error_file(error)
    return path


def failure(rank: int, code: int, file: Path | str = "") -> ProcessFailure:
    return ProcessFailure(local_rank=rank, pid=1, exitcode=code, error_file=str(file))


def test_the_error_of_a_rank_is_reported_and_not_the_lost_connection(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = error_file(tmp_path, 1, monkeypatch, DataError("The moon is out.", "Wait for the sun."))
    set_status(out, "failed", "Another rank of this run was lost.")
    with pytest.raises(RankError, match=r"Rank 1 failed: The moon is out\.") as raised:
        launch._report({0: failure(0, LOST), 1: failure(1, 3, path)}, 2, out)
    assert (raised.value.code, raised.value.hint) == (3, "Wait for the sun.")
    assert (read(out)["state"], read(out)["exit_code"]) == ("failed", 3)
    assert read(out)["reason"] == "Rank 1 failed: The moon is out."


def test_the_error_of_rank_0_is_not_reported_twice(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = error_file(tmp_path, 0, monkeypatch, DataError("The moon is out."))
    set_status(out, "failed", "The moon is out.")
    assert launch._report({0: failure(0, 3, path), 1: failure(1, LOST)}, 2, out) == 3
    assert read(out)["reason"] == "The moon is out."


@pytest.mark.parametrize("other", [LOST, SIGTERM, 1])
def test_a_killed_rank_is_named(out: Path, other: int) -> None:
    set_status(out, "stopped", "SIGTERM was received")  # by which the launcher ends the other ranks
    failures = {1: failure(1, SIGKILL)}
    failures[0] = failure(0, other)
    failures[0].timestamp += 1
    with pytest.raises(RankError, match=r"Rank 1 of 2 \(from 0\) was ended by SIGKILL\.") as raised:
        launch._report(failures, 2, out)
    assert raised.value.code == 75
    assert (read(out)["state"], read(out)["exit_code"]) == ("failed", 75)


def test_a_run_that_was_stopped_is_no_failure(out: Path) -> None:
    set_status(out, "stopped", "SIGINT was received")
    assert launch._report({0: failure(0, 130), 1: failure(1, 130)}, 2, out) == 130
    assert read(out)["state"] == "stopped"


def test_out_of_memory_is_noted_for_the_next_resume(out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = error_file(tmp_path, 1, monkeypatch, OutOfMemoryError("There is not enough memory."))
    with pytest.raises(RankError):
        launch._report({0: failure(0, LOST), 1: failure(1, 5, path)}, 2, out)
    assert read(out, "plan.json") == {"resolved": {}, "out_of_memory": "Rank 1 failed: There is not enough memory."}


def test_a_rank_reads_the_first_error_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error_file(tmp_path, 2, monkeypatch, convert_exception(MemoryError()))
    monkeypatch.setattr("time.time", lambda: 100.0)
    error_file(tmp_path, 1, monkeypatch, DataError("The moon is out."))
    error_file(tmp_path, 0, monkeypatch, RankError("Another rank of this run was lost."))  # which is not written
    found = read_error_files()
    assert isinstance(found, RankError)
    assert (found.message, found.hint, found.code) == ("Rank 1 failed: The moon is out.", DataError.otherwise, 3)
    assert not found.out_of_memory
    error_file(tmp_path, 1, monkeypatch)
    found = read_error_files()  # not its own
    assert isinstance(found, RankError)
    assert found.out_of_memory
    monkeypatch.delenv(VARIABLE)
    assert read_error_files() is None


def test_a_file_that_torch_has_written_is_no_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = error_file(tmp_path, 1, monkeypatch)
    path.write_text('{"message": {"message": "Aborted", "extraInfo": {"timestamp": "5"}}}')
    error_file(tmp_path, 0, monkeypatch)
    assert read_error_files() is None
    path.write_text("{")
    assert read_error_files() is None


def test_the_shutdown_timeout_is_passed_only_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch 2.11 has none."""
    fields = [field for field in dataclasses.fields(LaunchConfig) if field.name != "shutdown_timeout"]
    older = dataclasses.make_dataclass(
        "LaunchConfig", [(field.name, Any, dataclasses.field(default=None)) for field in fields]
    )
    newer = dataclasses.make_dataclass(
        "LaunchConfig", [("shutdown_timeout", Any, dataclasses.field(default=None))], bases=(older,)
    )
    monkeypatch.setattr(launch, "LaunchConfig", newer)
    config: Any = launch._config(2)
    assert (config.shutdown_timeout, config.nproc_per_node) == (launch.SHUTDOWN_SECONDS, 2)
    monkeypatch.setattr(launch, "LaunchConfig", older)
    config = launch._config(2)
    assert not hasattr(config, "shutdown_timeout")
    assert (config.nproc_per_node, config.max_restarts) == (2, 0)
