"""Nothing within a step asks the device for a number: on a card the host would wait for all that is on its way."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.gate import LateGate
from ssl_cli.engine.job import Job
from ssl_cli.engine.plan import plan
from ssl_cli.engine.shards import Views
from ssl_cli.objective import Batch
from tests.engine.test_pretrain import settings

READS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "unique"}
"""Operations whose result the host must know, or the size of it."""
METHODS: dict[str, dict[str, Any]] = {
    "simclr": {},
    "simclr-v2": {"memory": 20},
    "moco-v1": {"queue": 20},
    "moco-v2": {"queue": 20},
    "instdisc": {"noise": 8},
    "invaspread": {},
}


class Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what the host reads of tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.met: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.partition(".")[0]
        if name in READS:
            self.met.append(name)
        return func(*args, **(kwargs or {}))


def a_job(method: str, optimiser: str, device: str = "cpu") -> Job:
    chosen = settings(
        Path("nowhere"), method={"name": method, **METHODS[method]}, optim={"name": optimiser},
        data={"images": 96, "size": 16},
    )  # fmt: skip
    where = torch.device(device)
    source = open_pretraining(chosen.data, 0)
    objective = build_objective(chosen, where, len(source))
    resolved = plan.Resolved(device, "fp32", "direct", 32, 1, len(source), kept=2)
    job = Job(chosen, resolved, objective, build_loader(chosen, objective, source, where), None)
    job.gate = LateGate(job.objective, job.optimiser)
    return job


def step_of(job: Job, views: Views, batch: Batch) -> None:
    """All of a step, from its views to the state that it moves."""
    (targets, loss, z) = _result(job.gradient(views, batch))
    if job.update(loss, batch.step):
        job.objective.after_step(z, targets, batch, 0.1)


def _result(events: Any) -> Any:
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


@pytest.mark.parametrize(
    ("method", "optimiser"),
    [
        pytest.param(method, optimiser, marks=() if optimiser == "sgd" or method == "simclr" else pytest.mark.slow)
        for method in METHODS
        for optimiser in ("sgd", "adamw", "lars")
    ],
)
def test_a_step_reads_one_thing_and_that_is_already_here(method: str, optimiser: str) -> None:
    """The verdict on the step before; it has come to the host beside the work."""
    job = a_job(method, optimiser)
    batches = job.batches()
    for _ in range(2):  # the first step waits: it makes the optimiser's state
        step_of(job, *next(batches))
    views, batch = next(batches)
    with Reads() as reads:
        step_of(job, views, batch)
    assert reads.met == ["_local_scalar_dense"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_a_step_never_waits_for_the_card(method: str) -> None:
    job = a_job(method, "sgd", "cuda")
    batches = job.batches()
    for _ in range(2):
        step_of(job, *next(batches))
    views, batch = next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        step_of(job, views, batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
