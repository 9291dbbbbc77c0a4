"""Build the backbone f of the settings."""

from torch import nn

from ssl_cli import registry
from ssl_cli.config.tree import CIFAR_UP_TO, ModelSettings
from ssl_cli.nn.library import library_backbone


def build_backbone(model: ModelSettings, size: int, channels: int = 3) -> tuple[nn.Module, int]:
    """Return the backbone for images of `size` pixels and `channels`, and the width F of its representation h.

    Width, stem, selective kernels and initialisation belong to our own ResNets; a torchvision or timm network is as
    its library makes it.

    Raises:
        UsageError: a library's network that does not exist or does not take such images.
    """
    if registry.is_library_backbone(model.backbone):
        return library_backbone(model.backbone, size, channels)
    stem = stem_of(model, size)
    make = registry.load(registry.BACKBONES[model.backbone])
    net = make(width=model.width, stem=stem, zero_init=model.zero_init, sk=model.sk, channels=channels, init=model.init)
    return net, net.features


def stem_of(model: ModelSettings, size: int) -> str:
    """Return the stem of our own ResNets for images of `size` pixels: the one that is set, or by the size."""
    return model.stem if model.stem != "auto" else "cifar" if size <= CIFAR_UP_TO else "imagenet"
