"""Compiled networks: the same numbers, the same checkpoint, and the rule of `--compile auto`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_cli import checkpoint
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.plan.compile import allowed, choose
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.events import Finished, Planned, Started, Stepped, Warned
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.nn.batchnorm import Moments, grouped
from ssl_cli.nn.compile import eager, is_compiler_error, networks, set_compile
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.objective import Objective
from tests.engine.test_pretrain import COST, only, run, settings

CPU = torch.device("cpu")
COMPILE = nn.Module.compile


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
    set_compile(net, "on")
    assert list(net.state_dict()) == names
    assert all(network._compiled_call_impl is not None for network in networks(net))
    set_compile(net, "off")
    assert all(network._compiled_call_impl is None for network in networks(net))


@pytest.mark.parametrize(
    ("sizes", "precision"),
    [
        pytest.param((8,), "bf16", marks=pytest.mark.slow),
        pytest.param((4, 4), "fp32", marks=pytest.mark.slow),
        pytest.param((3, 5), "bf16", marks=pytest.mark.slow),
    ],
)
def test_compiled_is_eager(sizes: tuple[int, ...], precision: str) -> None:
    """Rows, gradients and BatchNorm's statistics, whoever shares them."""
    plain, fast = made("simclr"), made("simclr")
    set_compile(fast, "on")
    x = torch.rand(8, 3, 16, 16)
    one, other = a_pass(plain, x, sizes, precision), a_pass(fast, x, sizes, precision)
    assert one.keys() == other.keys()
    for name, value in one.items():
        scale = value.float().abs().max().item()
        rough = 1e-5 if precision == "fp32" else 0.05
        torch.testing.assert_close(other[name], value, rtol=rough, atol=rough * scale, msg=name)


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


@pytest.mark.slow
def test_a_network_is_one_graph_and_a_new_step_makes_none() -> None:
    net = made("simclr")
    set_compile(net, "on")
    torch._dynamo.utils.counters.clear()
    for _ in range(3):
        a_pass(net, torch.rand(8, 3, 16, 16), (4, 4), "fp32")
    assert graphs() == 1
    with evaluating(net), torch.no_grad():
        net.represent(torch.rand(5, 3, 16, 16))
    assert graphs() == 1


@pytest.mark.parametrize(
    "hardware",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"mode": "cached", "micro_batch": 16}, marks=pytest.mark.slow),
        pytest.param({"mode": "tail-keep", "micro_batch": 16}, marks=pytest.mark.slow),
    ],
)
def test_a_compiled_run_follows_an_eager_one(tmp_path: Path, hardware: dict[str, Any]) -> None:
    gentle: dict[str, Any] = {"optim": {"lr": 1e-3}, "method": {"name": "moco-v2", "queue": 20}}
    plain = run(settings(tmp_path / "a", **gentle, hardware=hardware))
    fast = run(settings(tmp_path / "b", **gentle, hardware={**hardware, "compile": "on"}))
    a, b = ([event.loss for event in only(events, Stepped)] for events in (plain, fast))
    assert a[:4] == pytest.approx(b[:4], rel=1e-4)
    state, _ = checkpoint.newest(tmp_path / "b" / "checkpoints")
    assert state is not None
    assert state["resolved"]["compile"] == "on"


@pytest.mark.slow
def test_a_resumed_run_is_compiled_too_and_equal_to_the_last_bit(tmp_path: Path) -> None:
    """The choice comes from the run, not from the command line, and nothing is chosen again."""
    compiled_run: dict[str, Any] = {"hardware": {"compile": "on"}, "schedule": {"epochs": 1}}
    whole = run(settings(tmp_path / "whole", **compiled_run))
    run(settings(tmp_path / "run", **compiled_run, run={"max_time": 1e-3}))
    rest = run(settings(tmp_path / "run"), resume=True)
    losses = {event.step: event.loss for event in only(whole, Stepped)}
    again = {event.step: event.loss for event in only(rest, Stepped)}
    assert again
    assert again == {step: losses[step] for step in again}
    states = [checkpoint.newest(tmp_path / name / "checkpoints")[0] for name in ("whole", "run")]
    assert states[0] is not None
    assert states[1] is not None
    assert states[1]["resolved"]["compile"] == "on"
    assert all(torch.equal(value, states[1]["objective"][name]) for name, value in states[0]["objective"].items())


