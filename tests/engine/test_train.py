"""The training loop: what a step reads on the host, and what a non-finite step moves."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_cli import checkpoint, registry
from ssl_cli.engine.train import Trainer, train
from ssl_cli.errors import DivergedError
from ssl_cli.events import Finished, Stepped, Warned
from ssl_cli.objective import Batch, Objective, Targets
from tests.engine.test_pretrain import only, run, settings
from tests.engine.trainers import METHODS, make_trainer

READS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "unique"}
"""Operations whose result, or its size, the host must know."""


class HostReads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count what the host reads of tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if name in READS:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def run_step(trainer: Trainer, number: int) -> None:
    """Run a step from its targets to the state that it moves; without the loop's read of whether it is finite."""
    views, batch = trainer.views.take(number)
    targets = trainer.targets(views, batch)
    _, z = trainer.gradient(views, targets, batch)
    trainer.update(number)
    trainer.objective.after_step(z, targets, batch, 0.1)


@pytest.mark.parametrize(
    ("method", "optimiser"),
    [*((method, "sgd") for method in METHODS), ("simclr", "adamw"), ("simclr", "lars"), ("moco-v2", "lars")],
)
def test_nothing_in_a_step_makes_the_host_wait(method: str, optimiser: str) -> None:
    trainer = make_trainer(method, optimiser)
    run_step(trainer, 0)  # the first step creates the optimiser's state
    trainer.views.take(1)
    with HostReads() as reads:
        run_step(trainer, 1)
    assert reads.names == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_nothing_in_a_step_synchronises_the_gpu(method: str) -> None:
    trainer = make_trainer(method, "sgd", "cuda")
    for number in range(2):
        run_step(trainer, number)
    trainer.views.take(2)
    torch.cuda.set_sync_debug_mode("error")
    try:
        run_step(trainer, 2)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_next_views_are_prefetched_before_the_host_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer("simclr")
    order: list[str] = []
    prefetch, isfinite = trainer.views.prefetch, torch.isfinite

    def recorded_prefetch() -> None:
        order.append("prefetch")
        prefetch()

    def recorded_read(x: Tensor) -> Tensor:
        order.append("read")
        return isfinite(x)

    monkeypatch.setattr(trainer.views, "prefetch", recorded_prefetch)
    monkeypatch.setattr(torch, "isfinite", recorded_read)
    assert isinstance(list(train(trainer))[-1], Finished)
    assert order == ["prefetch", "read"] * trainer.schedule.steps


def make_non_finite(monkeypatch: pytest.MonkeyPatch, method: str, steps: set[int]) -> None:
    """Let the loss of some steps, from 0, be NaN."""
    kind: type[Objective] = registry.load(registry.METHODS[method])
    honest: Any = kind.loss

    def loss(self: Objective, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        found: Tensor = honest(self, z, targets, batch) * (torch.nan if batch.step in steps else 1.0)
        return found

    monkeypatch.setattr(kind, "loss", loss)


def saved(out: Path) -> list[dict[str, Any]]:
    """The checkpoints of a run, oldest first."""
    return [checkpoint.load(path) for path in sorted((out / "checkpoints").glob("*.pt"))]


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    values = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return [tensor for value in values for tensor in tensors(value)]


@pytest.mark.parametrize("method", ["simclr", "moco-v2", "instdisc"])
def test_a_non_finite_step_moves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Neither weights nor running statistics, optimiser state, queue, bank or momentum encoder."""
    make_non_finite(monkeypatch, method, {1, 5})
    chosen = settings(
        tmp_path / "run", method={"name": method, **METHODS[method]}, optim={"name": "adamw"},
        schedule={"epochs": 1}, run={"checkpoint_every": 5, "monitor": False},
    )  # fmt: skip
    events = run(chosen)
    assert [event.step for event in only(events, Warned) if "skipped" in event.message] == [2, 6]
    assert [event.step for event in only(events, Stepped)] == [1, 2, 3, 4, 5, 6]
    before, after = saved(tmp_path / "run")
    assert (before["step"], after["step"]) == (5, 6)
    for part in ("objective", "optimiser"):
        pairs = list(zip(tensors(before[part]), tensors(after[part]), strict=True))
        assert len(pairs) > 20
        assert all(torch.equal(a, b) and bool(torch.isfinite(a.float()).all()) for a, b in pairs)


def test_three_non_finite_steps_in_a_row_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_non_finite(monkeypatch, "simclr", {1, 3, 4, 5})
    with pytest.raises(DivergedError, match="3 steps in a row, up to step 6"):
        run(settings(tmp_path / "run"))
