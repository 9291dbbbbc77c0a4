"""Lives of a run folder in a few operations each, and what must hold however one of them ends."""

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ssl_cli import checkpoint, events, status
from ssl_cli.config.tree import Settings
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import CheckpointError
from tests.faults.operations import Copies, Operation, Recorder

Commit = Callable[[int], None]
KEEP = 2
SETTINGS = Settings.model_validate({"method": {"name": "simclr"}})


def state(step: int) -> dict[str, Any]:
    """Return a training state of a few kilobytes, different at each step."""
    rows = torch.arange(1500, dtype=torch.float32) + step
    return {
        "settings": {}, "resolved": {}, "objective": {"w": rows}, "optimiser": {"m": rows * 2}, "step": step,
        "epoch": 0, "cursor": step, "rng": {"seed": 0},
    }  # fmt: skip


def save(folder: RunFolder, commit: Commit, *steps: int) -> None:
    for step in steps:
        path = checkpoint.save(folder.checkpoints, state(step), KEEP, folder.id)
        commit(step)
        folder.record(events.Saved(step=step, path=str(path)))


@contextlib.contextmanager
def opened(out: Path, **words: bool) -> Any:
    folder = RunFolder(out, **words)
    try:
        yield folder
    finally:
        folder.close()


def begin(out: Path, commit: Commit) -> None:
    with opened(out) as folder:
        folder.write_environment({"torch": "2"})
        folder.write_plan(events.Planned(choices=()), {})
        folder.write_settings(SETTINGS)
        folder.record(events.Started(out=str(out), steps=20))
        save(folder, commit, 5, 10, 15)
        folder.write_status("finished", 0)


def resume(out: Path, commit: Commit) -> None:
    with opened(out, resume=True) as folder:
        found, _ = checkpoint.newest(folder.checkpoints, folder.id)
        assert found is not None
        folder.amend_plan(resolved={"device": "cpu"})
        folder.write_settings(SETTINGS)
        save(folder, commit, found["step"] + 5, found["step"] + 10)
        folder.write_status("stopped", 75)


def overwrite(out: Path, commit: Commit) -> None:
    with opened(out, overwrite=True) as folder:
        folder.write_settings(SETTINGS)
        save(folder, commit, 1, 2, 3)


def nothing(out: Path) -> None:
    pass


def saved(out: Path) -> None:
    begin(out, lambda step: None)


def killed(out: Path) -> None:
    """A run that was killed within a write."""
    saved(out)
    (out / ".plan.json.tmp.7").write_bytes(b"{")
    (out / "checkpoints" / ".step_00000020.pt.tmp.7").write_bytes(b"PK")
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"event": "sav')


def damaged(out: Path) -> None:
    """A run whose newest checkpoint is damaged."""
    saved(out)
    newest = out / "checkpoints" / "step_00000015.pt"
    newest.write_bytes(newest.read_bytes()[:-9])


@dataclass(frozen=True)
class Script:
    """A life of a run folder: what is there before, and the operations.

    Attributes:
        prepare: makes what is there before.
        act: the operations; calls its second argument with each step that was saved.
        before: the step that is committed before, None if there is none.
        keeps: whether that must stay until another one is committed: not where it is overwritten.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path, Commit], None]
    before: int | None = None
    keeps: bool = True


SCRIPTS = {
    "a new run": Script(nothing, begin),
    "resumed": Script(saved, resume, 15),
    "resumed after a kill": Script(killed, resume, 15),
    "resumed from the one before a damaged one": Script(damaged, resume, 10),
    "overwritten": Script(saved, overwrite, 15, keeps=False),
}


@dataclass(frozen=True)
class Life:
    """A script that ran once without a fault: its operations, and the folder it began with."""

    script: Script
    before: Path
    copies: Path
    log: list[Operation]

    def operations(self) -> list[int]:
        """Return the numbers of the operations."""
        return [number for number, operation in enumerate(self.log) if operation.kind != "commit"]

    def allowed(self, number: int) -> set[int | None]:
        """Steps that may be loaded after `number` operations: the committed one, and the one that is being saved."""
        steps = [operation.offset for operation in self.log if operation.kind == "commit"]
        done = [operation.offset for operation in self.log[:number] if operation.kind == "commit"]
        old = done[-1] if done else self.script.before
        following = steps[len(done) : len(done) + 1]
        if self.script.keeps or done:
            return {old, *following}
        return {None, old, *following}


def record(script: Script, folder: Path) -> Life:
    """Run a script without a fault; keep the folder as it was before each operation."""
    before, out = folder / "before", folder / "recorded" / "run"
    before.mkdir()
    script.prepare(before / "run")
    shutil.copytree(before, out.parent)
    recorder = Recorder(out.parent, Copies(out.parent, folder / "copies"))
    with recorder.recording():
        script.act(out, recorder.commit)
    return Life(script, before, folder / "copies", recorder.log)


def assert_intact(out: Path, allowed: set[int | None], life: Life) -> None:
    """Reopen the run as a resume does: one of the allowed steps is loaded whole, and the run can continue.

    A run that replaces another has an id of its own; no checkpoint of the other one is loaded then.
    """
    replaced = status.read(life.before / "run").get("run")
    with opened(out, resume=True) as folder:
        try:
            found, _ = checkpoint.newest(folder.checkpoints, folder.id)
        except CheckpointError:
            assert None in allowed
            return
        step = found["step"] if found else None
        if replaced not in {None, folder.id}:
            allowed = allowed & {None, *(operation.offset for operation in life.log if operation.kind == "commit")}
        assert step in allowed
        if found:
            assert torch.equal(found["objective"]["w"], state(found["step"])["objective"]["w"])
        assert not [path for path in out.rglob(".*.tmp.*")]
        for line in (out / "metrics.jsonl").read_bytes().splitlines():
            json.loads(line)
        checkpoint.save(folder.checkpoints, state(99), KEEP, folder.id)
        latest, _ = checkpoint.newest(folder.checkpoints, folder.id)
        assert latest is not None
        assert latest["step"] == 99
