"""Out of memory in a step: it starts over with smaller micro-batches, and the run ends as one that was planned so."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ssl_cli import memory
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.engine.plan import oom
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.errors import ResourceError, UsageError
from ssl_cli.events import Event, Finished, Stepped, Warned
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.planning.resolved import Resolved
from tests.engine.test_pretrain import COST, only, run, settings
from tests.engine.toy_run import RESOLVED

GENTLE = {"lr": 1e-3}


@pytest.fixture(autouse=True)
def _no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_cli.engine.plan.cost.measure_step", lambda *_, **__: COST)


def gpu_of(rows: int, monkeypatch: pytest.MonkeyPatch, since: int) -> None:
    """From its pass number `since` on, the network fails where more than `rows` pass at once with a gradient."""
    honest, passes = SimCLR.forward, []

    def forward(self: SimCLR, x: Tensor) -> Tensor:
        if not isinstance(x, FakeTensor) and self.training and torch.is_grad_enabled():
            passes.append(1)
            if len(passes) >= since and len(x) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return honest(self, x)

    monkeypatch.setattr(SimCLR, "forward", forward)


def test_the_step_is_done_again_with_fewer_rows_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_32 = {"batch": 32, "log_every": 1, "evaluate": False}
    whole = run(settings(tmp_path, optim=GENTLE, run={**of_32, "out": str(tmp_path / "whole")}))
    gpu_of(20, monkeypatch, since=3)
    events = run(settings(tmp_path, optim=GENTLE, run={**of_32, "out": str(tmp_path / "run")}))
    warned = [event for event in only(events, Warned) if "Out of memory in step 3" in event.message]
    assert len(warned) >= 1
    assert "16 rows" in warned[-1].message
    assert isinstance(events[-1], Finished)
    losses, undisturbed = ([event.loss for event in only(found, Stepped)] for found in (events, whole))
    assert losses == pytest.approx(undisturbed, rel=1e-3)
    saved = torch.load(next((tmp_path / "run" / "checkpoints").glob("*6.pt")), weights_only=True)
    assert (saved["resolved"]["mode"], saved["resolved"]["micro_batch"]) == ("cached", 16)


def test_it_ends_as_a_run_that_was_planned_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = {"precision": "fp32", "memory_format": "channels_last", "device": "cpu"}
    small = {**hardware, "micro_batch": 16, "mode": "cached"}
    planned = tmp_path / "planned"
    run(settings(planned, hardware=small))
    gpu_of(16, monkeypatch, since=1)
    run(settings(tmp_path / "run"))
    ends = [open_run(str(tmp_path / name), "cpu").objective for name in ("run", "planned")]
    assert fingerprint(ends[0]) == fingerprint(ends[1])


def test_what_a_step_did_before_it_was_out_of_memory_leaves_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hardware = {"precision": "fp32", "memory_format": "channels_last", "device": "cpu", "mode": "cached"}
    few, more = ({**hardware, "micro_batch": rows} for rows in (8, 16))
    fixed: dict[str, dict[str, Any]] = {"model": {"bn_group": 8}, "run": {"batch": 32}, "optim": GENTLE}
    run(settings(tmp_path / "planned", hardware=few, **fixed))
    gpu_of(8, monkeypatch, since=2)  # a micro-batch has left its gradient and its moments by then
    events = run(settings(tmp_path / "run", hardware=more, **fixed))
    assert "8 rows" in only(events, Warned)[-1].message
    ends = [open_run(str(tmp_path / name), "cpu").objective for name in ("run", "planned")]
    assert fingerprint(ends[0]) == fingerprint(ends[1])


def test_where_not_even_one_group_fits_the_run_ends_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu_of(4, monkeypatch, since=1)
    with pytest.raises(torch.OutOfMemoryError):
        run(settings(tmp_path / "run"))
    status: dict[str, Any] = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["exit_code"] == ResourceError.code


def test_a_resumed_run_takes_over_how_it_was_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    gpu_of(20, monkeypatch, since=3)
    run(settings(out, run={"batch": 32}))
    assert plan_of(out)["resolved"] == only_checkpoint(out)["resolved"]
    assert plan_of(out)["resolved"]["micro_batch"] == 16
    warned = only(run(settings(out), resume=True), Warned)
    assert not [event for event in warned if "memory" in event.message.lower()]


def test_a_run_that_ended_out_of_memory_is_divided_further_when_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def fails(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with monkeypatch.context() as patch:
        patch.setattr(SimCLR, "after_step", fails)  # no division of a step helps here
        with pytest.raises(torch.OutOfMemoryError):
            run(settings(out, run={"batch": 32}))
    before = plan_of(out)
    assert before["out_of_memory"] == "There is not enough memory."
    events = run(settings(out), resume=True)
    assert [
        event.message for event in only(events, Warned) if "continues with micro-batches of 32 rows" in event.message
    ]
    assert isinstance(events[-1], Finished)
    assert "out_of_memory" not in plan_of(out)
    assert before["resolved"]["micro_batch"] == 64
    assert (plan_of(out)["resolved"]["mode"], plan_of(out)["resolved"]["micro_batch"]) == ("cached", 32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """A run with a checkpoint every second step, and its events."""
    out = tmp_path_factory.mktemp("whole") / "run"
    of_32 = {"batch": 32, "log_every": 1, "evaluate": False, "checkpoint_every": 2, "out": str(out)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_cli.engine.plan.cost.measure_step", lambda *_, **__: COST)
        return out, run(settings(out, optim=GENTLE, run=of_32))


@pytest.mark.parametrize(
    ("hardware", "found"),
    [
        ({"micro_batch": 16}, {"micro_batch": 16}),
        ({"mode": "checkpointed"}, {"mode": "checkpointed", "checkpointing": True}),
        ({"mode": "cached", "micro_batch": 32}, {"mode": "cached", "micro_batch": 32, "kept_graphs": 0}),
        ({"memory": "900TB"}, {"mode": "direct"}),
    ],
)
def test_a_run_can_be_resumed_with_its_batch_divided_otherwise(
    tmp_path: Path, whole: tuple[Path, list[Event]], hardware: dict[str, Any], found: dict[str, Any]
) -> None:
    out = tmp_path / "run"
    shutil.copytree(whole[0], out)
    for path in sorted((out / "checkpoints").iterdir())[2:]:
        path.unlink()
    origins = {f"hardware.{name}": f"--{name}" for name in hardware}
    events = list(pretrain(settings(out, hardware=hardware), origins=origins, resume=True, overwrite=False))
    (note,) = (event.message for event in only(events, Warned) if "As asked" in event.message)
    assert f"micro-batches of {plan_of(out)['resolved']['micro_batch']} rows" in note
    assert plan_of(out)["resolved"].items() >= found.items()
    losses, undisturbed = ([event.loss for event in only(seen, Stepped)] for seen in (events, whole[1]))
    assert losses == pytest.approx(undisturbed[-len(losses) :], rel=1e-3)
    assert open_run(str(out), "cpu").settings.hardware.micro_batch == hardware.get("micro_batch")


def test_a_division_that_cannot_be_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(settings(out))
    before = [(out / name).read_bytes() for name in ("settings.toml", "plan.json")]
    with pytest.raises(UsageError, match="smaller than a BatchNorm group"):
        run(settings(out, hardware={"micro_batch": 8}), resume=True, hardware__micro_batch="--micro-batch")
    assert before == [(out / name).read_bytes() for name in ("settings.toml", "plan.json")]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (None, {"mode": "cached", "micro_batch": 16, "kept_graphs": 0, "checkpointing": False}),
        ("900TB", {"mode": "cached", "micro_batch": 16, "kept_graphs": 0, "checkpointing": False}),
    ],
    ids=["by default", "with more memory than there is"],
)
def test_a_run_that_the_kernel_killed_is_divided_further_whatever_is_free(
    tmp_path: Path, asked: str | None, found: dict[str, Any]
) -> None:
    resolved, notes = resumed_after_a_kill(tmp_path, {"memory": asked})
    assert resolved.items() >= found.items()
    assert "The kernel may have killed this run" in notes[0]
    assert "micro-batches of 16 rows" in notes[0]


def test_a_run_that_the_kernel_killed_is_planned_in_the_memory_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = memory.resident()
    monkeypatch.setattr("ssl_cli.cgroups.free", lambda: 0)
    monkeypatch.setattr("ssl_cli.memory.resident", lambda: real)
    with pytest.raises(ResourceError, match="limits here leave"):
        resumed_after_a_kill(tmp_path, {"memory": "900TB"})


def test_a_killed_run_is_divided_no_less_than_what_fits_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "replan", lambda *_: (replan_to(8, checkpointing=True), 77))
    resolved, _ = resumed_after_a_kill(tmp_path, {})
    assert (resolved["mode"], resolved["micro_batch"], resolved["checkpointing"]) == ("checkpointed", 8, True)


def test_on_a_gpu_a_kill_leaves_the_micro_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oom, "cache_bytes", lambda *_: 77)
    on_gpu: Any = SimpleNamespace(parameters=lambda: iter([SimpleNamespace(device=torch.device("cuda"))]))
    before = replan_to(64)
    after, ram, notes = oom.resume_smaller(settings(tmp_path), on_gpu, before, None, note=None, killed=True)
    assert (after, ram, len(notes)) == (before, 77, 1)


def replan_to(rows: int, *, checkpointing: bool = False) -> Resolved:
    return Resolved.from_dict({**RESOLVED, "micro_batch": rows, "checkpointing": checkpointing, "images": 64})


def resumed_after_a_kill(folder: Path, hardware: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return how a run of 32 rows, undivided, is divided after the kernel killed it, and what is warned of."""
    chosen = settings(folder, hardware=hardware, model={"bn_group": 4}, run={"batch": 16})
    objective = build_objective(chosen, torch.device("cpu"))
    before = Resolved.from_dict({**RESOLVED, "micro_batch": 32, "kept_graphs": 1, "images": 64})
    after, _, notes = oom.resume_smaller(chosen, objective, before, None, note=None, killed=True)
    assert oom.resume_smaller(chosen, objective, before, None, note=None)[::2] == (before, [])
    return after.as_dict(), notes


def plan_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "plan.json").read_text())
    return found


def only_checkpoint(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(max((out / "checkpoints").glob("*.pt")), weights_only=True)
    return found
