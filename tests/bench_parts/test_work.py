"""What a pass asks of the machine, against sums by hand."""

import pytest
import torch
from torch import nn

from ssl_cli.bench.step import image_work
from ssl_cli.bench.work import Passes, Traffic, Work, operations, passes
from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.objective import Objective

CPU = torch.device("cpu")


def objective(size: int, **model: object) -> Objective:
    return build_objective(
        Settings.model_validate({"method": {"name": "simclr"}, "model": model, "data": {"size": size}}), CPU
    )


def test_bytes_are_those_read_and_written() -> None:
    x, y = torch.rand(10, 20), torch.rand(10, 20)
    with Traffic() as traffic:
        z = x + y
    assert traffic.bytes == 3 * 800
    with Traffic() as traffic:
        z.view(20, 10).t()[3:].detach()
        torch.empty(1000)
    assert traffic.bytes == 0
    with Traffic() as traffic:
        x.add_(torch.ones(()).expand(10, 20))  # one number, however often it is looked at
    assert traffic.bytes <= 2 * 800 + 2 * 4 + 4
    with Traffic() as traffic:
        torch.native_batch_norm(x, None, None, None, None, True, 0.0, 1e-5)
    assert traffic.bytes == 3 * 800 + 2 * 80  # read for its statistics, read, written


def test_a_residual_network_is_as_long_as_its_convolutions() -> None:
    """8.18 GFLOP forward and 475 MB a view there and back in bf16: summed over the layers of a ResNet-50."""
    counted = passes(objective(224, backbone="resnet50"), 224, "bf16")
    assert counted.forward.flops / 1e9 == pytest.approx(8.18, rel=0.01)
    assert counted.both.flops == pytest.approx(3 * counted.forward.flops, rel=0.02)
    assert counted.both.bytes / 1e6 == pytest.approx(475, rel=0.1)
    assert counted.forward.bytes / 1e6 == pytest.approx(184, rel=0.15)


def test_precision_halves_the_bytes_and_leaves_the_operations() -> None:
    small = objective(32, backbone="resnet18", width=0.25)
    single, half = (passes(small, 32, precision).both for precision in ("fp32", "bf16"))
    assert single.flops == half.flops
    assert 1.7 < single.bytes / half.bytes < 2.1
    assert all(p.grad is None for p in small.parameters())


def test_a_network_that_looks_at_numbers_is_counted_too() -> None:
    class Looks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert float(x.sum()) >= 0
            return x.flatten(1) @ x.new_ones(3 * 8 * 8, 4)

    class Mine(Objective):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.weight = Looks(), nn.Parameter(torch.ones(4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.backbone(x) * self.weight  # type: ignore[no-any-return]

    assert passes(Mine(), 8, "fp32").forward.flops == 2 * 192 * 4


def test_rows_add_up_to_an_image() -> None:
    row = Passes(forward=Work(10, 1), both=Work(30, 3))
    method = objective(16, backbone="resnet18", width=0.0625)
    assert image_work(row, method, 0.0) == Work(60, 6)  # two views
    assert image_work(row, method, 1.0) == Work(80, 8)  # each passing once more
    method.gradient_views, method.key_views = 1, 1
    assert image_work(row, method, 0.0) == Work(40, 4)  # a query and a key


def test_operations_of_a_call() -> None:
    a = torch.rand(3, 4)
    assert operations(lambda: a @ a.T) == 2 * 3 * 4 * 3
