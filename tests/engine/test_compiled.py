"""Compiled networks: the same numbers, the same checkpoint, and only where a run is long enough."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_cli.engine import checkpoint, compiled
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.compiled import Work, choose, eagerly, networks, switch
from ssl_cli.engine.features import evaluating
from ssl_cli.events import Planned, Stepped, Warned
from ssl_cli.nn.batchnorm import Moments, grouped
from ssl_cli.objective import Objective
from tests.engine.test_pretrain import only, run, settings

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs are traced, cut into forward and backward and run; that C++ is written of them takes a test's time."""
    honest = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, **named: honest(self, backend="aot_eager", **named))
    torch._dynamo.reset()


def made(method: str = "moco-v2") -> Objective:
    extra = {"queue": 20} if method == "moco-v2" else {}
    return build_objective(settings(Path("nowhere"), method={"name": method, **extra}), CPU, 96)


def a_pass(net: Objective, x: Tensor, sizes: tuple[int, ...], precision: str) -> dict[str, Tensor]:
    moments = Moments()
    with grouped(net, sizes, moments), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        z = net(x)
    z.float().square().mul(torch.linspace(0, 1, z.shape[1])).sum().backward()
    moments.commit()
    found = {f"gradient of {name}": p.grad for name, p in net.named_parameters() if p.grad is not None}
    found |= {name: buffer.clone() for name, buffer in net.named_buffers()}
    net.zero_grad(set_to_none=True)
    return {**found, "z": z.detach()}


def test_the_backbone_and_what_follows_it_are_compiled_and_no_name_changes() -> None:
    net = made()
    names = list(net.state_dict())
    assert [type(network).__name__ for network in networks(net)] == ["ResNet", "ResNet"]
    switch(net, on=True)
    assert list(net.state_dict()) == names
    assert all(network._compiled_call_impl is not None for network in networks(net))
    switch(net, on=False)
    assert all(network._compiled_call_impl is None for network in networks(net))


