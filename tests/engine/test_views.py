"""Views of each step: those of the pipeline, in order, whenever they are made."""

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.data.loader import Loader
from ssl_cli.engine.train import Trainer
from ssl_cli.engine.views import ViewLoader, Views
from ssl_cli.errors import DataError
from ssl_cli.events import Finished, Planned, Saved, Stepped, Warned
from ssl_cli.objective import Batch
from tests.engine.side_stream import side_stream
from tests.engine.test_pretrain import only, run, settings
from tests.engine.trainers import make_trainer

STEPS = 12
PREFETCHES: dict[str, Callable[[int], int]] = {
    "never": lambda step: 0,
    "every step": lambda step: 1,
    "twice": lambda step: 2,
    "every third step": lambda step: step % 3 == 0,
}
"""How often `prefetch` is called in a step."""


def plain(trainer: Trainer, start: int) -> Iterator[tuple[Tensor, Batch]]:
    """Views and batches by the loader and the pipeline alone."""
    loader = Loader(trainer.loader.source, 16, trainer.settings.run.seed, cache="none")
    pipeline = Pipeline(trainer.settings.views, trainer.settings.data.size, trainer.settings.run.seed)
    for batch in loader.batches(start, STEPS):
        yield pipeline.stacked(batch, trainer.objective.views), batch


def assert_same(trainer: Trainer, start: int, prefetches: str) -> None:
    trainer.views.start(start, STEPS)
    for number, (x, wanted) in enumerate(plain(trainer, start), start):
        views, batch = trainer.views.take(number)
        for _ in range(PREFETCHES[prefetches](number)):
            trainer.views.prefetch()
        assert torch.equal(views.x, x)
        assert trainer.views.take(number)[0] is views  # the same step again, as after out of memory
        assert (views.position, views.images) == (None, 16)
        assert (batch.epoch, batch.step) == (wanted.epoch, wanted.step) == (number // 6, number)
        assert torch.equal(batch.index, wanted.index)
        assert torch.equal(batch.label, wanted.label)
        assert not len(batch.image)


@pytest.mark.parametrize(
    ("method", "prefetches", "start"),
    [*(("simclr", name, 0) for name in PREFETCHES), ("instdisc", "every step", 4)],
)
def test_views_and_batches_are_those_of_the_pipeline(method: str, prefetches: str, start: int) -> None:
    trainer = make_trainer(method)
    assert_same(trainer, start, prefetches)
    assert trainer.loader.view_seconds > 0
    with side_stream():
        trainer = make_trainer(method)
        assert_same(trainer, start, prefetches)
    assert trainer.loader.view_seconds == 0, "a GPU makes them while it trains"


def record(trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Tensor]]:
    """Return a list to which all views are added as they are made."""
    made: list[weakref.ref[Tensor]] = []
    honest = trainer.views.augment

    def augment(batch: Batch) -> Any:
        views = honest(batch)
        made.append(weakref.ref(views.x))
        return views

    monkeypatch.setattr(trainer.views, "augment", augment)
    return made


def test_nothing_is_prefetched_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer("simclr")
    made = record(trainer, monkeypatch)
    for step in range(1, 4):
        views, _ = trainer.views.take(step - 1)
        trainer.views.prefetch()
        assert len(made) == step
        alive = [ref() for ref in made]
        assert all(x is None for x in alive[:-1])
        assert alive[-1] is views.x
        del alive, views


def test_one_step_is_prefetched_on_a_gpu_and_reuses_the_memory_of_the_last_but_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with side_stream() as waits:
        trainer = make_trainer("simclr")
        made = record(trainer, monkeypatch)
        for step in range(1, STEPS + 1):
            views, _ = trainer.views.take(step - 1)
            # first the training stream waits for the views, then the side stream for the end of the previous step
            assert waits == [("training", "side"), ("side", "training")]
            waits.clear()
            assert len(made) == step
            assert sum(ref() is not None for ref in made) == 1
            trainer.views.prefetch()
            assert len(made) == min(step + 1, STEPS)
            assert sum(ref() is not None for ref in made) == min(2, STEPS - step + 1)
            assert not waits
            del views


