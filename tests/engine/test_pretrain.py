"""Runs from settings to last event, inside this process: what a user is told, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.plan.measure import StepCost
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.errors import DataError, DivergedError, ResourceError, UsageError
from ssl_cli.events import Evaluated, Event, Finished, Planned, Saved, Started, Stepped, Stopped, Warned
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.nn.heads import unit

COST = StepCost(read=0.0, augment=1e-3, forward_backward=1e-3, forward=1e-3, peaks={}, loss=0.0, loss_bytes=0)


def settings(out: Path, **sections: dict[str, Any]) -> Settings:
    base: dict[str, dict[str, Any]] = {
        "method": {"name": "simclr"},
        "model": {"width": 0.0625, "bn_group": 16},
        "data": {"size": 16, "images": 96, "threads": 1},
        "augment": {"order": ["crop", "flip"]},
        "optim": {"lr": 0.05},
        "schedule": {"epochs": 2},
        "run": {"out": str(out), "batch": 16, "log_every": 1, "evaluate": False},
        "hardware": {"precision": "fp32", "memory_format": "channels_last", "device": "cpu"},
    }
    for name, values in sections.items():
        base[name] = {**base[name], **values}
    return Settings.model_validate(base)


def run(chosen: Settings, *, resume: bool = False, overwrite: bool = False, **origins: str) -> list[Event]:
    named = {key.replace("__", "."): origin for key, origin in origins.items()}
    return list(pretrain(chosen, origins=named, resume=resume, overwrite=overwrite))


def only(events: list[Event], kind: type[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("method", ["simclr", "moco-v2"])
def test_a_run_tells_its_story_and_keeps_it(tmp_path: Path, method: str) -> None:
    out = tmp_path / "run"
    events = run(settings(out, method={"name": method}, run={"evaluate": True}))
    assert isinstance(events[0], Planned)
    assert only(events, Started)[0].steps == 12
    assert [event.step for event in only(events, Stepped)] == list(range(1, 13))
    assert only(events, Saved)[-1].step == 12
    (result,) = (event.result for event in only(events, Evaluated) if event.name == "knn")
    assert 0 <= result["top1"] <= 1
    assert {"pixels", "untrained"} <= set(result["baselines"])
    assert isinstance(events[-1], Finished)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == [type(event).__name__.lower() for event in events]
    for name in ("settings.toml", "plan.json", "env.json", "status.json", "train.log"):
        assert (out / name).stat().st_size
    written = json.loads((out / "status.json").read_text())
    assert written["state"] == "finished"
    (measured,) = (event.result for event in only(events, Evaluated) if event.name == "quality")
    assert written["quality"] == json.loads((out / "eval" / "quality.json").read_text())["result"] == measured
    assert measured["advice"]["message"].startswith(("Only 12 steps", "Worse than"))


def test_cached_and_direct_runs_agree(tmp_path: Path) -> None:
    """The whole engine, not only the backward pass: float32 losses of a run in micro-batches follow the direct ones."""
    gentle = {"lr": 1e-3}  # at higher rates rounding differences grow with every step
    direct = run(settings(tmp_path / "a", optim=gentle))
    cached = run(settings(tmp_path / "b", optim=gentle, hardware={"micro_batch": 16, "mode": "cached"}))
    assert "cached" in str(only(cached, Planned)[0].choices)
    a, b = ([event.loss for event in only(events, Stepped)] for events in (direct, cached))
    assert a[:4] == pytest.approx(b[:4], rel=1e-3)


def test_a_budget_too_small_names_what_to_change(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="BatchNorm group") as caught:
        run(settings(tmp_path / "run", hardware={"memory": "64MB"}))
    assert "--memory" in caught.value.hint
    assert "--batch" in caught.value.hint
    assert json.loads((tmp_path / "run" / "status.json").read_text())["exit_code"] == 5


def test_a_start_that_failed_leaves_the_folder_usable(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(DataError):
        run(settings(out, run={"batch": 97}))
    assert isinstance(run(settings(out))[-1], Finished)


def test_resuming_before_the_first_checkpoint_takes_what_was_resolved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    run(settings(out))
    for path in (*(out / "checkpoints").iterdir(), out / "metrics.jsonl"):
        path.unlink()
    monkeypatch.setattr("ssl_cli.engine.plan.cost.measure_step", None)  # a second probe would fail
    again = run(settings(out), resume=True)
    assert [event.step for event in only(again, Stepped)] == list(range(1, 13))


def test_a_data_set_that_changed_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(settings(out))
    text = (out / "settings.toml").read_text()
    (out / "settings.toml").write_text(text.replace("images = 96", "images = 97"))
    with pytest.raises(DataError, match="96 images, and now there are 97"):
        run(settings(out), resume=True)


def test_a_key_s_group_that_holds_the_whole_batch_is_warned_of(tmp_path: Path) -> None:
    events = run(settings(tmp_path / "run", method={"name": "moco-v2"}, model={"bn_group": 32}))
    assert any("shuffling them has no effect" in event.message for event in only(events, Warned))


def test_a_micro_batch_below_a_group_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="smaller than a BatchNorm group"):
        run(settings(tmp_path / "run", hardware={"micro_batch": 8}))


def test_fewer_images_than_the_batch(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        run(settings(tmp_path / "run", run={"batch": 97}))
    assert "--batch 96" in caught.value.hint
    assert caught.value.code == 3


def test_a_long_queue_is_capped_aloud(tmp_path: Path) -> None:
    events = run(settings(tmp_path / "run", method={"name": "moco-v2"}))
    assert any("capped from 65,536 to 48" in event.message for event in only(events, Warned))
    assert "queue = 65536" in (tmp_path / "run" / "settings.toml").read_text()


def test_time_is_up_and_the_run_goes_on_later(tmp_path: Path) -> None:
    out = tmp_path / "run"
    stopped = run(settings(out, run={"max_time": 1e-3}))
    assert isinstance(stopped[-1], Stopped)
    assert stopped[-1].exit_code == 75
    assert only(stopped, Saved)[-1].step == stopped[-1].step
    assert json.loads((out / "status.json").read_text())["state"] == "stopped"
    resumed = run(settings(out), resume=True, run__max_time="--flag")
    assert only(resumed, Started)[0].resumed
    assert only(resumed, Stepped)[0].step == stopped[-1].step + 1
    whole = run(settings(tmp_path / "whole"))
    assert only(resumed, Stepped)[-1].loss == only(whole, Stepped)[-1].loss


def test_resuming_with_other_settings(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(settings(out))
    with pytest.raises(UsageError, match=r"optim\.lr is 0\.05 in this run and cannot become 0\.1"):
        run(settings(out, optim={"lr": 0.1}), resume=True, optim__lr="--flag")
    nested = settings(out)
    jitter = nested.augment.jitter.model_copy(update={"strength": 0.3})
    nested = nested.model_copy(update={"augment": nested.augment.model_copy(update={"jitter": jitter})})
    with pytest.raises(UsageError, match=r"augment\.jitter\.strength"):
        run(nested, resume=True, augment__jitter__strength="--set")
    ambient = run(settings(out, optim={"lr": 0.1}), resume=True, optim__lr="SSLCLI_OPTIM__LR")
    assert isinstance(ambient[-1], Finished)
    with pytest.raises(UsageError, match="taken 12 steps"):
        run(settings(out, schedule={"epochs": 1}), resume=True, schedule__epochs="--epochs")
    from_recipe = run(settings(out, optim={"lr": 0.1}), resume=True, optim__lr="recipe")
    assert isinstance(from_recipe[-1], Finished)
    longer = run(settings(out, schedule={"epochs": 3}), resume=True, schedule__epochs="--flag")
    assert any("3 epochs instead of 2" in event.message for event in only(longer, Warned))
    assert only(longer, Stepped)[-1].step == 18
    with pytest.raises(UsageError, match="which run"):
        run(settings(out, run={"out": None}), resume=True)


@pytest.mark.parametrize("bad", [1, 3])
def test_a_loss_that_is_not_finite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: int) -> None:
    """One such step moves nothing and is told; three in a row end the run, and what was saved stays finite."""
    honest, calls = SimCLR.loss, []

    def loss(self: SimCLR, z: Tensor, *rest: Any) -> Tensor:
        calls.append(1)
        return honest(self, z, *rest) * (torch.nan if 3 < len(calls) <= 3 + bad else 1.0)

    monkeypatch.setattr(SimCLR, "loss", loss)
    monkeypatch.setattr("ssl_cli.engine.plan.cost.measure_step", lambda *_, **__: COST)  # it takes losses too
    chosen = settings(tmp_path / "run", run={"checkpoint_every": 1})
    if bad == 1:
        events = run(chosen)
        assert len([event for event in only(events, Warned) if "not finite" in event.message]) == 1
        assert isinstance(events[-1], Finished)
    else:
        with pytest.raises(DivergedError, match="3 steps in a row"):
            run(chosen)
        assert json.loads((tmp_path / "run" / "status.json").read_text())["exit_code"] == 6
    for path in (tmp_path / "run" / "checkpoints").glob("*.pt"):
        state = torch.load(path, weights_only=True)
        assert all(bool(tensor.isfinite().all()) for tensor in state["objective"].values())


def test_a_collapse_is_told_and_ends_the_run_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def everywhere_the_same(self: SimCLR, x: Tensor) -> Tensor:
        h = self.backbone(x)
        return unit(torch.ones_like(h) + 1e-4 * h)

    monkeypatch.setattr(SimCLR, "forward", everywhere_the_same)
    events = run(settings(tmp_path / "a", schedule={"epochs": 5}))
    (warning,) = only(events, Warned)
    assert "collapsed" in warning.message
    assert 20 <= warning.step <= 50
    with pytest.raises(DivergedError, match="collapsed"):
        run(settings(tmp_path / "b", schedule={"epochs": 5}, run={"stop_on_collapse": True}))


def test_code_of_the_user_s_own_is_not_run_unasked(tmp_path: Path) -> None:
    module = tmp_path / "mine.py"
    module.write_text(
        "from ssl_cli.methods.simclr import SimCLR\n"
        "class Mine(SimCLR):\n    def chance(self, images): return float(self.cfg.extra_word)\n"
    )
    out = tmp_path / "run"
    mine = {"name": f"{module}:Mine", "extra_word": 7}
    events = run(settings(out, method=mine))
    assert only(events, Stepped)[0].chance == 7
    with pytest.raises(UsageError, match="code of your own"):
        run(settings(out), resume=True)
    assert isinstance(run(settings(out, method=mine), resume=True)[-1], Finished)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def f(:", "fails when it is imported: SyntaxError"),
        ("from ssl_cli.objective import Objective\nclass Mine(Objective): pass", "cannot be made: TypeError"),
    ],
)
def test_mistakes_in_code_of_the_user_s_own_are_told_as_such(tmp_path: Path, code: str, words: str) -> None:
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(UsageError, match=words):
        run(settings(tmp_path / "run", method={"name": f"{tmp_path}/mine.py:Mine"}))


def test_a_failed_start_leaves_no_folder_nobody_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        run(settings(tmp_path, run={"out": None, "batch": 97}))
    assert not list((tmp_path / "runs").iterdir())


def test_resuming_where_there_is_no_run_says_so(tmp_path: Path) -> None:
    events = run(settings(tmp_path / "run"), resume=True)
    assert "nothing in" in only(events, Warned)[0].message


def test_a_class_that_is_no_objective(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no subclass"):
        run(settings(tmp_path / "run", method={"name": "json:JSONDecoder"}))


def test_no_such_backbone_or_method() -> None:
    cpu = torch.device("cpu")
    with pytest.raises(ValueError, match=r"resnet81.*Did you mean 'resnet18'"):
        settings(Path("x"), model={"backbone": "resnet81"})
    with pytest.raises(UsageError, match="no method 'simcl'"):
        build_objective(settings(Path("x"), method={"name": "simcl"}), cpu)
