"""Compiled networks: the same numbers, the same checkpoint, and only where a run is long enough."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.features import evaluating
from ssl_cli.engine.plan import compile as compiled
from ssl_cli.engine.plan import plan
from ssl_cli.engine.plan.compile import Work, choose, eagerly, networks, shared, switch
from ssl_cli.engine.plan.divide import Division
from ssl_cli.engine.run import checkpoint
from ssl_cli.events import Finished, Planned, Stepped, Warned
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
    switch(net, "on")
    assert list(net.state_dict()) == names
    assert all(network._compiled_call_impl is not None for network in networks(net))
    switch(net, "off")
    assert all(network._compiled_call_impl is None for network in networks(net))


@pytest.mark.parametrize("sizes", [(8,), (4, 4), (3, 5)])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_is_eager(sizes: tuple[int, ...], precision: str) -> None:
    """Rows, gradients and BatchNorm's statistics, whoever shares them."""
    eager, fast = made("simclr"), made("simclr")
    switch(fast, "on")
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
    switch(net, "on")
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
    assert state["resolved"]["compile"] == "on"


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
    assert states[1]["resolved"]["compile"] == "on"
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
    assert state["resolved"]["compile"] == "off"


WHOLE = Division(32, 1, 1, False, 0)
"""All rows at once."""


def work(seconds: float | None = 1e6, division: Division = WHOLE) -> Work:
    return Work(division, "fp32", "channels_last", seconds)


def chosen(
    seconds: float | None, asked: str = "auto", *, dry: bool = False, division: Division = WHOLE
) -> compiled.Compilation:
    net, wanted = made("simclr"), settings(Path("nowhere"), hardware={"compile": asked})
    return choose(wanted, net, work(seconds, division), dry=dry)


def test_only_a_run_that_is_long_enough_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def gain(*given: Any) -> tuple[float, float]:
        tried.append(given[-1])
        return 1.5, 0.01

    monkeypatch.setattr(compiled, "_gain", gain)
    assert chosen(60.0).way == "off"
    assert chosen(None).way == "off"
    assert chosen(1e6, dry=True).way == "off"
    assert chosen(1e6, "off").way == "off"
    assert not tried
    assert chosen(1e6).way == "on"
    assert tried == ["on"]
    assert chosen(60.0, "on").way == "on"


def test_what_is_not_faster_or_fails_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_gain", lambda *_: (1.01, 0.01))
    assert chosen(1e6).way == "off"
    monkeypatch.setattr(compiled, "_gain", lambda *_: 1 / 0)
    assert "on failed: division by zero" in chosen(1e6).reason


def test_without_a_compiler_or_with_parts_that_pass_again_it_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(1e6, "on", division=Division(32, 1, 1, True, 0)).way == "off"
    monkeypatch.setattr("shutil.which", lambda _: None)
    found = chosen(1e6, "on")
    assert found.way == "off"
    assert "C++" in found.reason


@pytest.mark.parametrize(
    ("on", "graphs", "eager", "way"),
    [
        (1.2, 1.6, 0.01, "graphs"),
        (1.2, 1.22, 0.01, "on"),  # no more than noise better, and graphs keep memory
        (1.01, 1.05, 0.01, "graphs"),
        (0.9, 1.01, 0.01, "off"),
        (1.2, None, 0.01, "on"),
        (1.2, 9.9, 0.06, "on"),  # a pass so long is not tried
    ],
)
def test_graphs_are_tried_where_a_pass_is_short_and_taken_where_they_are_best(
    on: float, graphs: float | None, eager: float, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gain(*given: Any) -> tuple[float, float]:
        if given[-1] == "on":
            return on, eager
        if graphs is None:
            raise RuntimeError("capture failed\nat length")
        return graphs, eager

    given_back: list[bool] = []
    monkeypatch.setattr(compiled, "_gain", gain)
    monkeypatch.setattr(compiled, "_no_graphs", lambda *_: None)
    monkeypatch.setattr(compiled, "abandon", lambda _: given_back.append(True))
    found = chosen(1e6)
    assert found.way == way
    assert f"on {on:.2f} x" in found.reason
    if eager > compiled.SMALL:
        assert "graphs" not in found.reason
    else:
        assert (f"graphs {graphs:.2f} x" if graphs else "graphs failed: capture failed") in found.reason
        assert given_back == [True] * (way != "graphs")


def test_a_ratio_is_the_median_of_pairs_and_its_first_passes_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    first = {"on": 1, "graphs": 3}
    for way, few in first.items():
        times = iter([(1.0, 99.0)] * few + [(2.0, 1.0), (3.0, 1.0), (9.0, 1.0)] * 3)
        monkeypatch.setattr(compiled, "_turn", lambda *_, times=times: next(times))
        found = compiled._gain(settings(Path("nowhere")), made("simclr"), work(), way)  # type: ignore[arg-type]
        assert found == (3.0, 3.0)


def test_graphs_need_a_card_one_process_and_all_rows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(60.0, "graphs") == compiled.Compilation("off", "CUDA graphs need a CUDA device")
    on_card: Any = nn.Linear(2, 2, device="meta")
    monkeypatch.setattr(compiled, "next", lambda _: SimpleNamespace(device=torch.device("cuda")), raising=False)
    assert compiled._no_graphs(on_card, work()) is None
    for division in (Division(16, 2, 2, False, 0), Division(16, 2, 1, False, 0), Division(32, 1, 0, False, 0)):
        assert "at once" in str(compiled._no_graphs(on_card, work(division=division)))
    monkeypatch.setattr(compiled, "world", lambda: SimpleNamespace(size=2))
    assert "single process" in str(compiled._no_graphs(on_card, work()))


def test_each_way_is_a_mode_of_torch_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **named: asked.append(named))
    net = made("simclr")
    for way in ("on", "graphs", "off"):
        switch(net, way)
    assert asked == [{"dynamic": False, "mode": None}, {"dynamic": False, "mode": "reduce-overhead"}]


