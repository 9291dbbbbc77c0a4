"""Our ResNets against torchvision's: same names, same shapes, same function."""

import pytest
import torch
import torchvision

from ssl_cli.nn.resnet import Bottleneck, resnet18, resnet34, resnet50


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_equals_torchvision(name: str) -> None:
    ours = {"resnet18": resnet18, "resnet50": resnet50}[name]()
    theirs = getattr(torchvision.models, name)()
    theirs.fc = torch.nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), atol=1e-4, rtol=1e-4)


def test_width_scales_channels() -> None:
    assert resnet18(0.25).features == 128
    assert resnet50(2.0).features == 4096
    narrow, full = (sum(p.numel() for p in resnet34(width).parameters()) for width in (0.25, 1.0))
    assert full == pytest.approx(21.28e6, rel=1e-3)
    assert narrow < full / 14


def test_cifar_stem_keeps_the_resolution() -> None:
    net = resnet18(0.25, "cifar")
    assert net.conv1.stride == (1, 1)
    assert net.conv1.padding == (1, 1)
    x = net.maxpool(net.conv1(torch.randn(1, 3, 32, 32)))
    assert x.shape[2:] == (32, 32)
    assert net(torch.randn(2, 3, 32, 32)).shape == (2, 128)


def test_zero_init() -> None:
    net = resnet50(0.25, zero_init=True)
    gammas = [m.last_norm().weight for m in net.modules() if isinstance(m, Bottleneck)]
    assert len(gammas) == 16
    assert all(not gamma.any() for gamma in gammas)
