"""The counted cost of networks against the networks themselves."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ssl_cli.config.methods import MethodSettings
from ssl_cli.config.tree import ModelSettings
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.nn.activations import count_activations
from ssl_cli.nn.backbone import build_backbone
from ssl_cli.nn.batchnorm import convert
from ssl_cli.nn.resnet import DEPTHS
from ssl_cli.planning.network import network_cost
from ssl_cli.registry import BACKBONES
from tests.selection import slow

NETWORKS = [
    ("resnet18", 0.25, 32, 3), ("resnet18", 0.5, 96, 3), ("resnet18", 1.0, 64, 1), ("resnet34", 0.5, 65, 3),
    ("resnet50", 0.5, 33, 3), ("resnet50", 1.0, 224, 3), ("resnet101", 0.25, 96, 4),
]  # fmt: skip


@pytest.mark.parametrize(("backbone", "width", "size", "channels"), NETWORKS)
def test_flop_are_those_of_the_network(backbone: str, width: float, size: int, channels: int) -> None:
    stem = "imagenet" if channels == 1 else "auto"
    with torch.device("meta"):
        model = ModelSettings.model_validate({"backbone": backbone, "width": width, "stem": stem})
        net, _ = build_backbone(model, size, channels)
        with FlopCounterMode(display=False) as counter:
            net(torch.empty(1, channels, size, size))
    assert network_cost(backbone, width, size, stem, channels).flop == counter.get_total_flops()


@pytest.mark.parametrize(("backbone", "width", "size"), [("resnet18", 0.25, 32), *slow(("resnet50", 0.125, 96))])
def test_activations_are_about_those_that_are_kept(backbone: str, width: float, size: int) -> None:
    net, features = build_backbone(ModelSettings(backbone=backbone, width=width), size)
    objective = convert(SimCLR(net, features, MethodSettings(name="simclr")))
    assert isinstance(objective, SimCLR)
    kept = count_activations(objective, size, "fp32").saved
    assert 4 * network_cost(backbone, width, size).activations == pytest.approx(kept, rel=0.2)


def test_every_backbone_is_known_and_others_count_as_a_large_one() -> None:
    assert DEPTHS.keys() == BACKBONES.keys()
    assert network_cost("timm:vit_tiny", 1.0, 224) == network_cost("resnet50", 1.0, 224)
    assert network_cost("resnet50", 1.0, 224).flop == pytest.approx(8.18e9, rel=0.01)