def test_an_error_of_a_prefetch_is_raised_in_its_own_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(self: Loader, start: int, stop: int) -> Iterator[Batch]:
        yield from reading(self, start, start + 2)
        raise DataError("Too many files cannot be read.")

    reading = Loader.batches
    monkeypatch.setattr(Loader, "batches", batches)
    with side_stream():
        trainer = make_trainer("simclr")
        for number in range(2):
            trainer.views.take(number)
            trainer.views.prefetch()
        with pytest.raises(DataError, match="Too many"):
            trainer.views.take(2)


def out_of_memory(failures: int) -> Callable[..., Any]:
    """A pipeline whose first calls do not find the memory for their views."""
    honest, calls = Pipeline.stacked, []

    def stacked(self: Pipeline, *args: Any, **kwargs: Any) -> Tensor:
        calls.append(1)
        if 3 < len(calls) <= 3 + failures:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return honest(self, *args, **kwargs)

    return stacked


@pytest.mark.parametrize(("failures", "divisions"), [(1, 0), (3, 1)])
def test_out_of_memory_in_a_prefetch_waits_for_the_step_and_then_divides_the_batch(
    monkeypatch: pytest.MonkeyPatch, failures: int, divisions: int
) -> None:
    """Once the step has released its activations there may be room; if not, the batch is divided as in any step."""
    from ssl_cli.engine.train import train

    wanted = [event.loss for event in only(list(train(make_logging("simclr"))), Stepped)]
    with side_stream() as waits:
        trainer = make_logging("simclr")
        monkeypatch.setattr(Pipeline, "stacked", out_of_memory(failures))
        events = list(train(trainer))
    assert ("host", "device") in waits
    assert isinstance(events[-1], Finished)
    assert len([event for event in only(events, Warned) if "memory" in event.message.lower()]) == divisions
    assert [event.loss for event in only(events, Stepped)] == pytest.approx(wanted, rel=1e-3)


def make_logging(method: str) -> Trainer:
    """A trainer that behaves like rank 0 but writes nothing."""
    from unittest.mock import MagicMock

    trainer = make_trainer(method)
    trainer.folder = MagicMock(path=Path("nowhere"))
    trainer.save = lambda step: Saved(step=step, path="nowhere")  # type: ignore[method-assign]
    return trainer


def losses(out: Path, *, resume: bool = False, **sections: Any) -> list[float]:
    events = run(settings(out, **sections), resume=resume)
    assert isinstance(events[-1], Finished)
    return [event.loss for event in only(events, Stepped)]


def test_a_run_with_prefetching_is_the_same_and_so_is_one_that_was_stopped(tmp_path: Path) -> None:
    wanted = losses(tmp_path / "plain")
    with side_stream():
        assert losses(tmp_path / "prefetched") == wanted
        first = run(settings(tmp_path / "stopped", run={"max_time": 1e-3}))
        early = [event.loss for event in only(first, Stepped)]
        assert 0 < len(early) < STEPS
        assert early + losses(tmp_path / "stopped", resume=True) == wanted


@pytest.mark.slow
def test_views_grow_over_a_run_and_over_one_that_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sides, augment = [], ViewLoader.augment

    def recorded(loader: ViewLoader, batch: Batch) -> Views:
        views = augment(loader, batch)
        sides.append(views.x.shape[-1])
        return views

    monkeypatch.setattr(ViewLoader, "augment", recorded)
    growing = {"resolution": (0.5, 0.9)}
    wanted = losses(tmp_path / "whole", schedule=growing)
    assert sides == [8, 8, 8, 8, 8, 8, 12, 12, 12, 12, 12, 16]
    stopped = run(settings(tmp_path / "stopped", schedule=growing, run={"max_time": 1e-3}))
    early = [event.loss for event in only(stopped, Stepped)]
    assert 0 < len(early) < STEPS
    assert early + losses(tmp_path / "stopped", resume=True, schedule=growing) == wanted
    planned = only(stopped, Planned)[0]
    assert next(choice.value for choice in planned.choices if choice.name == "images") == "96, views of 8 to 16 pixels"
