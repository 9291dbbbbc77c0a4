"""Activation checkpointing: which parts of a network keep their inputs alone, and that it keeps less."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from ssl_cli.nn.activations import AllocationCounter
from ssl_cli.nn.batchnorm import Moments, convert, grouped
from ssl_cli.nn.checkpointing import blocks, checkpointed
from ssl_cli.nn.resnet import resnet18, resnet50


@pytest.mark.parametrize(
    ("make", "kinds", "count"),
    [
        (models.vit_b_16, {"EncoderBlock", "Sequential"}, 13),
        (models.convnext_tiny, {"CNBlock", "Conv2dNormActivation", "Sequential"}, 23),
        (models.resnet18, {"BasicBlock"}, 8),
        (models.efficientnet_b0, {"MBConv", "Conv2dNormActivation", "Sequential"}, 19),
    ],
)
def test_the_parts_of_networks_of_others(make: Callable[[], nn.Module], kinds: set[str], count: int) -> None:
    with torch.device("meta"):
        found = list(blocks(make()))
    assert {type(block).__name__ for block in found} == kinds
    assert len(found) == count
    inside = [inner for block in found for inner in block.modules() if inner is not block]
    assert not set(map(id, found)) & set(map(id, inside))


def kept(net: nn.Module, x: Tensor, sparing: bool) -> int:
    with AllocationCounter(before=net.parameters()) as ledger:
        if sparing:
            with checkpointed(net, (len(x),)):
                z = net(x)
        else:
            z = net(x)
        held: int = ledger.live
        del z
    return held


@pytest.mark.parametrize("make", [models.resnet50, models.vit_b_16, models.convnext_tiny, resnet18, resnet50])
def test_less_is_kept(make: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        net, x = make(), torch.empty(2, 3, 224, 224)
    assert kept(net, x, True) < 0.4 * kept(net, x, False)


def test_outputs_gradients_and_moments_are_the_same_and_the_network_as_before() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(resnet18(0.25, "cifar"), nn.Sequential(nn.Linear(128, 8), nn.Dropout(0.3))).double()
    x = torch.rand(12, 3, 16, 16, dtype=torch.float64)

    def step(sparing: bool) -> list[Tensor]:
        moments = Moments()
        net.zero_grad()
        torch.manual_seed(1)
        with grouped(net, (8, 4), moments):
            if sparing:
                with checkpointed(net, (8, 4)):
                    z = net(x)
            else:
                z = net(x)
        z.square().sum().backward()
        found = [z.detach(), *(p.grad.clone() for p in net.parameters() if p.grad is not None)]
        moments.commit()
        return [*found, *(buffer.clone() for buffer in net.buffers())]

    before = {name: value.clone() for name, value in net.state_dict().items()}
    plain = step(False)
    net.load_state_dict(before)
    for one, other in zip(plain, step(True), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)
    assert "run" not in vars(net[0])
    assert "forward" not in vars(net[1])


def test_without_a_gradient_nothing_passes_twice() -> None:
    passes = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            passes.append(1)
            return self.layer(x)  # type: ignore[no-any-return]

    net = convert(nn.Sequential(Counting(), Counting()))
    with checkpointed(net, (3,)), torch.no_grad():
        net(torch.rand(3, 4))
    assert len(passes) == 2
    with checkpointed(net, (3,)):
        z = net(torch.rand(3, 4))
    z.sum().backward()
    assert len(passes) == 2 + 2 + 2
