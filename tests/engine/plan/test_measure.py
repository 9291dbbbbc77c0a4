"""Measurements: which arithmetic is the fastest, and how many rows are run to measure time and memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli import memory
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.data.sample import read_sample
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.plan import measure
from ssl_cli.engine.plan.measure import Arithmetic, measure_step, power_of_two
from ssl_cli.nn.activations import blank_rows, count_activations, count_rows
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.objective import Batch, Objective
from tests.engine.test_pretrain import settings

CPU = torch.device("cpu")
FP32 = Arithmetic("fp32", "channels_last", {})


@pytest.fixture(scope="module")
def objective() -> Objective:
    return build_objective(settings(Path("nowhere"), model={"width": 0.0625}), CPU).train()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_activations_are_the_same_on_fake_tensors_and_on_real_ones(objective: Objective, precision: str) -> None:
    fake = count_activations(objective, 16, precision)
    real = count_rows(objective, blank_rows(objective, 64, 16), precision)
    assert (fake.saved, fake.peak) == pytest.approx((real.saved, real.peak), rel=0.07)


def test_a_network_that_reads_values_is_counted_on_real_rows(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = count_activations(objective, 16, "fp32")
    forward = type(objective).forward

    def reading(self: Any, x: Tensor) -> Tensor:
        assert float(x.sum()) != 0  # a fake tensor has no values
        return forward(self, x)

    monkeypatch.setattr(type(objective), "forward", reading)
    found = count_activations(objective, 16, "fp32")
    assert (found.saved, found.peak) == pytest.approx((wanted.saved, wanted.peak), rel=0.05)


@pytest.mark.parametrize(("bf16", "wanted"), [(0.5, "bf16"), (0.95, "fp32"), (3.0, "fp32")])
def test_another_arithmetic_has_to_be_faster_by_a_tenth(
    objective: Objective, monkeypatch: pytest.MonkeyPatch, bf16: float, wanted: str
) -> None:
    seconds = {"fp32": 1.0, "bf16": bf16}
    monkeypatch.setattr(measure, "pass_seconds", lambda _, x, precision: seconds[precision] * len(x) * 1e-3)
    found = measure.fastest(objective, 16, CPU, ["fp32", "bf16"], ["channels_last", "contiguous"])
    assert (found.precision, found.memory_format) == (wanted, "channels_last")
    assert "probed: " in found.reason


@pytest.mark.parametrize(("native", "wanted"), [(True, "bf16"), (False, "fp32")])
def test_the_processor_s_instructions_decide_where_nothing_can_be_measured(
    objective: Objective, monkeypatch: pytest.MonkeyPatch, native: bool, wanted: str
) -> None:
    monkeypatch.setattr(measure, "COMPARE_SECONDS", 0)
    monkeypatch.setattr(measure, "has_bf16", lambda device: native)
    found = measure.fastest(objective, 16, CPU, ["fp32", "bf16"], ["channels_last", "contiguous"])
    assert (found.precision, found.memory_format) == (wanted, "channels_last")
    assert found.reason.startswith("not probed")
    assert ("bf16 instructions" in found.reason) == native


def test_rows_are_powers_of_two() -> None:
    assert [power_of_two(rows) for rows in (0.4, 1, 2, 3.9, 63, 64, 65)] == [2, 2, 2, 2, 32, 64, 64]


def rows_run(
    objective: Objective, monkeypatch: pytest.MonkeyPatch, room: int, fails_at: int = 10**9, max_rows: int = 256
) -> set[int]:
    """Return the numbers of rows that are run where a row takes 1 MB, beside 10 MB for any number of them."""
    seen = set()
    last = [0]

    def run(_: Objective, x: Tensor, precision: str, *, backward: bool = True) -> float:
        if len(x) >= fails_at:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        seen.add(len(x))
        last[0] = len(x)
        return len(x) * 1e-5

    def peak_during(call: Any, device: torch.device) -> int:
        call()
        return 10**7 + 10**6 * last[0]

    monkeypatch.setattr(measure, "pass_seconds", run)
    monkeypatch.setattr(memory, "peak_during", peak_during)
    x = blank_rows(objective, 4, 16)
    rows, forward_backward, forward, peaks = measure._measure_passes(objective, x, FP32, max_rows, room)
    assert rows == max(seen)
    assert (forward_backward, forward) == pytest.approx((1e-5, 1e-5))
    assert set(peaks) <= seen
    return seen


def test_rows_grow_only_while_they_are_expected_to_fit(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    assert max(rows_run(objective, monkeypatch, room=10**9)) == 256
    assert max(rows_run(objective, monkeypatch, room=10**9, max_rows=32)) == 32
    for room in (5 * 10**7, 8 * 10**7):
        assert 10**7 + 10**6 * max(rows_run(objective, monkeypatch, room=room)) <= room
    assert max(rows_run(objective, monkeypatch, room=0)) == 2


def test_small_views_are_compared_with_whole_ones(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(_: Objective, x: Tensor, precision: str) -> float:
        assert precision == "fp32"
        return x.numel() * next(noise)

    noise = iter([9.0, 9.0, 2.0, 1.0, 1.0, 3.0])  # in turns; the first of each builds kernels
    monkeypatch.setattr(measure, "pass_seconds", seconds)
    x = torch.zeros(4, 3, 16, 16)
    assert measure._share_of_pass(objective, x, FP32, 8) == 8**2 / 16**2


def test_making_the_smallest_views_is_part_of_their_cost(objective: Objective, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds: dict[int, float] = {16: 4.0, 8: 3.0}

    class Views(Pipeline):
        def stacked(self, batch: Batch, views: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
            now[0] += seconds[self.size]
            return super().stacked(batch, views, dtype)

    now = [0.0]
    monkeypatch.setattr("ssl_cli.engine.plan.measure.time.perf_counter", lambda: now[0])
    monkeypatch.setattr(measure, "pass_seconds", lambda _, x, precision, backward=True: len(x) * (0.1 + 0.4 * backward))
    monkeypatch.setattr(measure, "_share_of_pass", lambda *_: 0.25)
    pipeline, small = (Views(settings(Path("nowhere")).views, side, 0) for side in (16, 8))
    found = measure_step(
        objective, pipeline, read_sample(None, 16), 32, FP32, max_rows=32, available=10**9, smallest=small
    )
    passes = found.image(objective, 0) - 4 / 32
    assert passes == pytest.approx(objective.gradient_views * 0.5 + objective.key_views * 0.1)
    assert found.smallest == pytest.approx((3 / 32 + 0.25 * passes) / (4 / 32 + passes))


def test_rows_that_are_out_of_memory_are_the_end_of_the_measurement(
    objective: Objective, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert max(rows_run(objective, monkeypatch, room=10**12, fails_at=30)) == 8
    with pytest.raises(torch.OutOfMemoryError):
        rows_run(objective, monkeypatch, room=10**12, fails_at=1)


def test_measuring_leaves_the_objective_unchanged(objective: Objective) -> None:
    before = fingerprint(objective)
    pipeline, small = (Pipeline(settings(Path("nowhere")).views, side, 0) for side in (16, 8))
    found = measure_step(
        objective, pipeline, read_sample(None, 16), 16, FP32, max_rows=32, available=10**9, smallest=small
    )
    assert min(found.augment, found.forward_backward, found.forward, found.loss, found.smallest) > 0
    assert fingerprint(objective) == before
    assert objective.training
    assert all(p.grad is None for p in objective.parameters())
