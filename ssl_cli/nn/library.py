"""Networks of torchvision and timm as backbones: random weights, no classifier, images `(M,C,H,W)` to h `(M,F)`."""

import importlib
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ssl_cli import packages
from ssl_cli.errors import ResourceError, UsageError, convert_exception
from ssl_cli.names import shown
from ssl_cli.nn.batchnorm import BatchNorm2d
from ssl_cli.registry import closest

RGB = 3
CLASSES = 1000
"""Outputs of the classifier that a torchvision network is created with, by which it is found and removed."""


def library_backbone(name: str, size: int, channels: int = 3) -> tuple[nn.Module, int]:
    """Create the network LIBRARY:NAME for images of `size` pixels and `channels`; return it and the width F of its h.

    Weights are random; nothing is downloaded. BatchNorm layers are torch's own: `batchnorm.convert` replaces them.

    Raises:
        UsageError: the library is not installed, has no such network, or the network does not give h `(M,F)` for such
            images.
    """
    library, _, word = name.partition(":")
    make = {"torchvision": _torchvision, "timm": _timm}[library]
    try:
        net = make(word, size, channels)
        _replace_norms(net)
        return net, _width(net, size, channels)
    except UsageError:
        raise
    except Exception as error:  # a constructor or forward pass of a library raises errors of any type
        if isinstance(known := convert_exception(error), ResourceError):
            raise known from error
        what = (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".!")
        raise UsageError(
            f"{name} cannot be a backbone for images of {size} pixels: {what}.",
            "Try --image-size 224, which most of these networks are made for, or another --backbone.",
        ) from error


def accepts(net: nn.Module, size: int, channels: int = 3) -> bool:
    """Whether `net` takes images of `size` pixels; tried on the meta device, without computing."""
    try:
        _width(net, size, channels)
    except Exception:
        return False
    return True


def _width(net: nn.Module, size: int, channels: int) -> int:
    """Find F by a forward pass on the meta device, which changes neither `net` nor the random state."""
    tensors = chain(net.named_parameters(), net.named_buffers())
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors}
    x = torch.empty(2, channels, size, size, device="meta", dtype=next(net.parameters()).dtype)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        h = functional_call(net, shapes, x)
    if not isinstance(h, Tensor) or h.ndim != 2 or len(h) != 2:
        form = f"a tensor {tuple(h.shape[1:])}" if isinstance(h, Tensor) else f"a {type(h).__name__}"
        raise UsageError(
            f"A {type(net).__name__} gives {form} for an image, not one row.", "Choose another --backbone."
        )
    return h.shape[1]


class _NormAct(BatchNorm2d):
    """Replace timm's BatchNorm with activation by ours; `convert` would drop the activation."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.drop, self.act = layer.get_submodule("drop"), layer.get_submodule("act")
        self.load_state_dict(layer.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate `(M,C,H,W)`."""
        return self.act(self.drop(super().forward(x)))  # type: ignore[no-any-return]


def _replace_norms(net: nn.Module) -> None:
    """Replace the layers with running statistics that `batchnorm.convert` does not know.

    Raises:
        UsageError: one is of an unknown type.
    """
    for name, layer in list(net.named_modules()):
        if layer._buffers.get("running_var") is None or type(layer) in {nn.BatchNorm1d, nn.BatchNorm2d}:
            continue
        if not (isinstance(layer, nn.BatchNorm2d) and {"drop", "act"} <= dict(layer.named_children()).keys()):
            sentence = (
                f"{type(net).__name__} has layers with running statistics of an unknown type: {type(layer).__name__}."
            )
            raise UsageError(sentence, "Choose another --backbone.")
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, _NormAct(layer))


def _require_known(library: str, word: str, known: Sequence[str], where: str) -> None:
    if word not in known:
        near = closest(word, known)
        hint = f"Did you mean '{library}:{near}'?" if near else f"In Python, {where} lists them."
        raise UsageError(f"{library} has no network '{shown(word)}'.", hint)


def _torchvision(word: str, size: int, channels: int) -> nn.Module:
    from torchvision import models

    _require_known("torchvision", word, models.list_models(module=models), "torchvision.models.list_models()")
    arguments: dict[str, Any] = {}
    if word.startswith("vit_"):
        arguments = {"image_size": size}
    elif word.startswith("maxvit_"):
        arguments = {"input_size": (size, size)}
    elif word in {"googlenet", "inception_v3"}:
        arguments = {"aux_logits": False, "init_weights": True}
    net: nn.Module = models.get_model(word, weights=None, num_classes=CLASSES, **arguments)
    _remove_classifier(net)
    if channels != RGB:
        _replace_first_convolution(net, channels)
    return net


def _replace_first_convolution(net: nn.Module, channels: int) -> None:
    """Replace the first convolution, of three input channels, by one of `channels` with random weights.

    Raises:
        UsageError: there is no such convolution.
    """
    layers = ((name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d))
    name, old = next(layers, ("", None))
    if old is None or old.in_channels != RGB:
        raise UsageError(f"A {type(net).__name__} takes colour images alone.", "Choose another --backbone.")
    form = {key: getattr(old, key) for key in ("kernel_size", "stride", "padding", "dilation")}
    first = nn.Conv2d(channels, old.out_channels, bias=old.bias is not None, **form)
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, first)


def _remove_classifier(net: nn.Module) -> None:
    """Remove the classifier, the last layer with `CLASSES` outputs, and the dropout right before it.

    Raises:
        UsageError: there is no such layer.
    """
    layers = [(name, layer) for name, layer in net.named_modules() if next(layer.children(), None) is None]
    heads = [i for i, (_, layer) in enumerate(layers) if _outputs(layer) == CLASSES]
    if not heads:
        raise UsageError(f"No classifier was found in {type(net).__name__}.", "Choose another --backbone.")
    end = heads[-1]
    start = end
    while start and isinstance(layers[start - 1][1], nn.Dropout):
        start -= 1
    for name, _ in layers[start : end + 1]:
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, nn.Identity())


def _outputs(layer: nn.Module) -> int | None:
    if isinstance(layer, nn.Linear):
        return layer.out_features
    return layer.out_channels if isinstance(layer, nn.Conv2d) else None


def _timm(word: str, size: int, channels: int) -> nn.Module:
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise packages.missing(error.name or "timm", f"timm:{word}", extra="timm") from error
    _require_known("timm", word, timm.list_models(), "timm.list_models()")
    try:
        net: nn.Module = timm.create_model(word, pretrained=False, num_classes=0, in_chans=channels, img_size=size)
    except TypeError:  # a network of any size has no such argument
        net = timm.create_model(word, pretrained=False, num_classes=0, in_chans=channels)
    return net