def failing(backend_fails: Exception) -> Any:
    """Return an `nn.Module.compile` whose backend raises."""

    def backend(*_: Any) -> Any:
        raise backend_fails

    return lambda self, **_: COMPILE(self, backend=backend)


def test_where_the_compiler_fails_the_step_starts_over_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short: dict[str, Any] = {"schedule": {"epochs": 1}}
    eagerly = run(settings(tmp_path / "a", hardware={"compile": "off"}, **short))
    monkeypatch.setattr(nn.Module, "compile", failing(RuntimeError("no such instruction: vfancy")))
    failed = run(settings(tmp_path / "b", hardware={"compile": "on"}, **short))
    (warned,) = only(failed, Warned)
    assert "Compiling failed in step 1" in warned.message
    assert "vfancy" in warned.message
    a, b = ([event.loss for event in only(events, Stepped)] for events in (eagerly, failed))
    assert a == b
    state, _ = checkpoint.newest(tmp_path / "b" / "checkpoints")
    assert state is not None
    assert state["resolved"]["compile"] == "off"


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["forward", "loss"])
def test_an_exception_of_the_user_s_method_is_not_taken_for_the_compiler_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    calls: list[int] = []

    def broken(self: SimCLR, *args: Any) -> Any:
        if calls:
            calls.append(1)
            if verb == "forward":
                self.backbone(args[0])  # compiled by then
            raise ValueError("my own mistake")
        return honest(self, *args)

    honest = getattr(SimCLR, verb)
    monkeypatch.setattr(SimCLR, verb, broken)
    monkeypatch.setattr("ssl_cli.engine.plan.cost.measure_step", lambda *_, **__: COST)
    events = []
    chosen = settings(tmp_path / "run", hardware={"compile": "on"})
    running = pretrain(chosen, origins={}, resume=False, overwrite=False)

    def follow() -> None:
        for event in running:
            events.append(event)
            calls.extend([1] * isinstance(event, Started))

    with pytest.raises(ValueError, match="my own mistake"):
        follow()
    assert len(calls) == 2
    assert not only(events, Warned)


def raised(error: Exception, module: str = "mine") -> Exception:
    """Raise an exception in a function of this module."""
    scope: dict[str, Any] = {"__name__": module, "error": error}
    try:
        exec("def fail(): raise error\nfail()", scope)
    except Exception as found:
        return found
    raise AssertionError


def test_errors_of_the_compiler_are_known_by_their_type_or_by_where_they_are_raised() -> None:
    assert is_compiler_error(raised(torch._dynamo.exc.Unsupported("graph break")))
    assert is_compiler_error(raised(torch._inductor.exc.CppCompileError([], "")))
    assert is_compiler_error(raised(RuntimeError("capture failed"), "torch._inductor.cudagraph_trees"))
    assert is_compiler_error(raised(RuntimeError("PTX"), "triton.backends.nvidia.compiler"))
    assert not is_compiler_error(raised(RuntimeError("capture failed")))
    assert not is_compiler_error(raised(ValueError("my own mistake")))


def chosen(asked: str = "auto", device: str = "cuda", **more: Any) -> tuple[str, str]:
    usual = {"checkpointing": False, "undivided": True, "world_size": 1, "split_groups": False, "seconds": 1e6}
    return choose(asked, device, **{**usual, **more})


def test_auto_compiles_long_runs_on_a_single_cuda_device() -> None:
    assert chosen() == ("on", "a run of 30 min 00 s or more")
    assert chosen(seconds=1800.0)[0] == "on"
    assert chosen(seconds=1799.0) == ("off", "takes longer than it saves; auto compiles runs of 30 min 00 s and more")
    for more in ({"seconds": None}, {"world_size": 2}, {"device": "cpu"}, {"device": "mps"}, {"checkpointing": True}):
        mode, reason = chosen(**more)
        assert mode == "off"
        assert reason
    assert chosen("on", seconds=None) == ("on", "given")
    assert chosen("on", device="cpu") == ("on", "given")
    assert chosen("off") == ("off", "given")
    assert chosen("on", undivided=False, world_size=2) == ("on", "given")


