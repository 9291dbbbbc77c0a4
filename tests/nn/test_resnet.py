"""Our ResNets against torchvision's: same names, same shapes, same function. With selective kernels: the authors'."""

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Literal

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ssl_cli.config.tree import ModelSettings
from ssl_cli.errors import UsageError
from ssl_cli.formats.onnx import compare, convert
from ssl_cli.nn import resnet
from ssl_cli.nn.backbone import build_backbone
from ssl_cli.nn.batchnorm import BatchNorm2d
from ssl_cli.nn.resnet import BasicBlock, Bottleneck, ResNet, resnet18, resnet34, resnet50, resnet101, resnet152
from ssl_cli.nn.selective_kernel import SelectiveKernel

DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

# depth, width, selective kernels, parameters in millions: the table of SimCLR v2's official README (paper: table 1)
PUBLISHED = [
    (50, 1, False, 24),
    (50, 1, True, 35),
    (50, 2, False, 94),
    (50, 2, True, 140),
    (101, 1, False, 43),
    (101, 1, True, 65),
    (101, 2, False, 170),
    (101, 2, True, 257),
    (152, 1, False, 58),
    (152, 1, True, 89),
    (152, 2, False, 233),
    (152, 2, True, 354),
    (152, 3, True, 795),
]


def small(stem: str = "imagenet") -> ResNet:
    """One block a stage, with selective kernels."""
    torch.manual_seed(0)
    return ResNet(Bottleneck, (1, 1, 1, 1), 0.125, stem, sk=True)


def images(rows: int, size: int) -> Tensor:
    return torch.rand(rows, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["resnet18", pytest.param("resnet50", marks=pytest.mark.slow)])
def test_equals_torchvision(name: str) -> None:
    ours = {"resnet18": resnet18, "resnet50": resnet50}[name]()
    theirs = getattr(torchvision.models, name)()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("depth", [18, 34, 50, *(pytest.param(k, marks=pytest.mark.slow) for k in (101, 152))])
def test_names_and_shapes_are_those_of_torchvision(depth: int) -> None:
    with torch.device("meta"):
        ours, theirs = (getattr(module, f"resnet{depth}")() for module in (resnet, torchvision.models))
    theirs.fc = torch.nn.Identity()
    wanted = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == wanted


def test_width_scales_channels() -> None:
    with torch.device("meta"):
        assert resnet18(0.25).features == 128
        assert resnet50(2.0).features == 4096
        narrow, full = (sum(p.numel() for p in resnet34(width).parameters()) for width in (0.25, 1.0))
    assert full == pytest.approx(21.28e6, rel=1e-3)
    assert narrow < full / 14


def test_cifar_stem_keeps_the_resolution() -> None:
    net = resnet18(0.25, "cifar")
    assert isinstance(net.conv1, nn.Conv2d)
    assert net.conv1.stride == (1, 1)
    assert net.conv1.padding == (1, 1)
    x = net.maxpool(net.conv1(torch.randn(1, 3, 32, 32)))
    assert x.shape[2:] == (32, 32)
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 128)


@pytest.mark.parametrize("sk", [False, True])
def test_zero_init(sk: bool) -> None:
    net = resnet50(0.25, zero_init=True, sk=sk)
    gammas = [m.last_norm().weight for m in net.modules() if isinstance(m, Bottleneck)]
    assert len(gammas) == 16
    assert all(not gamma.any() for gamma in gammas)
    others = {m.weight for m in net.modules() if isinstance(m, BatchNorm2d)} - set(gammas)
    assert all((gamma == 1).all() for gamma in others)


@pytest.mark.parametrize(("init", "variance"), [("kaiming", 2 / (9 * 128)), ("default", 1 / (3 * 9 * 128))])
def test_convolutions_start_as_asked(init: Literal["kaiming", "default"], variance: float) -> None:
    """Fan-out normal as in torchvision; or PyTorch's own, uniform within 1 / sqrt(fan-in): 2.45 times narrower."""
    torch.manual_seed(0)
    weight = resnet18(0.25, "cifar", init=init).get_parameter("layer4.1.conv2.weight")
    assert weight.var().item() == pytest.approx(variance, rel=0.02)
    bound = math.sqrt(3 * variance)
    assert (weight.abs().max().item() <= bound) == (init == "default")
    torch.manual_seed(0)
    built = build_backbone(ModelSettings(width=0.25, init=init), 32)[0]
    assert torch.equal(built.get_parameter("layer4.1.conv2.weight"), weight)


