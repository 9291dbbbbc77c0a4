"""Each file operation of a run fails, or ends its process: an old or a new state loads, never an older one."""

import errno
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ssl_cli import checkpoint
from ssl_cli.errors import ResourceError, SslcliError, convert_exception
from tests.faults.operations import KILLED, Alters, Ends, Fault, Raises, Recorder, Short
from tests.faults.scripts import Life, assert_intact, begin, resume

WRITING = ("open", "write", "mkdir")
CHANGING = (*WRITING, "truncate", "rename", "unlink", "rmdir")
ERRORS: dict[str, Callable[[int, Path], Fault]] = {
    "input/output error": lambda at, root: Raises(at, root, errno.EIO),
    "disk full": lambda at, root: Raises(at, root, errno.ENOSPC, WRITING),
    "quota": lambda at, root: Raises(at, root, errno.EDQUOT, WRITING),
    "read-only": lambda at, root: Raises(at, root, errno.EROFS, CHANGING),
    "short write": lambda at, root: Short(at, root, errno.ENOSPC, WRITING),
}


pytestmark = pytest.mark.usefixtures("unsynced")  # no power is lost here


def fail(life: Life, number: int, kind: str, root: Path) -> None:
    """Let one operation fail: the error names the folder, and the run can be resumed when the disk is well again."""
    shutil.copytree(life.before, root)
    recorder = Recorder(root, ERRORS[kind](number, root))
    found: list[SslcliError] = []
    try:
        with recorder.recording():
            life.script.act(root / "run", recorder.commit)
    except Exception as error:
        found.append(convert_exception(error))
    for failure in found:
        assert failure.code == 5, (life.log[number], failure)
        assert str(root) in failure.message, (life.log[number], failure.message)
    commits = [n for n, operation in enumerate(life.log) if operation.kind == "commit"]
    committed = sum(operation.kind == "commit" for operation in recorder.log)
    assert_intact(root / "run", life.allowed(commits[committed - 1] + 1 if committed else 0), life)
    shutil.rmtree(root)


def test_any_operation_fails(life: Life, tmp_path: Path) -> None:
    """Each in one of the ways, of a new run; of the others a sample."""
    numbers: Sequence[int] = life.operations()
    for number in numbers if life.script.act is begin else numbers[::5]:
        fail(life, number, list(ERRORS)[number % len(ERRORS)], tmp_path / str(number))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ERRORS)
def test_any_operation_fails_in_every_way(life: Life, kind: str, tmp_path: Path) -> None:
    for number in life.operations():
        fail(life, number, kind, tmp_path / str(number))


def test_the_process_ends_at_any_operation(life: Life) -> None:
    copies = sorted(life.copies.iterdir(), key=lambda copy: int(copy.name))
    written = {operation.to or operation.path for operation in life.log}
    steps = [operation.offset for operation in life.log if operation.kind == "commit"]
    names = [f"checkpoints/step_{step:08d}{ending}" for step in steps for ending in (".pt", ".json")]
    names += ["status.json"] * (life.script.act is not resume)  # that of a finished run stays until a step is taken
    assert {f"run/{name}" for name in (*names, "metrics.jsonl", "settings.toml")} <= written
    done = [life.log[number] for number in life.operations()]
    assert len(copies) == 1 + sum(operation.kind != "sync" for operation in done[:-1])
    for copy in copies:
        assert_intact(copy / "run", life.allowed(int(copy.name)), life)


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=pytest.mark.slow)])
def test_a_real_process_ends_at_any_operation(life: Life, done: bool, stride: int, tmp_path: Path) -> None:
    for number in life.operations()[stride // 2 :: stride]:
        root = tmp_path / str(number)
        shutil.copytree(life.before, root)
        recorder = Recorder(root, Ends(number, done=done))
        if (child := os.fork()) == 0:
            try:
                with recorder.recording():
                    life.script.act(root / "run", recorder.commit)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
        assert_intact(root / "run", life.allowed(number), life)
        shutil.rmtree(root)


@pytest.mark.parametrize("path", ["checkpoints/step_00000010.pt", "checkpoints/step_00000010.json"])
def test_a_disk_that_alters_what_is_written_costs_no_checkpoint(path: str, tmp_path: Path) -> None:
    """What was written is read before an older checkpoint is deleted: of the two that are kept, both would be bad."""
    recorder = Recorder(tmp_path, Alters(path))
    with recorder.recording(), pytest.raises(ResourceError, match="did not keep"):
        begin(tmp_path / "run", recorder.commit)
    found, warnings = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert found is not None
    assert found["step"] == 5
    assert "damaged" in warnings[0]
