"""Whole runs on a CUDA device; they have waited for one so far, and say so by being deselected."""

import gc
from pathlib import Path

import pytest
import torch

from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.job import Job
from ssl_cli.engine.plan import plan
from ssl_cli.engine.plan.activations import blank_rows
from ssl_cli.engine.plan.compile import disable_compile, mark_step_begin, set_compile
from ssl_cli.engine.plan.measure import pass_seconds
from ssl_cli.engine.precision import autocast, tf32
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.engine.run import checkpoint
from ssl_cli.events import Evaluated, Finished, Planned, Stepped, Warned
from tests.data.pictures import folder
from tests.engine.test_pretrain import only, run, settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("method", ["simclr", "moco-v2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_the_card(tmp_path: Path, method: str, precision: str) -> None:
    on_card = {"device": "cuda", "precision": precision}
    events = run(settings(tmp_path / "run", method={"name": method}, hardware=on_card, run={"evaluate": True}))
    assert isinstance(events[-1], Finished)
    assert 0 <= only(events, Evaluated)[0].result["top1"] <= 1


def test_cached_follows_direct_on_the_card(tmp_path: Path) -> None:
    gentle = {"lr": 1e-3}
    direct = run(settings(tmp_path / "a", optim=gentle, hardware={"device": "cuda"}))
    cached = run(
        settings(tmp_path / "b", optim=gentle, hardware={"device": "cuda", "micro_batch": 16, "mode": "cached"})
    )
    a, b = ([event.loss for event in only(events, Stepped)] for events in (direct, cached))
    assert a[:4] == pytest.approx(b[:4], rel=1e-3)


def test_a_run_goes_on_on_the_card(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "run", run={"max_time": 1e-3}, hardware={"device": "cuda:0"})
    run(chosen)
    resumed = list(pretrain(settings(tmp_path / "run"), origins={}, resume=True, overwrite=False))
    assert isinstance(resumed[-1], Finished)


def test_a_card_rounds_in_networks_alone() -> None:
    card = torch.device("cuda")
    a, b = (torch.rand(512, 512, dtype=torch.float64, device=card) - 0.5 for _ in range(2))
    exact = a @ b

    def off() -> float:
        return float((a.float() @ b.float() - exact).abs().max())

    full = off()
    with autocast(card, "fp32")():
        assert off() > 10 * full
    with tf32(card):
        assert torch.equal(a @ b, exact)
    assert off() == full


@pytest.mark.parametrize("method", ["simclr", "moco-v2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("way", ["on", "graphs"])
def test_a_compiled_run_follows_an_eager_one_on_the_card(tmp_path: Path, method: str, precision: str, way: str) -> None:
    gentle = {"lr": 1e-3}
    hardware = {"device": "cuda", "precision": precision, "mode": "direct"}
    eager = run(
        settings(tmp_path / "a", method={"name": method}, optim=gentle, hardware={**hardware, "compile": "off"})
    )
    fast = run(settings(tmp_path / "b", method={"name": method}, optim=gentle, hardware={**hardware, "compile": way}))
    assert not only(fast, Warned)
    a, b = ([event.loss for event in only(events, Stepped)] for events in (eager, fast))
    assert len(a) == len(b)
    assert a == pytest.approx(b, rel=1e-2 if precision == "fp32" else 5e-2)
    state, _ = checkpoint.newest(tmp_path / "b" / "checkpoints")
    assert state is not None
    assert state["resolved"]["compile"] == way


def test_cuda_graphs_are_replayed_and_free_their_memory(tmp_path: Path) -> None:
    chosen = settings(tmp_path, hardware={"device": "cuda", "precision": "fp32"})
    net = build_objective(chosen, torch.device("cuda"))
    torch._dynamo.utils.counters.clear()
    set_compile(net, "graphs")
    x = blank_rows(net, 32, 16)
    for _ in range(4):  # compiled in the first, recorded in the second
        mark_step_begin("graphs")
        pass_seconds(net, x, "fp32")
    assert not torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
    disable_compile(net)
    gc.collect()
    pools = [part for part in torch.cuda.memory_snapshot() if part["segment_pool_id"] != (0, 0)]  # type: ignore[no-untyped-call]
    assert not sum(part["allocated_size"] for part in pools)


ORDER = ["crop", "flip", "rotate", "jitter", "gray", "solarize", "blur", "noise", "cutout", "normalize"]


def occupy(milliseconds: int) -> torch.cuda.Event:
    """Work for the stream that trains, of about so long; what marks its end."""
    torch.cuda._sleep(milliseconds * 2_000_000)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event()  # type: ignore[no-untyped-call]
    end.record()
    return end


def a_job(out: Path, *, card_bytes: int = 0, precision: str = "bf16", source: str | None = None) -> Job:
    data = {"source": source, "images": 96, "size": 32}
    chosen = settings(out, data=data, augment={"order": ORDER}, hardware={"device": "cuda"})
    card, images = torch.device("cuda"), open_pretraining(chosen.data, 0)
    objective = build_objective(chosen, card, len(images))
    resolved = plan.Resolved("cuda", precision, "channels_last", "direct", 32, 1, False, "off", len(images), card_bytes)
    return Job(chosen, resolved, objective, build_loader(chosen, objective, images, card, 10**9, card_bytes), None)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("card_bytes", [0, 10**6])
@pytest.mark.parametrize("pictures", [False, True])
def test_what_is_made_beside_training_is_what_is_made_in_its_turn(
    tmp_path: Path, precision: str, card_bytes: int, pictures: bool
) -> None:
    source = str(folder(tmp_path / "pictures", {"all": 96})) if pictures else None
    job, plain = (a_job(tmp_path, card_bytes=size, precision=precision, source=source) for size in (card_bytes, 0))
    found = []
    for views, batch in job.batches():
        occupy(10)  # so that whatever does not wait for training comes too early
        job.staging.ahead()
        found.append((views.x.clone(), batch))
    assert job.loader._cache.on_card == bool(card_bytes)
    for (x, batch), own in zip(found, plain.loader.batches(0, plain.steps), strict=True):
        views, wanted = plain.staging.stage(own)
        assert torch.equal(x, views.x)
        assert torch.equal(batch.index, wanted.index)
        assert torch.equal(batch.label, wanted.label)
        assert (batch.epoch, batch.step) == (wanted.epoch, wanted.step)


@pytest.mark.parametrize("card_bytes", [0, 10**6])
def test_staging_never_waits_for_the_card(tmp_path: Path, card_bytes: int) -> None:
    job = a_job(tmp_path, card_bytes=card_bytes)
    batches = job.batches()
    for _ in range(job.steps_per_epoch):  # pinned memory is taken, images are read
        next(batches)
        job.staging.ahead()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(batches)
        training = occupy(1000)
        job.staging.ahead()
        next(batches)
        assert not training.query()  # type: ignore[no-untyped-call]
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_run_s_images_stay_on_the_card_and_change_nothing(tmp_path: Path) -> None:
    told = {}
    for cache in ("auto", "none"):
        on_card = {"device": "cuda"}
        events = run(settings(tmp_path / cache, data={"cache": cache}, optim={"lr": 1e-3}, hardware=on_card))
        told[cache] = [event.loss for event in only(events, Stepped)]
        (stay,) = (c for c in only(events, Planned)[0].choices if c.name == "image cache")
        assert stay.value == {"auto": "in GPU memory", "none": "none"}[cache]
    assert told["auto"][:4] == pytest.approx(told["none"][:4], rel=1e-3)
