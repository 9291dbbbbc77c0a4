"""ResNets (He et al. 2016, arXiv 1512.03385) with a width multiplier, a CIFAR or ImageNet stem and selective kernels.

Parameter names are torchvision's, without `fc`, so that weights are interchangeable. Bottlenecks have their stride in
the 3x3 convolution (v1.5), as torchvision's and the SimCLR authors' do. Max-pooling pads both sides, as torchvision's;
TensorFlow's, in SimCLR's code, pads right and below only where a map has an even side, so that with the same weights h
differs by 1 to 2 %. The first group of ResNet-18 and 34 has no projection; SimCLR's code has one (4,224 parameters).

Selective kernels come, as in SimCLR v2's code, with two parts of ResNet-D (He et al. 2019, arXiv 1812.01187, figure 2):
an ImageNet stem of three 3x3 convolutions, and shortcuts that average where the plain ones skip pixels.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_cli.errors import UsageError
from ssl_cli.nn.batchnorm import BatchNorm2d
from ssl_cli.nn.selective_kernel import SelectiveKernel

Part = Callable[[Tensor], Tensor]
Init = Literal["kaiming", "default"]
SAFE_CHANNELS = 16
DEPTHS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
"""Blocks in each stage; the first two networks have basic blocks, the others bottlenecks."""
BASIC = ("resnet18", "resnet34")


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class _Shortcut(nn.Conv2d):
    """Convolve every `stride`-th pixel with a 1x1 kernel.

    Below 16 channels the pixels are selected first: in torch 2.15 on a CPU, the backward pass of a strided 1x1
    convolution writes past its memory if fewer than 16 channels, in channels_last, have an odd number of rows.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Convolve `(M,C,H,W)`."""
        if self.in_channels >= SAFE_CHANNELS:
            return super().forward(input)
        return F.conv2d(F.avg_pool2d(input, 1, self.stride), self.weight)


def _through(blocks: Sequence[nn.Module], x: Tensor) -> Tensor:
    return reduce(lambda x, block: block(x), blocks, x)


def _deep_stem(width: int, channels: int) -> nn.Sequential:
    half = max(1, width // 2)
    first = (_conv(channels, half, 3, 2), BatchNorm2d(half), nn.ReLU(inplace=True))
    second = (_conv(half, half, 3), BatchNorm2d(half), nn.ReLU(inplace=True))
    return nn.Sequential(*first, *second, _conv(half, width, 3))


class _AveragePool(nn.Module):
    """Average windows of 2x2 pixels, `stride` apart, the first at the upper left corner: sides of ceil(side / stride).

    As in SimCLR v2's code, pixels past the right or lower edge are left out at stride 1, and count as zero at stride 2
    (where only an odd side has such a window).
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Pool `(M,C,H,W)`."""
        if self.stride == 1:  # torch pads both sides alike: drop the windows that start outside
            return F.avg_pool2d(x, 2, 1, padding=1, count_include_pad=False)[:, :, 1:, 1:]
        right, below = x.shape[3] % 2, x.shape[2] % 2
        return F.avg_pool2d(F.pad(x, (0, right, 0, below)) if right or below else x, 2)


class _Block(nn.Module):
    """Add a residual branch of convolutions to a shortcut, which averages pixels first if `sk` is set."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int, sk: bool = False) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if sk and (stride != 1 or inputs != outputs):
            self.downsample = nn.Sequential(_AveragePool(stride), _conv(inputs, outputs, 1), BatchNorm2d(outputs))
        elif stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(_Shortcut(inputs, outputs, stride), BatchNorm2d(outputs))

    def branch(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def last_norm(self) -> BatchNorm2d:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.branch(x) + shortcut)  # type: ignore[no-any-return]


class BasicBlock(_Block):
    """Compute two 3x3 convolutions in the branch.

    Raises:
        UsageError: `sk` is set; selective kernels replace the 3x3 convolution of a bottleneck.
    """

    def __init__(self, inputs: int, width: int, stride: int, sk: bool = False) -> None:
        if sk:
            hint = "Choose resnet50, resnet101 or resnet152."
            raise UsageError("Selective kernels need bottlenecks, which ResNet-18 and ResNet-34 do not have.", hint)
        super().__init__(inputs, width, stride)
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), BatchNorm2d(width)

    def branch(self, x: Tensor) -> Tensor:
        """Compute the residual branch, before the addition."""
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))  # type: ignore[no-any-return]

    def last_norm(self) -> BatchNorm2d:
        """Return the BatchNorm before the addition."""
        return self.bn2


