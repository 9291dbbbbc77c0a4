"""The plan: what it decides, what it says of it, and that it leaves what it measures as it was."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_cli.engine.plan.footprint import footprint, weighed

from ssl_cli.config.tree import Settings
from ssl_cli.data.shapes import Shapes
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.evaluation.features import fingerprint
from ssl_cli.engine.plan import memory, plan, probe
from ssl_cli.engine.plan.dry_run import dry_run
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import DataError, ResourceError
from ssl_cli.events import Finished, Planned, Saved, Warned
from tests.engine.test_pretrain import only, run, settings

CPU = torch.device("cpu")


def make(chosen: Settings, out: Path = Path("nowhere")) -> plan.Plan:
    few = Shapes(32, chosen.data.size, 0)
    return plan.make(chosen, build_objective(chosen, CPU), plan.Data(chosen.data.images, "shapes", few), out)


def choice(found: plan.Plan, name: str) -> Any:
    return next(choice for choice in found.choices if choice.name == name)


@pytest.mark.parametrize("method", ["simclr", "moco-v2"])
def test_every_choice_has_a_value_and_a_reason(tmp_path: Path, method: str) -> None:
    found = make(settings(tmp_path, method={"name": method}))
    names = [choice.name for choice in found.choices]
    assert names == [
        "method", "backbone", "stem", "images", "steps", "learning rate", "BatchNorm", "negatives",
        "device", "precision", "memory", "images stay", "mode", "micro-batch", "compile", "peak memory",
        "checkpoint", "time",
    ]  # fmt: skip
    assert all(choice.value and choice.reason for choice in found.choices)
    expected = found.expected
    assert expected["steps"] == 12
    assert expected["negatives"] == (30 if method == "simclr" else 65536)
    assert all(value > 0 for value in expected.values())


def test_the_memory_of_a_row_is_the_same_without_numbers_and_for_real(tmp_path: Path) -> None:
    objective = build_objective(settings(tmp_path), CPU)
    for precision in ("fp32", "bf16"):
        x = torch.rand(64, 3, 16, 16).contiguous(memory_format=torch.channels_last)
        counted, real = footprint(objective, 16, precision), weighed(objective, x, precision)
        assert counted.kept == pytest.approx(real.kept, rel=0.07)
        assert counted.peak == pytest.approx(real.peak, rel=0.07)


def test_a_network_that_cannot_run_without_data_passes_rows_for_real(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = build_objective(settings(tmp_path), CPU)
    wanted = footprint(objective, 16, "fp32")
    forward = type(objective).forward

    def peeking(self: Any, x: torch.Tensor) -> torch.Tensor:
        assert float(x.sum()) != 0  # there are no numbers to look at
        return forward(self, x)

    monkeypatch.setattr(type(objective), "forward", peeking)
    found = footprint(objective, 16, "fp32")
    assert (found.kept, found.peak) == pytest.approx((wanted.kept, wanted.peak), rel=0.05)


def test_planning_leaves_weights_and_statistics_alone(tmp_path: Path) -> None:
    chosen = settings(tmp_path, hardware={"precision": "auto"})
    objective = build_objective(chosen, CPU).train()
    before = fingerprint(objective)
    plan.make(chosen, objective, plan.Data(96, "shapes", Shapes(32, 16, 0)), tmp_path)
    assert fingerprint(objective) == before
    assert objective.training
    assert all(p.grad is None for p in objective.parameters())


def test_the_probe_takes_the_faster_arm_and_only_if_it_is_worth_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = build_objective(settings(tmp_path), CPU)
    for bf16, wanted in ((0.5, "bf16"), (0.95, "fp32"), (3.0, "fp32")):
        seconds = {"fp32": 1.0, "bf16": bf16}
        monkeypatch.setattr(probe, "pass_seconds", lambda _, x, precision, s=seconds: s[precision] * len(x) * 1e-3)
        found = probe.fastest(objective, 16, CPU, ["fp32", "bf16"], ["channels_last", "contiguous"])
        assert (found.precision, found.memory_format) == (wanted, "channels_last")
        assert "probed: " in found.reason


@pytest.mark.parametrize(("native", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_where_nothing_can_be_measured_the_processor_s_instructions_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, native: bool, wanted: str
) -> None:
    monkeypatch.setattr(probe, "SECONDS", 0)
    monkeypatch.setattr(probe, "has_bf16", lambda device: native)
    objective = build_objective(settings(tmp_path), CPU)
    found = probe.fastest(objective, 16, CPU, ["fp32", "bf16"], ["channels_last", "contiguous"])
    assert (found.precision, found.memory_format) == (wanted, "channels_last")
    assert found.reason.startswith("not probed")
    assert ("bf16 instructions" in found.reason) == native


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_the_memory_format_is_obeyed(tmp_path: Path, layout: str) -> None:
    chosen = settings(tmp_path, hardware={"memory_format": layout})
    objective = build_objective(chosen, CPU)
    found = plan.make(chosen, objective, plan.Data(96, "shapes", None), tmp_path)
    assert found.resolved.memory_format == layout
    weight = objective.backbone.get_parameter("layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=probe.FORMATS[layout])
    losses = [
        e.loss for e in run(settings(tmp_path / layout, hardware={"memory_format": layout})) if hasattr(e, "loss")
    ]
    assert losses[-1] < losses[0]


def test_a_disk_too_small_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(settings(tmp_path)).warnings == ()
    monkeypatch.setattr(plan, "_free", lambda out: 1000)
    (warning,) = make(settings(tmp_path)).warnings
    assert "Checkpoints may need" in warning


def test_the_plan_is_held_against_the_fact(tmp_path: Path) -> None:
    events = run(settings(tmp_path / "run", method={"name": "moco-v2", "queue": 32}))
    (planned,) = only(events, Planned)
    assert planned.expected["steps"] == only(events, Finished)[0].steps
    assert only(events, Saved)[-1].size == pytest.approx(planned.expected["checkpoint"], rel=0.1)
    kept = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert kept["expected"] == planned.expected
    assert kept["resolved"]["memory_format"] == "channels_last"


def test_a_resumed_run_expects_what_is_left(tmp_path: Path) -> None:
    out = tmp_path / "run"
    first = only(run(settings(out, run={"out": str(out), "batch": 16, "max_time": 1e-3, "evaluate": False})), Planned)[
        0
    ]
    (second,) = only(run(settings(out), resume=True), Planned)
    assert second.expected["rate"] == first.expected["rate"]
    assert 0 < second.expected["seconds"] < first.expected["seconds"]


def test_a_dry_run_plans_what_the_run_does_and_touches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = settings(tmp_path / "run", method={"name": "moco-v2", "queue": 4096})
    planned, *warned = dry_run(chosen)
    assert isinstance(planned, Planned)
    assert any("capped" in event.message for event in warned if isinstance(event, Warned))
    assert list(tmp_path.iterdir()) == []
    (real,) = only(run(chosen), Planned)
    steady = {"steps", "images", "parameters", "negatives", "checkpoint"}
    assert {k: planned.expected[k] for k in steady} == {k: real.expected[k] for k in steady}


def test_a_dry_run_refuses_what_the_run_would(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fewer than the batch"):
        list(dry_run(settings(tmp_path, run={"batch": 128})))
    with pytest.raises(ResourceError, match="BatchNorm group"):
        list(dry_run(settings(tmp_path, hardware={"memory": "1MB"})))


def test_plans_of_earlier_versions_are_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.read_plan() == {}
    (tmp_path / "run" / "plan.json").write_text("[1]")
    assert folder.read_plan() == {}
    folder.close()


def test_a_second_order_without_a_second_view_is_told(tmp_path: Path) -> None:
    chosen = settings(tmp_path, method={"name": "instdisc"}, augment={"second": ["crop"]})
    objective = build_objective(chosen, CPU, 96)
    assert any("augment.second is not used" in doubt for doubt in plan.doubts(chosen, objective))


def test_passes_are_timed_at_powers_of_two() -> None:
    assert [probe.at_most(rows) for rows in (0.4, 1, 2, 3.9, 63, 64, 65)] == [2, 2, 2, 2, 32, 64, 64]


def test_a_dry_run_tells_what_would_fit_a_named_card(tmp_path: Path) -> None:
    process = memory.resident()  # large at the end of a test suite, and no card's business

    def largest(room: float) -> dict[str, float]:
        hardware = {"memory": int(process + room), "precision": "fp32", "device": "cpu"}
        chosen = settings(tmp_path, hardware=hardware)
        (planned,) = only(list(dry_run(chosen)), Planned)
        assert choice(planned, "would fit").value
        return {mode: planned.expected[f"largest_{mode}"] for mode in ("direct", "checkpointed", "cached")}

    small, large = largest(3.5e9), largest(24.5e9)
    for found in (small, large):
        assert 0 < found["direct"] < found["checkpointed"] < found["cached"]
    assert all(5 < large[mode] / small[mode] < 10 for mode in small)


@pytest.mark.parametrize("mode", ["direct", "tail-keep", "cached", "checkpointed"])
def test_a_mode_that_is_asked_for_is_planned_run_and_kept(tmp_path: Path, mode: str) -> None:
    hardware = {"mode": mode, "micro_batch": 16 if mode == "tail-keep" else None, "precision": "fp32"}
    out = tmp_path / "run"
    events = run(settings(out, hardware=hardware))
    assert choice(only(events, Planned)[0], "mode").value == mode
    assert json.loads((out / "plan.json").read_text())["resolved"]["mode"] == mode
    assert isinstance(events[-1], Finished)


def test_a_mode_that_does_not_fit_names_what_it_needs(tmp_path: Path) -> None:
    hardware = {"mode": "direct", "memory": "1GB", "precision": "fp32"}
    with pytest.raises(ResourceError, match="whole batch in mode direct need") as caught:
        make(settings(tmp_path, run={"batch": 4096}, data={"images": 8192}, hardware=hardware))
    assert "hardware.mode=auto" in caught.value.hint


@pytest.mark.parametrize(
    ("precision", "device", "capability", "said"),
    [
        ("fp32", "cuda", (8, 0), True),
        ("fp32", "cuda", (7, 5), False),
        ("bf16", "cuda", (9, 0), False),
        ("fp32", "cpu", (), False),
    ],
)
def test_the_plan_says_where_float32_is_tf32(
    precision: str, device: str, capability: tuple[int, ...], said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert ("TF32" in probe.products(precision, torch.device(device))) is said