def oracle_values(depths: tuple[int, ...], width: int, sk: bool) -> tuple[int, int]:
    """Weights that are trained, and BatchNorm's running statistics, added up by hand from the authors' resnet.py."""
    base = 64 * width
    convolutions, norms = 0, 0  # norms: channels that are normalised
    if sk:
        half = base // 2
        convolutions += 9 * 3 * half + 9 * half * half + 9 * half * base
        norms += 2 * half + base
    else:
        convolutions += 49 * 3 * base
        norms += base
    inputs = base
    for stage, depth in enumerate(depths):
        f = base * 2**stage
        convolutions += inputs * 4 * f  # the first shortcut
        norms += 4 * f
        for _ in range(depth):
            convolutions += inputs * f + f * 4 * f
            norms += f + 4 * f
            if sk:
                narrow = max(int(f * 0.0625), 32)
                convolutions += 9 * f * 2 * f + f * narrow + narrow * 2 * f
                norms += 2 * f + narrow
            else:
                convolutions += 9 * f * f
                norms += f
            inputs = 4 * f
    return convolutions + 2 * norms, 2 * norms


@pytest.mark.parametrize(
    ("depth", "width", "sk", "millions"),
    [pytest.param(*row, marks=() if row[0] == 50 else pytest.mark.slow) for row in PUBLISHED],
)
def test_parameter_counts_are_the_published_ones(depth: int, width: int, sk: bool, millions: int) -> None:
    build = {50: resnet50, 101: resnet101, 152: resnet152}[depth]
    with torch.device("meta"):
        net = build(width, sk=sk)
    trained = sum(p.numel() for p in net.parameters())
    statistics = sum(b.numel() for name, b in net.named_buffers() if "running" in name)
    assert (trained, statistics) == oracle_values(DEPTHS[depth], width, sk)
    # published are all the backbone's variables, running statistics too, without any head, to the nearest million:
    # ResNet-152 2x alone has 232.3 M trained weights, but 232.6 M variables
    assert round((trained + statistics) / 1e6) == millions


@pytest.mark.parametrize("build", [resnet18, resnet34])
def test_basic_blocks_have_no_selective_kernels(build: Callable[..., ResNet]) -> None:
    with pytest.raises(UsageError, match="need bottlenecks") as raised:
        build(sk=True)
    assert "resnet50" in raised.value.hint


def test_selective_kernels_stand_in_every_block() -> None:
    with torch.device("meta"):
        net = resnet50(sk=True)
    kernels = [b.conv2 for b in net.modules() if isinstance(b, Bottleneck)]
    assert [k.paths.stride[0] for k in kernels if isinstance(k, SelectiveKernel)] == [1, 1, 1] + [2] + [1] * 3 + [2] + [
        1
    ] * 5 + [2] + [1] * 2
    assert "layer1.0.bn2.weight" not in net.state_dict()


def test_the_scale_of_the_mixing_weights_is_felt_and_so_drawn_by_fan_in() -> None:
    kernels = [m for m in resnet50(sk=True).modules() if isinstance(m, SelectiveKernel)]
    assert len(kernels) == 16
    for kernel in kernels:
        assert kernel.mix.weight.std().item() == pytest.approx(1 / math.sqrt(kernel.mix.in_channels), rel=0.1)


