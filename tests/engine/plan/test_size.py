"""Runs whose network, batch and epochs are open: what is chosen, where it is recorded, and that a resume repeats it."""

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ssl_cli import checkpoint
from ssl_cli.config.tree import Settings
from ssl_cli.data.shapes import Shapes
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.plan import plan
from ssl_cli.engine.plan.dry_run import dry_run
from ssl_cli.engine.plan.measure import StepCost
from ssl_cli.engine.plan.size import size
from ssl_cli.errors import DataError, UsageError
from ssl_cli.events import Calibrated, Choice, Finished, Planned, Sized, Started, Stepped, Warned
from ssl_cli.planning.timing import RunSchedule
from tests.engine.test_pretrain import only, run, settings
from tests.selection import slow

CPU = torch.device("cpu")
TIMED = ["schedule.epochs", "schedule.warmup"]
ALL = ["model.backbone", "model.width", "data.size", "run.batch", *TIMED]
COST = StepCost(read=0.0, augment=1.0, forward_backward=1.0, forward=1.0, peaks={}, loss=0.0, loss_bytes=0)
"""An image takes three seconds, so a step of 16 images 48."""
STEP = 48.0
FAST = 2 * STEP / 3
"""Seconds of a step, as planned and as the first ones take."""
NO_TIME = ("ssl_cli.engine.plan.plan.time", SimpleNamespace(monotonic=lambda: 0.0))
"""A plan that takes none, whatever the load of the machine."""


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose small network takes a second a row."""
    monkeypatch.setattr("ssl_cli.engine.plan.size.row_seconds", lambda *_: 1.0)
    monkeypatch.setattr("ssl_cli.engine.plan.cost.measure_step", lambda *_, **__: COST)
    monkeypatch.setattr(*NO_TIME)


def open_settings(out: Path, fit: list[str], time: float, **sections: dict[str, Any]) -> Settings:
    more = {"checkpoint_every": 1, "keep": 99, "fit": fit, "time": time, "out": str(out), **sections.pop("run", {})}
    model = {"width": 0.0625, "bn_group": 16, **sections.pop("model", {})}
    return settings(out, model=model, run=more, augment={"order": ["crop"]}, **sections)


@pytest.mark.usefixtures("measured")
def test_what_is_open_is_chosen_and_what_is_given_stays() -> None:
    asked = open_settings(Path("x"), ALL, 60.0)
    found = size(asked, 96, Shapes(96, 32, 0), CPU)
    chosen = found.settings
    assert (chosen.model.backbone, chosen.model.width, chosen.data.size, chosen.run.batch) == ("resnet18", 0.25, 32, 16)
    assert found.choices[0].value == "resnet18, width 0.25, 32 pixels, batch 16"
    assert "96 images are few" in found.warnings[0]
    given = size(open_settings(Path("x"), ["run.batch"], 60.0), 96, Shapes(96, 16, 0), CPU).settings
    assert (given.model.width, given.data.size, given.run.batch) == (0.0625, 16, 16)


def test_nothing_is_measured_where_only_the_epochs_are_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_cli.engine.plan.size.row_seconds", None)
    asked = open_settings(Path("x"), TIMED, 60.0)
    assert size(asked, 96, None, CPU).settings == asked


@pytest.fixture(scope="module")
def corrected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 25 steps by its time, corrected to 38 after six, and to 27 after 19."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl_cli.engine.plan.cost.measure_step", lambda *_, **__: COST)
        patch.setattr(*NO_TIME)
        times: Iterator[float] = iter((0.0, 2 * FAST, 6 * FAST, 6 * FAST + 4 * STEP, 6 * FAST + 13 * STEP))
        patch.setattr(RunSchedule, "clock", staticmethod(lambda: next(times)))
        out = tmp_path_factory.mktemp("corrected") / "run"
        events = run(open_settings(out, TIMED, 25.5 * STEP))
    assert only(events, Started)[0].steps == 25
    first, second = only(events, Calibrated)
    assert (first.step, first.before, first.steps) == (6, 25, 38)
    assert (second.step, second.before, second.steps) == (19, 38, 27)
    assert only(events, Finished)[0].steps == 27
    assert only(events, Stepped)[-1].lr < 0.005
    return out


def state(out: Path, step: int) -> dict[str, Any]:
    return checkpoint.load(out / "checkpoints" / f"step_{step:08d}.pt")


def test_the_correction_is_recorded_before_the_next_step(corrected: Path) -> None:
    plan = json.loads((corrected / "plan.json").read_text())["resolved"]
    assert plan["calibrations"] == [[6, pytest.approx(38 / 6)], [19, pytest.approx(27 / 6)]]
    assert plan["sized"]["schedule.epochs"] == pytest.approx(25 / 6)
    assert state(corrected, 5)["resolved"]["calibrations"] == []
    assert state(corrected, 18)["resolved"]["calibrations"] == plan["calibrations"][:1]
    assert state(corrected, 19)["resolved"]["calibrations"] == plan["calibrations"]
    assert state(corrected, 27)["settings"]["schedule"]["epochs"] == pytest.approx(27 / 6)
    assert "epochs = 2\n" in (corrected / "settings.toml").read_text()  # as asked: the fallback


@pytest.mark.parametrize(
    ("step", "gone"),
    [(20, "plan.json"), *slow((3, ""), (6, ""), (18, ""), (20, ""), (5, "settings.toml"), (20, "settings.toml"))],
)
def test_a_resume_repeats_the_corrected_run_exactly(
    corrected: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, gone: str
) -> None:
    out = shutil.copytree(corrected, tmp_path / "run")
    for path in (out / "checkpoints").iterdir():
        if int(path.stem.partition("_")[2]) > step:
            path.unlink()
    if gone:
        (out / gone).unlink()
    monkeypatch.setattr(RunSchedule, "clock", lambda _: 0.0)  # were it measured again, it would be a fast machine
    events = run(open_settings(out, TIMED, 25.5 * STEP), resume=True)
    assert only(events, Finished)[0].steps == 27
    (plan,) = only(events, Planned)
    assert plan.expected["steps"] == 27
    assert [(row.value, row.reason) for row in plan.choices if row.name == "steps"] == [
        ("27", "4.5 epochs of 6, batch 16")
    ]
    ours, theirs = state(out, 27), state(corrected, 27)
    assert all(torch.equal(ours["objective"][name], theirs["objective"][name]) for name in theirs["objective"])
    before, after = ([event.lr for event in read(path)] for path in (corrected, out))
    assert after[-(27 - step) :] == before[step:]


def read(out: Path) -> list[Any]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [
        Stepped(**{k: v for k, v in line.items() if k not in ("schema", "event")})
        for line in lines
        if line["event"] == "stepped"
    ]


def test_epochs_that_are_given_on_a_resume_end_the_correction(corrected: Path, tmp_path: Path) -> None:
    out = shutil.copytree(corrected, tmp_path / "run")
    damaged = json.loads((out / "plan.json").read_text())
    damaged["expected"] |= {"rate": math.nan, "peak_memory": "much"}
    (out / "plan.json").write_text(json.dumps(damaged))
    chosen = open_settings(out, TIMED, 25.5 * STEP, schedule={"epochs": 7})
    with pytest.raises(UsageError, match="taken 27 steps"):
        run(open_settings(out, TIMED, 25.5 * STEP), resume=True, schedule__epochs="--epochs")
    events = run(chosen, resume=True, schedule__epochs="--epochs")
    assert only(events, Finished)[0].steps == 42
    assert not {"rate", "seconds", "peak_memory"} & only(events, Planned)[0].expected.keys()  # what is damaged
    assert any("7 epochs instead of 4.2" in event.message for event in only(events, Warned))
    assert 'fit = [\n    "schedule.warmup",\n]' in (out / "settings.toml").read_text()
    assert json.loads((out / "plan.json").read_text())["resolved"]["calibrations"] == []


@pytest.mark.usefixtures("measured")
def test_a_sized_run_is_recorded_evaluated_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    asked = open_settings(out, ["run.batch", "schedule.epochs"], 1e-3, run={"keep": 3, "batch": 64})
    events = run(asked)
    assert only(events, Planned)[0].choices[0] == Choice(
        name="sized",
        value="resnet18, width 0.0625, 16 pixels, batch 32",
        reason=only(events, Planned)[0].choices[0].reason,
    )
    assert any("20 steps are the fewest" in event.message for event in only(events, Warned))
    assert "batch = 64\n" in (out / "settings.toml").read_text()
    resolved = json.loads((out / "plan.json").read_text())["resolved"]
    assert resolved["sized"] == {"run.batch": 32, "schedule.epochs": 20 / 3}
    concrete = state(out, 20)["settings"]
    assert (concrete["run"]["batch"], concrete["schedule"]["epochs"]) == (32, 20 / 3)
    monkeypatch.setattr("ssl_cli.engine.plan.size.row_seconds", None)
    with pytest.raises(UsageError, match=r"run\.batch is 32 in this run and cannot become 64"):
        run(asked, resume=True, run__batch="--batch")
    assert only(run(asked, resume=True), Started)[0].step == 20


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("images", [2, 10, 50])
def test_a_dry_run_on_few_images_lists_what_other_times_would_give(images: int) -> None:
    asked = open_settings(Path("nowhere"), ALL, 60.0, data={"images": images}, model={"bn_group": 512})
    events = list(dry_run(asked))
    (sized,) = only(events, Sized)
    assert [row.machine for row in sized.rows] == ["here"] * 4 + ["one A100", "one H200"]
    assert [row.seconds for row in sized.rows if row.chosen] == [60.0]
    assert all(row.batch <= max(images // 2, 2) for row in sized.rows)
    assert any("are few" in event.message for event in only(events, Warned))


def test_one_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds 1 image"):
        run(open_settings(tmp_path / "run", ALL, 60.0, data={"images": 1}))


@pytest.mark.usefixtures("measured")
def test_the_plan_says_what_share_of_the_schedule_a_time_limit_reaches(tmp_path: Path) -> None:
    events = list(dry_run(open_settings(tmp_path, [], 1.0, run={"max_time": 3 * STEP})))
    assert any(
        "--max-time stops this run at about 25 % of its schedule" in event.message for event in only(events, Warned)
    )


@pytest.mark.usefixtures("measured")
def test_the_time_of_the_plan_itself_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring that takes ten of 40 steps' time, and five steps before it, leave 25."""
    clock = iter((0.0, 10 * STEP))
    monkeypatch.setattr("ssl_cli.engine.plan.plan.time", SimpleNamespace(monotonic=lambda: next(clock)))
    asked = open_settings(Path("x"), TIMED, 40.5 * STEP)
    objective = build_objective(asked, CPU, 96)
    found = plan.make_plan(asked, objective, 96, "shapes", Shapes(96, 16, 0), Path("nowhere"), spent=5 * STEP)
    assert found.settings.schedule.steps(96 // asked.run.batch) == 25