@pytest.mark.parametrize("sizes", [(8,), (4, 4), (3, 5)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_is_eager(sizes: tuple[int, ...], precision: str) -> None:
    """Rows, gradients and BatchNorm's statistics, whoever shares them."""
    eager, fast = made("simclr"), made("simclr")
    switch(fast, on=True)
    x = torch.rand(8, 3, 16, 16)
    one, other = a_pass(eager, x, sizes, precision), a_pass(fast, x, sizes, precision)
    assert one.keys() == other.keys()
    for name, value in one.items():
        scale = value.float().abs().max().item()
        rough = 1e-5 if precision == "fp32" else 0.05
        torch.testing.assert_close(other[name], value, rtol=rough, atol=rough * scale, msg=name)


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def test_a_network_is_one_graph_and_a_new_step_makes_none() -> None:
    net = made("simclr")
    switch(net, on=True)
    torch._dynamo.utils.counters.clear()
    for _ in range(3):
        a_pass(net, torch.rand(8, 3, 16, 16), (4, 4), "fp32")
    assert graphs() == 1
    with evaluating(net), torch.no_grad():
        net.represent(torch.rand(5, 3, 16, 16))
    assert graphs() == 1


@pytest.mark.parametrize(
    "hardware", [{}, {"mode": "cached", "micro_batch": 16}, {"mode": "tail-keep", "micro_batch": 16}]
)
def test_a_compiled_run_follows_an_eager_one(tmp_path: Path, hardware: dict[str, Any]) -> None:
    gentle: dict[str, Any] = {"optim": {"lr": 1e-3}, "method": {"name": "moco-v2", "queue": 20}}
    eager = run(settings(tmp_path / "a", **gentle, hardware=hardware))
    fast = run(settings(tmp_path / "b", **gentle, hardware={**hardware, "compile": "on"}))
    a, b = ([event.loss for event in only(events, Stepped)] for events in (eager, fast))
    assert a[:4] == pytest.approx(b[:4], rel=1e-4)
    state, _ = checkpoint.newest(tmp_path / "b" / "checkpoints")
    assert state is not None
    assert state["resolved"]["compile"] is True


def test_a_compiled_run_goes_on_compiled_and_to_the_last_bit(tmp_path: Path) -> None:
    """The choice comes from the run, not from the command line, and nothing is tried anew."""
    compiled_run: dict[str, Any] = {"hardware": {"compile": "on"}, "schedule": {"epochs": 1}}
    whole = run(settings(tmp_path / "whole", **compiled_run))
    run(settings(tmp_path / "run", **compiled_run, run={"max_time": 1e-3}))
    rest = run(settings(tmp_path / "run"), resume=True)
    losses = {event.step: event.loss for event in only(whole, Stepped)}
    told = {event.step: event.loss for event in only(rest, Stepped)}
    assert told
    assert told == {step: losses[step] for step in told}
    states = [checkpoint.newest(tmp_path / name / "checkpoints")[0] for name in ("whole", "run")]
    assert states[0] is not None
    assert states[1] is not None
    assert states[1]["resolved"]["compile"] is True
    assert all(torch.equal(value, states[1]["objective"][name]) for name, value in states[0]["objective"].items())


def test_where_compiling_fails_the_step_begins_again_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: nn.Module, **_: Any) -> None:
        def fails(*_: Any, **__: Any) -> Tensor:
            raise RuntimeError("no such instruction: vfancy")

        self._compiled_call_impl = fails

    monkeypatch.setattr(nn.Module, "compile", broken)
    eager = run(settings(tmp_path / "a", hardware={"compile": "off"}, schedule={"epochs": 1}))
    failed = run(settings(tmp_path / "b", hardware={"compile": "on"}, schedule={"epochs": 1}))
    (warned,) = only(failed, Warned)
    assert "vfancy" in warned.message
    a, b = ([event.loss for event in only(events, Stepped)] for events in (eager, failed))
    assert a == b
    state, _ = checkpoint.newest(tmp_path / "b" / "checkpoints")
    assert state is not None
    assert state["resolved"]["compile"] is False


def chosen(seconds: float | None, asked: str = "auto", *, dry: bool = False, checkpointing: bool = False) -> Any:
    net, wanted = made("simclr"), settings(Path("nowhere"), hardware={"compile": asked})
    return choose(wanted, net, Work(16, "fp32", "channels_last", checkpointing, seconds), dry=dry)


def test_only_a_run_that_is_long_enough_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[float] = []

    def gain(*_: Any) -> float:
        tried.append(1.5)
        return 1.5

    monkeypatch.setattr(compiled, "_gain", gain)
    assert not chosen(60.0).on
    assert not chosen(None).on
    assert not chosen(1e6, dry=True).on
    assert not chosen(1e6, "off").on
    assert not tried
    assert chosen(1e6).on
    assert len(tried) == 1
    assert chosen(60.0, "on").on


def test_what_is_not_faster_or_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_gain", lambda *_: 1.01)
    assert not chosen(1e6).on
    monkeypatch.setattr(compiled, "_gain", lambda *_: 1 / 0)
    assert "failed" in chosen(1e6).reason


def test_without_a_compiler_or_with_parts_that_pass_again_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not chosen(1e6, "on", checkpointing=True).on
    monkeypatch.setattr("shutil.which", lambda _: None)
    found = chosen(1e6, "on")
    assert not found.on
    assert "C++" in found.reason


def test_a_trial_leaves_the_objective_as_it_was() -> None:
    net, wanted = made("simclr"), settings(Path("nowhere"))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert compiled._gain(wanted, net, Work(16, "fp32", "channels_last", False, 1e6)) > 0
    assert all(network._compiled_call_impl is None for network in networks(net))
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_plan_says_so(tmp_path: Path) -> None:
    events = run(settings(tmp_path / "run", hardware={"compile": "on"}, schedule={"epochs": 1}))
    (planned,) = only(events, Planned)
    (choice,) = (choice for choice in planned.choices if choice.name == "compile")
    assert (choice.value, choice.reason) == ("on", "given")


def test_within_eagerly_nothing_is_compiled() -> None:
    net = made("simclr")
    switch(net, on=True)
    torch._dynamo.utils.counters.clear()
    with eagerly():
        net(torch.rand(4, 3, 16, 16))
    assert graphs() == 0
