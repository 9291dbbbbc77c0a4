"""Networks of torchvision and timm as backbones: fresh weights, no classifier, images `(M,C,H,W)` to h `(M,F)`."""

import importlib
from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ssl_cli.errors import ResourceError, UsageError, convert_exception
from ssl_cli.names import shown
from ssl_cli.nn.batchnorm import BatchNorm2d
from ssl_cli.registry import closest

RGB = 3
CLASSES = 1000
"""Outputs of the classifier that a torchvision network is made with, by which it is found and taken off."""


def library_backbone(name: str, size: int, channels: int = 3) -> tuple[nn.Module, int]:
    """The network called LIBRARY:NAME for images of `size` pixels and `channels`, and the width F of its h.

    Weights are random, and nothing is downloaded. BatchNorm layers are still torch's; `batchnorm.convert` is for them.

    Raises:
        UsageError: the library is not installed, has no such network, or it cannot give h for such images.
    """
    library, _, word = name.partition(":")
    make = {"torchvision": _torchvision, "timm": _timm}[library]
    try:
        net = make(word, size, channels)
        _take_over_norms(net)
        return net, _width(net, size, channels)
    except UsageError:
        raise
    except Exception as error:  # a constructor or forward of theirs raises whatever the size happens to break
        if isinstance(known := convert_exception(error), ResourceError):
            raise known from error
        what = (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".!")
        raise UsageError(
            f"{name} cannot be a backbone for images of {size} pixels: {what}.",
            "Try --image-size 224, which most of these networks are made for, or another --backbone.",
        ) from error


def accepts(net: nn.Module, size: int, channels: int = 3) -> bool:
    """Whether `net` takes images of `size` pixels; tried with shapes alone, so it costs next to nothing."""
    try:
        _width(net, size, channels)
    except Exception:
        return False
    return True


def _width(net: nn.Module, size: int, channels: int) -> int:
    """F, from a pass on the meta device that leaves `net` and the random numbers as they were."""
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
    """timm's BatchNorm that ends in an activation, over groups of rows; `convert` would lose the activation."""

    def __init__(self, theirs: nn.BatchNorm2d) -> None:
        super().__init__(theirs.num_features, theirs.eps, theirs.momentum, theirs.affine, theirs.track_running_stats)
        self.drop, self.act = theirs.get_submodule("drop"), theirs.get_submodule("act")
        self.load_state_dict(theirs.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        """Normalise and activate `(M,C,H,W)`."""
        return self.act(self.drop(super().forward(x)))  # type: ignore[no-any-return]


def _take_over_norms(net: nn.Module) -> None:
    """Leave no layer in `net` whose forward moves statistics, other than those that `batchnorm.convert` knows.

    Raises:
        UsageError: there is one of an unknown kind.
    """
    for name, layer in list(net.named_modules()):
        if layer._buffers.get("running_var") is None or type(layer) in {nn.BatchNorm1d, nn.BatchNorm2d}:
            continue
        if not (isinstance(layer, nn.BatchNorm2d) and {"drop", "act"} <= dict(layer.named_children()).keys()):
            sentence = (
                f"{type(net).__name__} has layers of statistics of a kind that is not known: {type(layer).__name__}."
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
    _behead(net)
    if channels != RGB:
        _take_channels(net, channels)
    return net


def _take_channels(net: nn.Module, channels: int) -> None:
    """Put a first convolution of so many channels, fresh, in the place of the one that takes colour images.

    Raises:
        UsageError: there is none.
    """
    layers = ((name, layer) for name, layer in net.named_modules() if isinstance(layer, nn.Conv2d))
    name, theirs = next(layers, ("", None))
    if theirs is None or theirs.in_channels != RGB:
        raise UsageError(f"A {type(net).__name__} takes colour images alone.", "Choose another --backbone.")
    form = {key: getattr(theirs, key) for key in ("kernel_size", "stride", "padding", "dilation")}
    first = nn.Conv2d(channels, theirs.out_channels, bias=theirs.bias is not None, **form)
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, first)


def _behead(net: nn.Module) -> None:
    """Take off the classifier, the last layer with `CLASSES` outputs, and the dropout right before it.

    Raises:
        UsageError: there is no such layer.
    """
    layers = [(name, layer) for name, layer in net.named_modules() if next(layer.children(), None) is None]
    heads = [i for i, (_, layer) in enumerate(layers) if _outputs(layer) == CLASSES]
    if not heads:
        raise UsageError(f"No classifier is found in {type(net).__name__}.", "Choose another --backbone.")
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
        sentence = f"timm:{word} needs {error.name}, which is not installed."
        raise UsageError(sentence, "pip install 'sslcli[timm]'") from error
    _require_known("timm", word, timm.list_models(), "timm.list_models()")
    try:
        net: nn.Module = timm.create_model(word, pretrained=False, num_classes=0, in_chans=channels, img_size=size)
    except TypeError:  # one of any size has no such argument
        net = timm.create_model(word, pretrained=False, num_classes=0, in_chans=channels)
    return net
