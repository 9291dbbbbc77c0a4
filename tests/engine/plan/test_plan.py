"""The plan: its choices with their reasons, its warnings, and how a resumed run divides its batch."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_cli import memory
from ssl_cli.augment.sheet import png
from ssl_cli.config.tree import Settings
from ssl_cli.data.folder import Files
from ssl_cli.data.shapes import Shapes
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.plan import plan
from ssl_cli.engine.plan.dry_run import dry_run
from ssl_cli.engine.plan.measure import choose_arithmetic
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import DataError, ResourceError
from ssl_cli.events import Finished, Planned, Saved, Warned
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.nn.precision import MEMORY_FORMATS
from ssl_cli.planning.resolved import Resolved
from ssl_cli.world import world
from tests.engine.test_pretrain import only, run, settings
from tests.selection import slow

CPU = torch.device("cpu")


def make(chosen: Settings, out: Path = Path("nowhere")) -> plan.Plan:
    few = Shapes(32, chosen.data.size, 0)
    return plan.make_plan(
        chosen, build_objective(chosen, CPU, chosen.data.images), chosen.data.images, "shapes", few, out
    )


def choice(found: plan.Plan, name: str) -> Any:
    return next(choice for choice in found.choices if choice.name == name)


@pytest.mark.parametrize("method", ["simclr", "moco-v2"])
def test_every_choice_has_a_value_and_a_reason(tmp_path: Path, method: str) -> None:
    found = make(settings(tmp_path, method={"name": method}))
    names = [choice.name for choice in found.choices]
    assert names == [
        "method", "backbone", "stem", "images", "steps", "learning rate", "BatchNorm", "negatives",
        "device", "precision", "memory", "image cache", "mode", "micro-batch", "compile", "peak memory",
        "checkpoint", "time",
    ]  # fmt: skip
    assert all(choice.value and choice.reason for choice in found.choices)
    expected = found.expected
    assert expected["steps"] == 12
    assert expected["negatives"] == (30 if method == "simclr" else 65536)
    assert all(value > 0 for value in expected.values())


def test_more_ranks_than_cores_are_warned_of_on_a_cpu_whatever_gpus_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(plan, "world", lambda: replace(world(), local_size=2))
    monkeypatch.setattr(plan, "processors", lambda: 1)
    found = make(settings(tmp_path))
    assert [warning for warning in found.warnings if warning.startswith("2 ranks share 1 core here")]


def test_planning_leaves_weights_and_statistics_alone(tmp_path: Path) -> None:
    chosen = settings(tmp_path, hardware={"precision": "auto"})
    objective = build_objective(chosen, CPU).train()
    before = fingerprint(objective)
    plan.make_plan(chosen, objective, 96, "shapes", Shapes(32, 16, 0), tmp_path)
    assert fingerprint(objective) == before
    assert objective.training
    assert all(p.grad is None for p in objective.parameters())


@pytest.mark.parametrize("layout", ["channels_last", "contiguous"])
def test_the_memory_format_is_obeyed(tmp_path: Path, layout: str) -> None:
    chosen = settings(tmp_path, hardware={"memory_format": layout})
    objective = build_objective(chosen, CPU)
    found = plan.make_plan(chosen, objective, 96, "shapes", None, tmp_path)
    assert found.resolved.memory_format == layout
    weight = objective.backbone.get_parameter("layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=MEMORY_FORMATS[layout])
    losses = [
        e.loss for e in run(settings(tmp_path / layout, hardware={"memory_format": layout})) if hasattr(e, "loss")
    ]
    assert losses[-1] < losses[0]


def test_a_disk_too_small_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(settings(tmp_path)).warnings == ()
    monkeypatch.setattr(plan, "_free_disk", lambda out: 1000)
    (warning,) = make(settings(tmp_path)).warnings
    assert "Checkpoints may need" in warning


def test_the_plan_s_numbers_are_those_of_the_run(tmp_path: Path) -> None:
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
        list(dry_run(settings(tmp_path, hardware={"memory": "64MB"})))


def test_plans_of_earlier_versions_are_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert folder.read_plan() == {}
    (tmp_path / "run" / "plan.json").write_text("[1]")
    assert folder.read_plan() == {}
    folder.close()


def test_a_second_order_without_a_second_view_is_warned_of(tmp_path: Path) -> None:
    chosen = settings(tmp_path, method={"name": "instdisc"}, augment={"second": ["crop"]})
    assert any("augment.second is not used" in warning for warning in make(chosen).warnings)


def test_a_dry_run_estimates_the_batches_that_would_fit(tmp_path: Path) -> None:
    process = memory.resident()  # large at the end of a test suite, and no GPU's business

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


@pytest.mark.parametrize("mode", ["checkpointed", *slow("direct", "cached", "tail-keep")])
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
    assert ("TF32" in plan._tf32(precision, torch.device(device))) is said


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_that_emulates_bf16_gets_fp32(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native or including_emulation)
    never: Any = None
    found, reason = choose_arithmetic(never, 16, torch.device("cuda"), "auto", "channels_last")
    assert (found.precision, reason) == (("bf16", "this GPU has bf16") if native else ("fp32", "this GPU lacks bf16"))


def test_the_plan_states_the_threads_and_resumed_runs_do_not_take_them_over(tmp_path: Path) -> None:
    """Threads belong to the machine; the plan says what depends on them."""
    found = make(settings(tmp_path))
    assert f"{torch.get_num_threads()} thread" in choice(found, "device").reason
    assert "last bits of sums" in choice(found, "device").reason
    assert "threads" not in found.resolved.as_dict()


EARLIER: dict[str, Any] = {
    "device": "cpu", "precision": "fp32", "mode": "cached", "micro_batch": 8, "threads": 1, "images": 96,
}  # fmt: skip


@pytest.mark.parametrize(
    ("compile", "wanted"), [(True, "on"), (False, "off"), ("graphs", "graphs"), ("on", "on"), (None, "off")]
)
def test_choices_of_earlier_versions_are_read(compile: Any, wanted: str) -> None:
    values = {**EARLIER, "kept": 2, "card_bytes": 5, **({} if compile is None else {"compile": compile})}
    found = Resolved.from_dict(values)
    assert found == Resolved("cpu", "fp32", "channels_last", "cached", 8, 2, False, wanted, 96, 5)
    assert Resolved.from_dict(found.as_dict()) == found
    assert Resolved.from_dict(EARLIER).kept_graphs == 0
    assert Resolved.from_dict({**EARLIER, "calibrated": [30, 2.5]}).calibrations == ((30, 2.5),)
    assert Resolved.from_dict({**EARLIER, "calibrated": None}).calibrations == ()


def test_a_resumed_run_s_batch_is_divided_as_the_settings_ask(tmp_path: Path) -> None:
    chosen = settings(tmp_path, hardware={"mode": "cached", "micro_batch": 16})
    resolved = Resolved("cpu", "fp32", "contiguous", "direct", 32, 1, False, "graphs", 96)
    objective = build_objective(chosen, CPU)
    found, cache_bytes = plan.replan(chosen, objective, resolved, None)
    assert found == Resolved("cpu", "fp32", "contiguous", "cached", 16, 0, False, "off", 96)
    assert cache_bytes > 0
    weight = objective.backbone.get_parameter("layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.contiguous_format)


def test_images_from_which_nothing_can_be_learnt_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gray").mkdir()
    for k in range(40):
        (tmp_path / "gray" / f"{k}.png").write_bytes(png(torch.full((3, 16, 16), k, dtype=torch.uint8)))
    chosen = settings(tmp_path / "run", data={"source": str(tmp_path / "gray")}, schedule={"epochs": 1})
    read: list[int] = []
    decode = Files.read

    def counted(self: Files, index: int, cap: int | None = None) -> torch.Tensor:
        read.append(index)
        return decode(self, index, cap)

    monkeypatch.setattr(Files, "read", counted)
    warned = [event.message for event in only(list(dry_run(chosen)), Warned)]
    assert sum("of one colour each: there is nothing to learn" in message for message in warned) == 1
    assert len(read) == len(set(read)) == 32  # those of the plan's sample, each once
