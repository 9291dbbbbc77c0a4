"""What a network costs: the FLOP and the activations of a view, counted from its layers' shapes."""

from collections.abc import Iterator
from dataclasses import dataclass

from ssl_cli.config.tree import CIFAR_UP_TO
from ssl_cli.nn.resnet import BASIC, DEPTHS

STAND_IN = "resnet50"
"""Network whose cost is taken for a torchvision or timm network, whose layers are unknown here."""
FORWARD_BACKWARD = 3
"""FLOP of a forward and a backward pass, in those of a forward pass."""


@dataclass(frozen=True)
class NetworkCost:
    """Cost of one view: FLOP of a forward pass (a multiply-add is two), and the numbers kept for the backward pass."""

    flop: float
    activations: float


def network_cost(backbone: str, width: float, size: int, stem: str = "auto", channels: int = 3) -> NetworkCost:
    """Count the cost of a view of `size` pixels and `channels` by its convolutions: all else is little."""
    flop = outputs = 0.0
    for kernel, inputs, maps, side in _convolutions(backbone, width, size, stem, channels):
        flop += 2 * kernel**2 * inputs * maps * side**2
        outputs += maps * side**2
    return NetworkCost(flop, 2 * outputs)  # the input of each BatchNorm, and that of each next convolution


def _convolutions(
    backbone: str, width: float, size: int, stem: str, channels: int
) -> Iterator[tuple[int, int, int, int]]:
    """Yield kernel, input channels, output channels and side of the output of each convolution."""
    if backbone not in DEPTHS:
        backbone, width = STAND_IN, 1.0
    base = max(1, round(64 * width))
    if stem == "cifar" or (stem == "auto" and size <= CIFAR_UP_TO):
        side = size
        yield 3, channels, base, side
    else:
        side = -(-size // 2)
        yield 7, channels, base, side
        side = -(-side // 2)  # max-pooling
    expansion, inputs = 1 if backbone in BASIC else 4, base
    for stage, depth in enumerate(DEPTHS[backbone]):
        maps = base * 2**stage
        for block in range(depth):
            stride = 2 if stage and not block else 1
            before, side = side, -(-side // stride)
            if expansion == 1:
                yield 3, inputs, maps, side
            else:
                yield 1, inputs, maps, before
            yield 3, maps, maps, side
            if expansion > 1:
                yield 1, maps, maps * expansion, side
            if stride > 1 or inputs != maps * expansion:
                yield 1, inputs, maps * expansion, side
            inputs = maps * expansion
