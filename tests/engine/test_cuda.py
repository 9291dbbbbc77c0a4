"""Whole runs on a CUDA device; they have waited for one so far, and say so by being deselected."""

import gc
from pathlib import Path

import pytest
import torch

from ssl_cli import checkpoint
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.engine.train import Trainer, train
from ssl_cli.events import Evaluated, Finished, Planned, Stepped, Warned
from ssl_cli.nn.compile import disable_compile
from ssl_cli.nn.precision import autocast, tf32
from ssl_cli.planning.resolved import Resolved
from tests.data.pictures import folder
from tests.engine.test_pretrain import only, run, settings

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("method", ["simclr", "moco-v2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_on_the_gpu(tmp_path: Path, method: str, precision: str) -> None:
    on_gpu = {"device": "cuda", "precision": precision}
    events = run(settings(tmp_path / "run", method={"name": method}, hardware=on_gpu, run={"evaluate": True}))
    assert isinstance(events[-1], Finished)
    assert 0 <= only(events, Evaluated)[0].result["top1"] <= 1


def test_cached_follows_direct_on_the_gpu(tmp_path: Path) -> None:
    gentle = {"lr": 1e-3}
    direct = run(settings(tmp_path / "a", optim=gentle, hardware={"device": "cuda"}))
    cached = run(
        settings(tmp_path / "b", optim=gentle, hardware={"device": "cuda", "micro_batch": 16, "mode": "cached"})
    )
    a, b = ([event.loss for event in only(events, Stepped)] for events in (direct, cached))
    assert a[:4] == pytest.approx(b[:4], rel=1e-3)


def test_a_run_resumes_on_the_gpu(tmp_path: Path) -> None:
    chosen = settings(tmp_path / "run", run={"max_time": 1e-3}, hardware={"device": "cuda:0"})
    run(chosen)
    resumed = list(pretrain(settings(tmp_path / "run"), origins={}, resume=True, overwrite=False))
    assert isinstance(resumed[-1], Finished)


def test_tf32_is_used_in_networks_only() -> None:
    gpu = torch.device("cuda")
    a, b = (torch.rand(512, 512, dtype=torch.float64, device=gpu) - 0.5 for _ in range(2))
    exact = a @ b

    def off() -> float:
        return float((a.float() @ b.float() - exact).abs().max())

    full = off()
    with autocast(gpu, "fp32")():
        assert off() > 10 * full
    with tf32(gpu):
        assert torch.equal(a @ b, exact)
    assert off() == full


@pytest.mark.parametrize("method", ["simclr", "moco-v2"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("way", ["on", "graphs"])
def test_a_compiled_run_follows_an_eager_one(tmp_path: Path, method: str, precision: str, way: str) -> None:
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


def test_graphs_are_replayed_and_give_their_memory_back(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, precision="fp32", compile_mode="graphs")
    torch._dynamo.utils.counters.clear()
    assert isinstance(list(train(trainer))[-1], Finished)
    assert not torch._dynamo.utils.counters["inductor"]["cudagraph_skips"]
    disable_compile(trainer.objective)
    gc.collect()
    pools = [part for part in torch.cuda.memory_snapshot() if part["segment_pool_id"] != (0, 0)]  # type: ignore[no-untyped-call]
    assert not sum(part["allocated_size"] for part in pools)


ORDER = ["crop", "flip", "rotate", "jitter", "gray", "solarize", "blur", "noise", "cutout", "normalize"]


def occupy(milliseconds: int) -> torch.cuda.Event:
    """Occupy the training stream for about so long; return the event that marks its end."""
    torch.cuda._sleep(milliseconds * 2_000_000)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event()  # type: ignore[no-untyped-call]
    end.record()
    return end


def make_trainer(
    out: Path,
    *,
    gpu_cache_bytes: int = 0,
    precision: str = "bf16",
    source: str | None = None,
    compile_mode: str = "off",
) -> Trainer:
    data = {"source": source, "images": 96, "size": 32}
    chosen = settings(out, data=data, augment={"order": ORDER}, hardware={"device": "cuda"})
    gpu, images = torch.device("cuda"), open_pretraining(chosen.data, 0)
    objective = build_objective(chosen, gpu, len(images))
    resolved = Resolved(
        "cuda", precision, "channels_last", mode="direct", micro_batch=32, kept_graphs=1, checkpointing=False,
        compile=compile_mode, images=len(images), gpu_cache_bytes=gpu_cache_bytes,
    )  # fmt: skip
    loader = build_loader(chosen, objective, images, gpu, cache_bytes=10**9, gpu_cache_bytes=gpu_cache_bytes)
    trainer = Trainer(chosen, resolved, objective, loader)
    trainer.views.start(0, trainer.schedule.steps)
    return trainer


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("gpu_cache_bytes", [0, 10**6])
@pytest.mark.parametrize("pictures", [False, True])
def test_prefetched_views_are_those_made_in_their_own_step(
    tmp_path: Path, precision: str, gpu_cache_bytes: int, pictures: bool
) -> None:
    source = str(folder(tmp_path / "pictures", {"all": 96})) if pictures else None
    trainer, plain = (
        make_trainer(tmp_path, gpu_cache_bytes=size, precision=precision, source=source)
        for size in (gpu_cache_bytes, 0)
    )
    found = []
    for step in range(trainer.schedule.steps):
        views, batch = trainer.views.take(step)
        occupy(10)  # so that whatever does not wait for the training stream comes too early
        trainer.views.prefetch()
        found.append((views.x.clone(), batch))
    assert trainer.loader._cache.on_gpu == bool(gpu_cache_bytes)
    for (x, batch), wanted in zip(found, plain.loader.batches(0, plain.schedule.steps), strict=True):
        assert torch.equal(x, plain.views.augment(wanted).x)
        assert torch.equal(batch.index, wanted.index)
        assert torch.equal(batch.label, wanted.label)
        assert (batch.epoch, batch.step) == (wanted.epoch, wanted.step)


@pytest.mark.parametrize("gpu_cache_bytes", [0, 10**6])
def test_prefetching_does_not_synchronise_the_gpu(tmp_path: Path, gpu_cache_bytes: int) -> None:
    trainer = make_trainer(tmp_path, gpu_cache_bytes=gpu_cache_bytes)
    for step in range(trainer.loader.steps_per_epoch):  # pinned memory is allocated, images are read
        trainer.views.take(step)
        trainer.views.prefetch()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        trainer.views.take(trainer.loader.steps_per_epoch)
        training = occupy(1000)
        trainer.views.prefetch()
        trainer.views.take(trainer.loader.steps_per_epoch + 1)
        assert not training.query()  # type: ignore[no-untyped-call]
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_images_cached_in_gpu_memory_change_nothing(tmp_path: Path) -> None:
    losses = {}
    for cache in ("auto", "none"):
        on_gpu = {"device": "cuda"}
        events = run(settings(tmp_path / cache, data={"cache": cache}, optim={"lr": 1e-3}, hardware=on_gpu))
        losses[cache] = [event.loss for event in only(events, Stepped)]
        (stay,) = (c for c in only(events, Planned)[0].choices if c.name == "image cache")
        assert stay.value == {"auto": "in GPU memory", "none": "none"}[cache]
    assert losses["auto"][:4] == pytest.approx(losses["none"][:4], rel=1e-3)
