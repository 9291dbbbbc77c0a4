"""What steps take: the views and batches of the plain path, in its order, whenever they are made."""

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.data.loader import Loader
from ssl_cli.engine.job import Job
from ssl_cli.engine.views import Staging
from ssl_cli.errors import DataError
from ssl_cli.events import Finished, Stepped
from ssl_cli.objective import Batch
from tests.engine.side_stream import side_stream
from tests.engine.test_no_wait import a_job
from tests.engine.test_pretrain import only, run, settings

STEPS = 12
HABITS: dict[str, Callable[[int], int]] = {
    "never": lambda step: 0,
    "every step": lambda step: 1,
    "twice": lambda step: 2,
    "every third step": lambda step: step % 3 == 0,
}
"""How often the next step's are begun in a step."""


def plain(job: Job, start: int) -> Iterator[tuple[Tensor, Batch]]:
    """Views and batch by the loader and the pipeline alone."""
    loader = Loader(job.loader.source, 16, job.settings.run.seed, cache="none")
    pipeline = Pipeline(job.settings.views, job.settings.data.size, job.settings.run.seed)
    for batch in loader.batches(start, STEPS):
        yield pipeline.stacked(batch, job.objective.views), batch


def same(job: Job, start: int, habit: str) -> None:
    steps = 0
    for (views, batch), (x, wanted) in zip(job.staging.batches(start, STEPS), plain(job, start), strict=True):
        for _ in range(HABITS[habit](batch.step)):
            job.staging.ahead()
        assert torch.equal(views.x, x)
        assert (views.place, views.images) == (None, 16)
        assert (batch.epoch, batch.step) == (wanted.epoch, wanted.step) == ((start + steps) // 6, start + steps)
        assert torch.equal(batch.index, wanted.index)
        assert torch.equal(batch.label, wanted.label)
        steps += 1
    assert steps == STEPS - start


@pytest.mark.parametrize("start", [0, 4])
@pytest.mark.parametrize("habit", HABITS)
@pytest.mark.parametrize("method", ["simclr", "instdisc"])
def test_views_and_batches_are_those_of_the_pipeline(method: str, habit: str, start: int) -> None:
    same(a_job(method, "sgd"), start, habit)
    with side_stream():
        same(a_job(method, "sgd"), start, habit)


def counted(job: Job, monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Tensor]]:
    """A list to which all views will be added as they are made."""
    made: list[weakref.ref[Tensor]] = []
    views_of = job.staging._views

    def noted(batch: Batch) -> Any:
        views = views_of(batch)
        made.append(weakref.ref(views.x))
        return views

    monkeypatch.setattr(job.staging, "_views", noted)
    return made


def test_on_a_cpu_nothing_is_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_job("simclr", "sgd")
    made = counted(job, monkeypatch)
    batches = job.batches()
    assert not made
    for step in range(1, 4):
        views, _ = next(batches)
        job.staging.ahead()
        assert len(made) == step
        alive = [ref() for ref in made]
        assert all(x is None for x in alive[:-1])
        assert alive[-1] is views.x
        del alive


def test_on_a_card_one_step_s_are_made_ahead_and_take_the_place_of_the_last_but_one_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with side_stream() as waits:
        job = a_job("simclr", "sgd")
        made = counted(job, monkeypatch)
        for step, (_views, _) in enumerate(job.staging.batches(0, STEPS), 1):
            # first what is asked for is ready, then the memory of the step before, which is over, may be taken
            assert waits == [("training", "side"), ("side", "training")]
            waits.clear()
            assert len(made) == step
            assert sum(ref() is not None for ref in made) == 1
            job.staging.ahead()
            assert len(made) == min(step + 1, STEPS)
            assert sum(ref() is not None for ref in made) == min(2, STEPS - step + 1)
            assert not waits


def test_what_goes_wrong_ahead_is_told_in_its_own_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    def batches(self: Loader, start: int, stop: int) -> Iterator[Batch]:
        yield from reading(self, start, start + 2)
        raise DataError("Too many files cannot be read.")

    reading = Loader.batches
    monkeypatch.setattr(Loader, "batches", batches)
    with side_stream():
        job = a_job("simclr", "sgd")
        staged = job.batches()
        for _ in range(2):
            next(staged)
            job.staging.ahead()
        with pytest.raises(DataError, match="Too many"):
            next(staged)


def losses(out: Path, **more: Any) -> list[float]:
    events = run(settings(out), **more)
    assert isinstance(events[-1], Finished)
    return [event.loss for event in only(events, Stepped)]


def test_a_run_is_the_same_and_so_is_one_that_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = losses(tmp_path / "plain")
    order: list[str] = []

    def note(kind: type, name: str) -> None:
        call = getattr(kind, name)

        def noted(*args: Any) -> Any:
            order.append(name)
            return call(*args)

        monkeypatch.setattr(kind, name, noted)

    for kind, name in ((Job, "gradient"), (Job, "observe"), (Job, "update"), (Staging, "_begin"), (Job, "report")):
        note(kind, name)
    with side_stream():
        assert losses(tmp_path / "ahead") == wanted
        # the next step's are begun when a step's passes are on their way, before the host may wait for their result
        step = ["gradient", "_begin", "observe", "update", "report"]
        assert order == ["_begin", *step * STEPS]
        first = run(settings(tmp_path / "stopped", run={"max_time": 1e-3}))
        told = [event.loss for event in only(first, Stepped)]
        assert 0 < len(told) < STEPS
        assert told + losses(tmp_path / "stopped", resume=True) == wanted
