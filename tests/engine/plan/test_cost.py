"""Where decoded images are cached, what that takes of the budget, and what the loader gets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli import memory
from ssl_cli.data.sample import Sample
from ssl_cli.data.shapes import Shapes
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.plan import plan
from ssl_cli.engine.plan.cost import CostModel, ImageCache, place_images
from ssl_cli.planning.divide import MicroBatchPlan
from tests.engine.plan.test_plan import CPU, choice, make
from tests.engine.test_pretrain import COST, settings

GPU = torch.device("cuda")
IMAGE = 3 * 10 * 10
LIMIT = 8 * 1000 * IMAGE
"""An eighth of it holds a thousand images."""


@dataclass(frozen=True)
class Fixed(CostModel):
    """A run whose batch fits undivided in `enough` bytes, and in half of them with every row recomputed."""

    where: torch.device = GPU
    enough: int = 0

    @property
    def device(self) -> torch.device:
        return self.where

    @property
    def fixed(self) -> int:
        return 7 * IMAGE

    def divide(self, room: int, mode: Any = None) -> MicroBatchPlan | None:
        if room < self.enough // 2:
            return None
        return MicroBatchPlan(16, 1, int(room >= self.enough), checkpointing=False, peak=0)


def cached(
    images: int, *, cache: str = "auto", ragged: bool = False, ram: int = 2000 * IMAGE, **more: Any
) -> ImageCache:
    chosen = settings(Path("nowhere"), data={"cache": cache})
    pixels: list[Tensor] = [torch.zeros(3, 10, 10 + 2 * (ragged and k) - ragged) for k in range(2)]
    never: Any = None
    model = Fixed(chosen, never, "fp32", Sample(pixels, 0.0, IMAGE), None, never, 0, **more)
    found, micro_batches = place_images(model, images, LIMIT, ram)
    assert micro_batches == model.divide(LIMIT - model.fixed - found.held)
    return found


def test_a_gpu_caches_images_of_one_size_in_an_eighth_of_its_budget() -> None:
    found = cached(1000)
    assert (found.place, found.held) == ("in GPU memory", 300_000)
    assert found.reason == "300 kB decoded, within an eighth of its budget"
    found = cached(1001)
    assert (found.place, found.held) == ("in RAM", 0)
    assert found.reason == "300 kB decoded; an eighth of the GPU's budget is 300 kB"
    found = cached(1000, ragged=True)
    assert (found.place, found.held, found.reason) == ("in RAM", 0, "300 kB decoded; their sizes differ")
    found = cached(2001)
    assert (found.place, found.held) == ("none", 0)
    assert found.reason == "600 kB decoded, 600 kB of it in RAM; an eighth of the GPU's budget is 300 kB"


def test_a_gpu_caches_no_images_where_rows_would_be_recomputed_for_it() -> None:
    assert cached(1000, enough=LIMIT - 1007 * IMAGE).place == "in GPU memory"
    found = cached(1000, enough=LIMIT - 1007 * IMAGE + 1)
    assert (found.place, found.held) == ("in RAM", 0)
    assert found.reason == "300 kB decoded; in GPU memory they would leave too little for the batch"
    assert cached(1000, enough=LIMIT).place == "in GPU memory"  # rows are recomputed in any case
    assert cached(1000, enough=2 * (LIMIT - 10 * IMAGE)).place == "in RAM"  # or nothing would fit


@pytest.mark.parametrize("device", [GPU, CPU])
def test_a_cache_policy_that_is_asked_for_is_taken(device: torch.device) -> None:
    found = cached(1000, cache="none", where=device)
    assert (found.place, found.held, found.beyond) == ("none", 0, 0)
    assert found.reason == "given; 300 kB decoded every epoch"
    found = cached(1000, cache="ram", where=device)
    assert (found.place, found.reason) == ("in RAM", "given; 300 kB decoded")


def test_images_in_ram_count_towards_the_budget_and_above_it() -> None:
    room = 500 * IMAGE
    found = cached(400, where=CPU, ram=room)
    assert (found.place, found.held, found.beyond, found.reason) == ("in RAM", 120_000, 0, "120 kB decoded")
    found = cached(1000, where=CPU, ram=room)
    assert (found.place, found.held, found.beyond) == ("none", 150_000, 0)
    assert found.reason == "300 kB decoded, 150 kB of it in RAM"
    found = cached(1000, cache="ram", where=CPU, ram=room)
    assert (found.place, found.held, found.beyond) == ("in RAM", 150_000, 150_000)


def test_the_plan_states_the_cache_and_the_loader_gets_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Free memory is read once: a second reading would see other numbers."""
    free = iter([10**9, 10**9, 1])  # before the measurement, for the budget; a third reading would be another's
    monkeypatch.setattr(memory, "available", lambda: next(free))
    monkeypatch.setattr(memory, "resident", lambda: 10**8)
    monkeypatch.setattr("ssl_cli.engine.plan.cost.measure_step", lambda *_, **__: COST)
    found = make(settings(Path("nowhere")))
    assert choice(found, "image cache").value == "in RAM"
    assert "74 kB decoded" in choice(found, "image cache").reason
    assert found.resolved.gpu_cache_bytes == 0
    monkeypatch.setattr(memory, "available", lambda: 10**9)
    chosen = settings(Path("nowhere"))
    assert found.cache_bytes == plan.cache_bytes(chosen, build_objective(chosen, CPU, 96), CPU)


def test_the_loader_caches_on_the_device_where_the_images_fit() -> None:
    chosen = settings(Path("nowhere"))
    source, objective = Shapes(96, 16, 0), build_objective(chosen, CPU)
    for room, there in ((0, False), (96 * 768, True), (96 * 768 - 1, False)):
        loader = build_loader(chosen, objective, source, CPU, cache_bytes=10**9, gpu_cache_bytes=room)
        next(loader.batches(0, 1))
        assert loader._cache.on_gpu == there
