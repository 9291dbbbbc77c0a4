"""Where decoded images stay, what that takes of the budget, and what the plan says of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from ssl_cli.engine.plan.forecast import Sample
from ssl_cli.engine.plan.need import Need
from ssl_cli.engine.plan.residence import Residence, housed
from torch import Tensor

from ssl_cli.data.shapes import Shapes
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.plan import budget, memory
from ssl_cli.engine.plan.divide import Division
from tests.engine.plan.test_plan import CPU, choice, make
from tests.engine.test_pretrain import settings

CARD = torch.device("cuda")
IMAGE = 3 * 10 * 10
MOST = 8 * 1000 * IMAGE
"""An eighth of it holds a thousand images."""


@dataclass(frozen=True)
class Asked(Need):
    """Of a run whose batch passes at once in `enough` bytes, and in half of them with every row passing twice."""

    where: torch.device = CARD
    enough: int = 0

    @property
    def device(self) -> torch.device:
        return self.where

    def beside(self, settings: Any) -> int:
        return 7 * IMAGE

    def divide(self, settings: Any, room: int, mode: Any = None) -> Division | None:
        if room < self.enough // 2:
            return None
        return Division(16, 1, int(room >= self.enough), checkpointing=False, peak=0)


def where(images: int, tmp_path: Path, *, cache: str = "auto", ragged: bool = False, **more: Any) -> Residence:
    chosen = settings(tmp_path, data={"cache": cache})
    pixels: list[Tensor] = [torch.zeros(3, 10, 10 + 2 * (ragged and k) - ragged) for k in range(2)]
    sample = Sample(pixels, 0.0, IMAGE)
    found, division = housed(
        chosen, Asked(build_objective(chosen, CPU), 16, "fp32", sample, None, **more), images, MOST
    )
    asked = Asked(build_objective(chosen, CPU), 16, "fp32", sample, None, **more)
    assert division == asked.divide(chosen, MOST - asked.beside(chosen) - found.held)
    return found


@pytest.fixture(autouse=True)
def _memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 4 * 2000 * IMAGE)  # a quarter of it holds two thousand images


def test_an_eighth_of_a_card_is_theirs_where_they_are_of_one_size(tmp_path: Path) -> None:
    found = where(1000, tmp_path)
    assert (found.place, found.held, found.card_bytes, found.decoded_once) == ("on the card", 300_000, 300_000, True)
    assert found.reason == "300 kB decoded, within an eighth of its budget"
    found = where(1001, tmp_path)
    assert (found.place, found.held, found.card_bytes, found.decoded_once) == ("in memory", 0, 0, True)
    assert found.reason == "300 kB decoded; an eighth of the card's budget is 300 kB"
    found = where(1000, tmp_path, ragged=True)
    assert (found.place, found.held, found.reason) == ("in memory", 0, "300 kB decoded; their sizes differ")
    found = where(2001, tmp_path)
    assert (found.place, found.held, found.decoded_once) == ("on the disk", 0, False)
    assert found.reason == "600 kB decoded, 600 kB of it in memory; an eighth of the card's budget is 300 kB"


def test_not_where_the_batch_would_have_to_pass_again_for_it(tmp_path: Path) -> None:
    assert where(1000, tmp_path, enough=MOST - 1007 * IMAGE).place == "on the card"
    found = where(1000, tmp_path, enough=MOST - 1007 * IMAGE + 1)
    assert (found.place, found.held) == ("in memory", 0)
    assert found.reason == "300 kB decoded; on the card they would leave too little for the batch"
    assert where(1000, tmp_path, enough=MOST).place == "on the card"  # rows pass twice in any case
    assert where(1000, tmp_path, enough=2 * (MOST - 10 * IMAGE)).place == "in memory"  # or nothing would fit


@pytest.mark.parametrize("device", [CARD, CPU])
def test_what_is_asked_for_is_obeyed(tmp_path: Path, device: torch.device) -> None:
    found = where(1000, tmp_path, cache="none", where=device)
    assert (found.place, found.held, found.beyond) == ("on the disk", 0, 0)
    assert found.reason == "given; 300 kB decoded every epoch"
    found = where(1000, tmp_path, cache="ram", where=device)
    assert (found.place, found.card_bytes) == ("in memory", 0)
    assert found.reason == "given; 300 kB decoded"


def test_in_memory_they_are_of_the_budget_and_what_is_asked_for_beyond_it_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "cache_bytes", lambda *_: 500 * IMAGE)
    found = where(400, tmp_path, where=CPU)
    assert (found.place, found.held, found.beyond, found.reason) == ("in memory", 120_000, 0, "120 kB decoded")
    found = where(1000, tmp_path, where=CPU)
    assert (found.place, found.held, found.beyond) == ("on the disk", 150_000, 0)
    assert found.reason == "300 kB decoded, 150 kB of it in memory"
    found = where(1000, tmp_path, cache="ram", where=CPU)
    assert (found.place, found.held, found.beyond) == ("in memory", 150_000, 150_000)


def test_on_a_card_the_views_of_two_steps_and_a_batch_of_images_are_counted(tmp_path: Path) -> None:
    chosen = settings(tmp_path)
    objective = build_objective(chosen, CPU)
    pixels = 16 * 2 * 3 * 16 * 16
    steady = 2 * budget.trained_bytes(objective) + budget.checkpoint_bytes(chosen, objective)
    for precision, size in (("fp32", 4), ("bf16", 2)):
        found = budget.held(chosen, objective, CARD, precision, 100)
        assert found == steady + 2 * pixels * size + 3 * pixels * 4 + 16 * 100


def test_the_plan_says_where_and_the_loader_does_so(tmp_path: Path) -> None:
    for cache, place in (("auto", "in memory"), ("ram", "in memory"), ("none", "on the disk")):
        found = make(settings(tmp_path, data={"cache": cache}, hardware={"memory": "4GB"}))
        assert choice(found, "images stay").value == place
        assert "74 kB decoded" in choice(found, "images stay").reason
        assert found.resolved.card_bytes == 0
    chosen = settings(tmp_path)
    source, objective = Shapes(96, 16, 0), build_objective(chosen, CPU)
    for room, there in ((0, False), (96 * 768, True), (96 * 768 - 1, False)):
        loader = build_loader(chosen, objective, source, CPU, room)
        next(loader.batches(0, 1))
        assert loader._cache.on_gpu == there
