"""Memory that a run may take and needs: counted, and read from the system."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ssl_cli import memory
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.plan import budget
from tests.engine.test_pretrain import settings

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def test_free_gpu_memory_is_read_once_the_allocator_s_cache_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that the measurement left in the allocator's cache are free to the run."""
    free = {"bytes": 1000}
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: free.update(bytes=5000))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free["bytes"], 8000))
    assert budget.budget(None, GPU, process=0)[0] == 4500
    assert budget.free(2000, GPU) == 2000
    assert budget.free(None, GPU) == 5000


def test_a_budget_is_what_was_asked_for_or_half_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 5 * 10**9)
    assert budget.budget(123, CPU, process=0) == (123, "given")
    assert budget.budget(None, CPU, process=10**9)[0] == 3 * 10**9
    assert budget.budget(None, CPU, process=10**10)[0] == budget.AUTO_CPU


@pytest.mark.parametrize(
    ("asked", "limit", "found"),
    [
        (None, 10**9, int(1.5e9 * 0.9)),
        (5 * 10**9, 10**9, int(1.5e9 * 0.9)),
        (10**9, 10**9, 10**9),
        (None, 6 * 10**9, budget.AUTO_CPU),
        (None, 9 * 10**12, (6 * 10**9 + 5 * 10**8) // 2),
        (7 * 10**9, 9 * 10**12, 7 * 10**9),
    ],
)
def test_the_limits_of_the_process_bound_the_budget(
    asked: int | None, limit: int, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "within_limits", lambda: limit)
    monkeypatch.setattr(memory, "available", lambda: min(limit, 6 * 10**9))
    assert budget.budget(asked, CPU, process=5 * 10**8)[0] == found


@pytest.mark.parametrize(("precision", "size"), [("fp32", 4), ("bf16", 2)])
def test_views_of_two_steps_and_a_batch_of_images_are_counted_on_a_gpu(precision: str, size: int) -> None:
    chosen = settings(Path("nowhere"))
    objective = build_objective(chosen, CPU)
    weights, pixels = budget.trained_bytes(objective), 16 * 2 * 3 * 16 * 16
    weight = SimpleNamespace(device=GPU, requires_grad=True, numel=lambda: weights, element_size=lambda: 1)
    on_gpu: Any = SimpleNamespace(parameters=lambda: iter([weight]), views=2)
    found = budget.fixed_bytes(chosen, on_gpu, precision, 100, process=10**9)
    assert found == 2 * weights + 2 * pixels * size + 3 * pixels * 4 + 16 * 100
    assert budget.fixed_bytes(chosen, objective, precision, 100, process=10**9) == (
        10**9 + 2 * weights + pixels * size + 2 * 16 * 100
    )


def test_peak_bytes_of_a_call_are_those_above_what_was_in_use() -> None:
    def allocate() -> None:
        torch.ones(16 << 20)  # 64 MiB

    found = memory.peak_during(allocate, CPU)
    if found is not None:
        assert 0.9 < found / (64 << 20) < 1.3
