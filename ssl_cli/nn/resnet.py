"""ResNets (He et al. 2016, arXiv 1512.03385) with a width multiplier and a CIFAR or ImageNet stem.

Parameter names are torchvision's, without `fc`, so weights travel both ways. Bottlenecks stride in their 3x3
convolution (v1.5), as torchvision's and the SimCLR authors' do.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ssl_cli.nn.batchnorm import BatchNorm2d


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class _Block(nn.Module):
    """The residual pattern: a branch of convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(_conv(inputs, outputs, 1, stride), BatchNorm2d(outputs))

    def branch(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def last_norm(self) -> BatchNorm2d:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.branch(x) + shortcut)  # type: ignore[no-any-return]


class BasicBlock(_Block):
    """Two 3x3 convolutions."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, width, stride)
        self.conv1, self.bn1 = _conv(inputs, width, 3, stride), BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3), BatchNorm2d(width)

    def branch(self, x: Tensor) -> Tensor:
        """The residual branch."""
        return self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))  # type: ignore[no-any-return]

    def last_norm(self) -> BatchNorm2d:
        """The BatchNorm before the addition."""
        return self.bn2


class Bottleneck(_Block):
    """1x1, 3x3 and 1x1 convolutions; outputs are four times as wide."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__(inputs, width, stride)
        self.conv1, self.bn1 = _conv(inputs, width, 1), BatchNorm2d(width)
        self.conv2, self.bn2 = _conv(width, width, 3, stride), BatchNorm2d(width)
        self.conv3, self.bn3 = _conv(width, width * 4, 1), BatchNorm2d(width * 4)

    def branch(self, x: Tensor) -> Tensor:
        """The residual branch."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.bn3(self.conv3(x))  # type: ignore[no-any-return]

    def last_norm(self) -> BatchNorm2d:
        """The BatchNorm before the addition."""
        return self.bn3


class ResNet(nn.Module):
    """Images `(M,3,H,W)` to representations h `(M, features)`.

    Args:
        block: basic or bottleneck.
        depths: blocks in each of the four stages.
        width: multiplier of all channel counts; 1 gives the published networks.
        stem: `cifar` (3x3, stride 1, no pooling) or `imagenet` (7x7, stride 2, max-pooling).
        zero_init: the last BatchNorm of each block starts at gamma 0 (Goyal et al. 2017, section 5.1).
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
    ) -> None:
        super().__init__()
        base = max(1, round(64 * width))
        self.stem = stem
        self.conv1 = nn.Conv2d(3, base, 3, padding=1, bias=False) if stem == "cifar" else _conv(3, base, 7, 2)
        self.bn1 = BatchNorm2d(base)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.Module = nn.Identity() if stem == "cifar" else nn.MaxPool2d(3, 2, padding=1)
        inputs = base
        for stage, depth in enumerate(depths):
            blocks = []
            for i in range(depth):
                blocks.append(block(inputs, base * 2**stage, 2 if stage and not i else 1))
                inputs = base * 2**stage * block.expansion
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.features = inputs
        self._initialise(zero_init)

    def _initialise(self, zero_init: bool) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif zero_init and isinstance(module, _Block):
                nn.init.zeros_(module.last_norm().weight)

    def forward(self, x: Tensor) -> Tensor:
        """Representations h `(M, features)`: the mean over the last feature map."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
        return x.mean((2, 3))


def resnet18(width: float = 1.0, stem: str = "imagenet", zero_init: bool = False) -> ResNet:
    """ResNet-18: 11.2 M parameters at width 1."""
    return ResNet(BasicBlock, (2, 2, 2, 2), width, stem, zero_init)


def resnet34(width: float = 1.0, stem: str = "imagenet", zero_init: bool = False) -> ResNet:
    """ResNet-34: 21.3 M parameters at width 1."""
    return ResNet(BasicBlock, (3, 4, 6, 3), width, stem, zero_init)


def resnet50(width: float = 1.0, stem: str = "imagenet", zero_init: bool = False) -> ResNet:
    """ResNet-50: 23.5 M parameters at width 1."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width, stem, zero_init)