class Bottleneck(_Block):
    """Compute 1x1, 3x3 and 1x1 convolutions to four times the width; with `sk` the 3x3 one has selective kernels."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int, sk: bool = False) -> None:
        super().__init__(inputs, width, stride, sk)
        self.conv1, self.bn1 = _conv(inputs, width, 1), BatchNorm2d(width)
        if sk:
            self.conv2: nn.Module = SelectiveKernel(width, width, stride)
        else:
            self.conv2, self.bn2 = _conv(width, width, 3, stride), BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, width * 4, 1), BatchNorm2d(width * 4)

    def branch(self, x: Tensor) -> Tensor:
        """Compute the residual branch, before the addition."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.conv2(x)
        if not isinstance(self.conv2, SelectiveKernel):  # which has BatchNorm and ReLU
            x = self.relu(self.bn2(x))
        return self.bn3(self.conv3(x))  # type: ignore[no-any-return]

    def last_norm(self) -> BatchNorm2d:
        """Return the BatchNorm before the addition."""
        return self.bn3


class ResNet(nn.Module):
    """Compute representations h `(M, features)` of images `(M,C,H,W)`, C from 1 to 16.

    Args:
        block: basic or bottleneck.
        depths: blocks in each of the four stages.
        width: multiplier of all channel counts; 1 gives the published networks.
        stem: `cifar` (3x3, stride 1, no pooling) or `imagenet` (7x7, stride 2, max-pooling).
        zero_init: the last BatchNorm of each block starts at gamma 0 (Goyal et al. 2017, section 5.1).
        sk: selective kernels in the blocks, with ResNet-D's shortcuts and `imagenet` stem.
        channels: C.
        init: initial weights of the convolutions. `kaiming`: normal by fan-out, as in torchvision; `default`: PyTorch's
            own, uniform by fan-in and 2.45 times smaller, as in InstDisc's and InvaSpread's code for CIFAR.

    Raises:
        UsageError: selective kernels in basic blocks.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        block: type[_Block],
        depths: Sequence[int],
        width: float = 1.0,
        stem: str = "imagenet",
        zero_init: bool = False,
        sk: bool = False,
        channels: int = 3,
        init: Init = "kaiming",
    ) -> None:
        super().__init__()
        base = max(1, round(64 * width))
        self.stem = stem
        self.conv1: nn.Module
        if stem == "cifar":
            self.conv1 = _conv(channels, base, 3)
        else:
            self.conv1 = _deep_stem(base, channels) if sk else _conv(channels, base, 7, 2)
        self.bn1 = BatchNorm2d(base)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.Identity() if stem == "cifar" else nn.MaxPool2d(3, 2, padding=1)
        inputs = base
        for stage, depth in enumerate(depths):
            blocks = []
            for i in range(depth):
                blocks.append(block(inputs, base * 2**stage, 2 if stage and not i else 1, sk))
                inputs = base * 2**stage * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.features = inputs
        if init == "kaiming":
            self._initialise_convolutions()
        if zero_init:
            for module in self.modules():
                if isinstance(module, _Block):
                    nn.init.zeros_(module.last_norm().weight)

    def _initialise_convolutions(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for module in self.modules():
            if isinstance(module, SelectiveKernel):
                module.initialise()

    run: Callable[[Part, Tensor], Tensor] = staticmethod(lambda part, x: part(x))
    """Call of a part; activation checkpointing sets its own here."""

    def parts(self) -> list[Part]:
        """Return the parts of the network in order: the stem, and groups of blocks with about equal activations."""
        found: list[Part] = [self.entry]
        for at_once, stage in zip((1, 1, 2, 4), (self.layer1, self.layer2, self.layer3, self.layer4), strict=True):
            blocks = list(stage)  # each has half the activations of one of the stage before
            found += [partial(_through, blocks[i : i + at_once]) for i in range(0, len(blocks), at_once)]
        return found

    def entry(self, x: Tensor) -> Tensor:
        """Compute the stem: images to the first feature map."""
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Compute representations h `(M, features)`: the mean over the last feature map."""
        for part in self.parts():
            x = self.run(part, x)
        return x.mean((2, 3))


# Parameters at width 1: 11.2, 21.3, 23.5, 42.5 and 58.1 M; the first two have no selective kernels.
resnet18 = partial(ResNet, BasicBlock, DEPTHS["resnet18"])
resnet34 = partial(ResNet, BasicBlock, DEPTHS["resnet34"])
resnet50 = partial(ResNet, Bottleneck, DEPTHS["resnet50"])
resnet101 = partial(ResNet, Bottleneck, DEPTHS["resnet101"])
resnet152 = partial(ResNet, Bottleneck, DEPTHS["resnet152"])