def test_obstacles_are_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "checkpointing" in chosen("on", checkpointing=True)[1]
    assert "other ranks" in chosen("on", world_size=2, split_groups=True)[1]
    assert chosen("graphs", device="cpu") == ("off", "CUDA graphs need a CUDA device")
    assert "single process" in chosen("graphs", world_size=2)[1]
    assert "one micro-batch" in chosen("graphs", undivided=False)[1]
    assert chosen("graphs") == ("graphs", "given")
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert chosen("on", device="cpu") == ("off", "there is no C++ compiler here")
    assert chosen("on") == ("on", "given")


def test_what_is_left_of_a_mode_where_a_run_continues_otherwise() -> None:
    modes = ("off", "on", "graphs")
    assert [allowed(mode) for mode in modes] == ["off", "on", "graphs"]
    assert [allowed(mode, world_size=2) for mode in modes] == ["off", "on", "on"]
    assert [allowed(mode, undivided=False) for mode in modes] == ["off", "on", "off"]
    assert [allowed(mode, checkpointing=True) for mode in modes] == ["off"] * 3
    assert [allowed(mode, split_groups=True) for mode in modes] == ["off"] * 3


def test_each_mode_is_a_mode_of_torch_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **named: asked.append(named))
    net = made("simclr")
    for way in ("on", "graphs", "off"):
        set_compile(net, way)
    assert asked == [{"dynamic": False, "mode": None}, {"dynamic": False, "mode": "reduce-overhead"}]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have graphs chosen, without a GPU and without compiling; a list of what torch is asked for."""
    calls: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **_: None)
    monkeypatch.setattr("ssl_cli.engine.plan.compile.choose", lambda asked, *_, **__: (asked, "given"))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: calls.append("begins"))
    monkeypatch.setattr(torch.compiler, "reset", lambda: calls.append("reset"))
    return calls


def test_every_step_with_graphs_is_marked(tmp_path: Path, recorded: list[str]) -> None:
    graphs: dict[str, Any] = {"hardware": {"compile": "graphs"}, "schedule": {"epochs": 1}}
    events = run(settings(tmp_path / "run", **graphs))
    steps = only(events, Finished)[0].steps
    assert recorded == ["begins"] * steps
    state, _ = checkpoint.newest(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert state["resolved"]["compile"] == "graphs"
    assert not only(events, Warned)
    (choice,) = (choice for choice in only(events, Planned)[0].choices if choice.name == "compile")
    assert (choice.value, choice.reason) == ("graphs", "given")


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("no capture"), MemoryError("none left")])
def test_where_graphs_fail_or_leave_no_memory_the_step_starts_over_without(
    error: Exception, tmp_path: Path, recorded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(settings(tmp_path / "a", hardware={"compile": "off"}, schedule={"epochs": 1}))
    monkeypatch.setattr(nn.Module, "compile", failing(error))
    failed = run(settings(tmp_path / "b", hardware={"compile": "graphs"}, schedule={"epochs": 1}))
    (warned,) = only(failed, Warned)
    assert str(error) in warned.message
    assert recorded == ["begins", "reset"]
    a, b = ([event.loss for event in only(events, Stepped)] for events in (plain, failed))
    assert a == b
    state, _ = checkpoint.newest(tmp_path / "b" / "checkpoints")
    assert state is not None
    assert (state["resolved"]["compile"], state["resolved"]["mode"]) == ("off", "direct")


def test_graphs_that_cannot_be_are_warned_of(tmp_path: Path) -> None:
    events = run(settings(tmp_path / "run", hardware={"compile": "graphs"}, schedule={"epochs": 1}))
    (warned,) = only(events, Warned)
    assert warned.message == (
        "The run is not compiled, though --compile graphs asks for it: CUDA graphs need a CUDA device."
    )


def test_nothing_is_compiled_within_eager() -> None:
    net = made("simclr")
    set_compile(net, "on")
    torch._dynamo.utils.counters.clear()
    with eager():
        net(torch.rand(4, 3, 16, 16))
    assert graphs() == 0
