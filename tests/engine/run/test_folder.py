"""Run folders: locking, resume and overwrite, and files that are never deleted."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_cli import lock
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import LockedError, UsageError
from ssl_cli.run_path import default_path


def test_a_folder_without_a_run_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for resume, overwrite in ((False, False), (True, False), (False, True)):
        with pytest.raises(UsageError):
            RunFolder(tmp_path, resume=resume, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_run_is_resumed_or_overwritten_only_by_request(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = RunFolder(out)
    (out / "checkpoints" / "step_00000001.pt").write_bytes(b"x")
    (out / "notes.md").write_text("mine")
    first.close()
    with pytest.raises(UsageError, match="not empty"):
        RunFolder(out)
    with pytest.raises(UsageError, match="exclude each other"):
        RunFolder(out, resume=True, overwrite=True)
    RunFolder(out, resume=True).close()
    assert (out / "checkpoints" / "step_00000001.pt").exists()
    RunFolder(out, overwrite=True).close()
    assert not list((out / "checkpoints").iterdir())
    assert (out / "notes.md").read_text() == "mine"


def test_temporary_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").close()
    leftover = tmp_path / "run" / "checkpoints" / ".step_00000005.pt.tmp.123"
    leftover.write_bytes(b"half")
    RunFolder(tmp_path / "run", resume=True).close()
    assert not leftover.exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """The lock is released when the process that holds it is killed."""
    out = tmp_path / "run"
    code = (
        "import sys, time; from pathlib import Path; from ssl_cli.engine.run.folder import RunFolder;"
        f"f = RunFolder(Path({str(out)!r})); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"process {holder.pid}"):
            RunFolder(out, resume=True)
        holder.kill()
    RunFolder(out, resume=True).close()


def test_a_child_process_does_not_keep_the_lock(tmp_path: Path) -> None:
    """As a decode worker or a shell that outlives a killed run would."""
    code = (
        "import os, sys, time; from pathlib import Path; from ssl_cli import lock;"
        "held = lock.acquire(Path(sys.argv[1])); child = os.fork();"
        "child or time.sleep(60); print(child, flush=True); os.kill(os.getpid(), 9)"
    )
    words = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        holder.wait()
        try:
            lock.acquire(tmp_path).close()
        finally:
            os.kill(child, signal.SIGKILL)


def test_out_may_not_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        RunFolder(tmp_path / "file")


def test_default_names_have_no_separators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = default_path("../evil/file.py:Class")
    assert path.parent == Path("runs")
    assert "/" not in path.name
    path.mkdir(parents=True)
    assert default_path("../evil/file.py:Class") != path