@pytest.mark.parametrize(
    ("way", "alone", "several"), [("off", "off", "off"), ("on", "on", "on"), ("graphs", "graphs", "on")]
)
def test_who_goes_on_in_several_processes_has_no_graphs(way: str, alone: str, several: str) -> None:
    def share(*, alone: bool = False, spanning: bool = False) -> Any:
        return SimpleNamespace(alone=alone, spanning=spanning)

    assert shared(way, share(alone=True)) == alone
    assert shared(way, share()) == several
    assert shared(way, share(spanning=True)) == "off"


@pytest.mark.parametrize(
    ("kept", "way"), [(True, "on"), (False, "off"), ("graphs", "graphs"), ("on", "on"), (None, "off")]
)
def test_runs_from_before_there_were_graphs_go_on(kept: Any, way: str) -> None:
    facts: dict[str, Any] = {
        "device": "cpu",
        "precision": "fp32",
        "mode": "direct",
        "micro_batch": 8,
        "threads": 1,
        "images": 96,
    }
    resolved = plan.Resolved(**facts, **({} if kept is None else {"compile": kept}))
    assert resolved.compile == way
    assert plan.Resolved(**plan.as_dict(resolved)) == resolved


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Graphs as far as there can be any here: networks that are compiled as ever, and a list of what is told torch."""
    told: list[str] = []
    honest = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self, mode, **named: honest(self, **named))
    monkeypatch.setattr(compiled, "_no_graphs", lambda *_: None)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: told.append("begins"))
    monkeypatch.setattr(torch.compiler, "reset", lambda: told.append("reset"))
    return told


def test_every_step_with_graphs_is_marked(tmp_path: Path, recorded: list[str]) -> None:
    graphs: dict[str, Any] = {"hardware": {"compile": "graphs"}, "schedule": {"epochs": 1}}
    events = run(settings(tmp_path / "run", **graphs))
    steps = only(events, Finished)[0].steps
    assert recorded == ["begins"] * steps
    state, _ = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state["resolved"]["compile"] == "graphs"
    assert not only(events, Warned)


@pytest.mark.parametrize("error", [RuntimeError("no capture"), MemoryError("none left")])
def test_where_graphs_fail_or_leave_no_room_the_step_begins_again_without(
    error: Exception, tmp_path: Path, recorded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: nn.Module, **_: Any) -> None:
        def fails(*_: Any, **__: Any) -> Tensor:
            raise error

        self._compiled_call_impl = fails

    eager = run(settings(tmp_path / "a", hardware={"compile": "off"}, schedule={"epochs": 1}))
    monkeypatch.setattr(nn.Module, "compile", broken)
    failed = run(settings(tmp_path / "b", hardware={"compile": "graphs"}, schedule={"epochs": 1}))
    (warned,) = only(failed, Warned)
    assert str(error) in warned.message
    assert recorded == ["begins", "reset"]
    a, b = ([event.loss for event in only(events, Stepped)] for events in (eager, failed))
    assert a == b
    state, _ = checkpoint.newest(tmp_path / "b" / "checkpoints")
    assert state is not None
    assert (state["resolved"]["compile"], state["resolved"]["mode"]) == ("off", "direct")


def test_a_trial_leaves_the_objective_as_it_was() -> None:
    net, wanted = made("simclr"), settings(Path("nowhere"))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert min(compiled._gain(wanted, net, work(), "on")) > 0
    assert all(network._compiled_call_impl is None for network in networks(net))
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_plan_says_so(tmp_path: Path) -> None:
    events = run(settings(tmp_path / "run", hardware={"compile": "on"}, schedule={"epochs": 1}))
    (planned,) = only(events, Planned)
    (choice,) = (choice for choice in planned.choices if choice.name == "compile")
    assert (choice.value, choice.reason) == ("on", "given")


def test_graphs_that_cannot_be_are_warned_of(tmp_path: Path) -> None:
    events = run(settings(tmp_path / "run", hardware={"compile": "graphs"}, schedule={"epochs": 1}))
    (warned,) = only(events, Warned)
    assert warned.message == (
        "The run is not compiled, though --compile graphs asks for it: CUDA graphs need a CUDA device."
    )


def test_within_eagerly_nothing_is_compiled() -> None:
    net = made("simclr")
    switch(net, "on")
    torch._dynamo.utils.counters.clear()
    with eagerly():
        net(torch.rand(4, 3, 16, 16))
    assert graphs() == 0