def test_deep_stem() -> None:
    net = resnet50(0.5, sk=True)
    assert isinstance(net.conv1, nn.Sequential)
    convolutions = [m for m in net.conv1 if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size, m.stride) for m in convolutions] == [
        (3, 16, (3, 3), (2, 2)),
        (16, 16, (3, 3), (1, 1)),
        (16, 32, (3, 3), (1, 1)),
    ]
    assert [type(m).__name__ for m in net.conv1] == ["Conv2d", "BatchNorm2d", "ReLU"] * 2 + ["Conv2d"]
    assert net.conv1(torch.rand(1, 3, 33, 32)).shape == (1, 32, 17, 16)
    cifar = resnet50(0.5, "cifar", sk=True)
    assert isinstance(cifar.conv1, nn.Conv2d)  # the authors' CIFAR stem is the same with and without


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 4), (3, 7), (1, 1)])
def test_the_shortcut_averages(stride: int, height: int, width: int) -> None:
    torch.manual_seed(0)
    block = Bottleneck(3, 2, stride, sk=True).double().eval()
    assert isinstance(block.downsample, nn.Sequential)
    weight = block.downsample.get_parameter("1.weight")[:, :, 0, 0]
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    wanted = torch.zeros(2, 3, -(-height // stride), -(-width // stride), dtype=torch.float64)
    for i in range(wanted.shape[2]):
        for j in range(wanted.shape[3]):
            window = x[:, :, i * stride : i * stride + 2, j * stride : j * stride + 2]
            # TensorFlow's SAME counts what it has; padding by hand, as the authors do where they stride, counts zeros
            wanted[:, :, i, j] = window.sum((2, 3)) / (window[0, 0].numel() if stride == 1 else 4)
    torch.testing.assert_close(block.downsample[0](x), wanted, atol=1e-12, rtol=0)
    projected = torch.einsum("nchw,fc->nfhw", wanted, weight) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(block.downsample(x), projected, atol=1e-12, rtol=0)
    assert block(x).shape == projected.shape


@pytest.mark.parametrize("side", [6, 7])
@pytest.mark.parametrize("inputs", [8, resnet.SAFE_CHANNELS])
@pytest.mark.parametrize("block", [Bottleneck, BasicBlock])
def test_without_selective_kernels_the_shortcut_skips_pixels(block: type[BasicBlock], inputs: int, side: int) -> None:
    downsample = block(inputs, 8, 2).double().downsample
    assert isinstance(downsample, nn.Sequential)
    shortcut, norm = downsample
    assert isinstance(shortcut, nn.Conv2d)
    assert isinstance(norm, BatchNorm2d)
    x = torch.rand(3, inputs, side, side, dtype=torch.float64)
    wanted = torch.einsum("nchw,fc->nfhw", x[:, :, ::2, ::2], shortcut.weight[:, :, 0, 0])
    torch.testing.assert_close(shortcut(x), wanted, atol=1e-12, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [3, 13])
def test_a_narrow_network_trains_on_an_odd_number_of_rows(rows: int) -> None:
    program = (  # on its own: torch 2.15's strided 1x1 convolution would end this process here
        "import torch; from ssl_cli.nn.resnet import resnet18; "
        "net = resnet18(0.125, 'cifar').to(memory_format=torch.channels_last); "
        f"x = torch.rand({rows}, 3, 32, 32).contiguous(memory_format=torch.channels_last); "
        "[net(x).sum().backward() for _ in range(20)]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize(("stem", "size"), [("cifar", 16), ("imagenet", 40)])
def test_selective_network_trains_and_keeps_channels_last(stem: str, size: int) -> None:
    net, x = small(stem).double(), images(4, size).double()
    wanted = net(x)
    net.to(memory_format=torch.channels_last)
    seen: list[bool] = []
    for stage in (net.layer1, net.layer4):
        stage[-1].register_forward_hook(lambda m, a, y: seen.append(y.is_contiguous(memory_format=torch.channels_last)))
    found = net(x.to(memory_format=torch.channels_last))
    assert seen == [True, True]
    torch.testing.assert_close(found, wanted)
    found.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


@pytest.mark.slow
@pytest.mark.parametrize(("stem", "size"), [("cifar", 12), ("imagenet", 36)])
def test_selective_network_exports_to_onnx(stem: str, size: int) -> None:
    net = small(stem).to(memory_format=torch.channels_last)
    model = convert(net, size, 18)
    agreement = compare(model, net, [images(rows, size) for rows in (1, 2, 5)])
    assert agreement.max_error < 1e-5
