"""A step that is not finite moves nothing, whether its verdict is read at once or a step late."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli.engine import job
from ssl_cli.engine.gate import HostGate, LateGate
from ssl_cli.engine.run import checkpoint
from ssl_cli.errors import DivergedError
from ssl_cli.events import Stepped, Warned
from ssl_cli.objective import Batch, Objective, Targets
from tests.engine.test_pretrain import only, run, settings

METHODS: dict[str, dict[str, Any]] = {
    "simclr": {},
    "moco-v2": {"queue": 20},
    "instdisc": {"noise": 8},
}


@pytest.fixture(params=["host", "late"])
def which(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    gates = {"host": lambda *_: HostGate(), "late": lambda objective, optimiser, _: LateGate(objective, optimiser)}
    monkeypatch.setattr(job, "gate", gates[request.param])
    return str(request.param)


def spoil(monkeypatch: pytest.MonkeyPatch, kind: type[Objective], bad: set[int]) -> None:
    honest: Any = kind.loss

    def loss(self: Objective, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        found: Tensor = honest(self, z, targets, batch) * (torch.nan if batch.step in bad else 1.0)
        return found

    monkeypatch.setattr(kind, "loss", loss)


def kind_of(method: str) -> type[Objective]:
    from ssl_cli import registry

    found: type[Objective] = registry.load(registry.METHODS[method])
    return found


def weights(out: Path) -> dict[str, Tensor]:
    state, _ = checkpoint.newest(out / "checkpoints")
    assert state is not None
    moments = {
        f"{number}.{name}": value
        for number, kept in state["optimiser"]["state"].items()
        for name, value in kept.items()
        if isinstance(value, Tensor)
    }
    return {**state["objective"], **moments}


def trained(out: Path, method: str, optimiser: str = "sgd") -> tuple[list[Any], dict[str, Tensor]]:
    chosen = settings(
        out, method={"name": method, **METHODS[method]}, optim={"name": optimiser}, data={"images": 96, "size": 16},
        schedule={"epochs": 1}, run={"monitor": False},
    )  # fmt: skip
    return run(chosen), weights(out)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [{0}, {2, 3}, {5}])
def test_late_and_at_once_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, bad: set[int]
) -> None:
    """To the last bit: also of the steps after the bad one, and where the bad one is the first or the last."""
    spoil(monkeypatch, kind_of(method), bad)
    found = {}
    for name, made in {"host": lambda *_: HostGate(), "late": lambda net, moves, _: LateGate(net, moves)}.items():
        monkeypatch.setattr(job, "gate", made)
        found[name] = trained(tmp_path / name, method, "adamw")
    events, state = found["host"]
    late_events, late_state = found["late"]
    assert [event.step for event in only(events, Warned) if event.step] == [step + 1 for step in sorted(bad)]
    told = [event.loss for event in only(events, Stepped)]
    assert [event.loss for event in only(late_events, Stepped)] == pytest.approx(told, rel=0, nan_ok=True)
    assert [event.step for event in only(late_events, Warned) if event.step] == [step + 1 for step in sorted(bad)]
    assert state.keys() == late_state.keys()
    for name, value in state.items():
        assert torch.equal(value, late_state[name]), name
        assert bool(torch.isfinite(value.float()).all()), name


@pytest.mark.parametrize("method", METHODS)
def test_nothing_moves_in_a_bad_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, method: str) -> None:
    """What is kept after a bad last step is what was kept before it."""
    chosen: dict[str, Any] = {"method": {"name": method, **METHODS[method]}, "schedule": {"epochs": 1}}
    spoil(monkeypatch, kind_of(method), {5})
    run(settings(tmp_path / "run", **chosen, run={"checkpoint_every": 5, "monitor": False}))
    saved = sorted((tmp_path / "run" / "checkpoints").glob("*.pt"))
    before, after = (checkpoint.load(path) for path in saved[-2:])
    assert (before["step"], after["step"]) == (5, 6)
    for name, value in before["objective"].items():
        assert torch.equal(value, after["objective"][name]), name


def test_three_in_a_row_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    spoil(monkeypatch, kind_of("simclr"), {1, 3, 4, 5})
    with pytest.raises(DivergedError, match="3 steps in a row, up to step 6"):
        run(settings(tmp_path / "run"))


def test_the_late_gate_never_reads_a_verdict_that_is_not_due() -> None:
    net = torch.nn.Linear(2, 2)
    gate = LateGate(net, torch.optim.SGD(net.parameters(), 0.1))
    assert not gate.admits(torch.tensor(False))
    assert gate.admits(torch.tensor(True))
    before = net.weight.detach().clone()
    assert gate.admits(torch.tensor(False))
    with torch.no_grad():
        net.weight.fill_(torch.nan)
    assert not gate.settle()
    assert torch.equal(net.weight, before)
    assert [gate.took_back(), gate.took_back()] == [True, False]
