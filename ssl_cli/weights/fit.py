"""Fit the tensors of a file to a network: each by name and shape, or a sentence that says what else would fit."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ssl_cli import tensor_file
from ssl_cli.nn.resnet import BASIC, DEPTHS
from ssl_cli.weights.layouts import ANCHOR, Located

COUNTER = "num_batches_tracked"
"""Of BatchNorm: files from before PyTorch 0.4.1 have none, and only a layer without momentum reads it."""
RGB = 3


class MisfitError(ValueError):
    """Tensors that do not fit a network; `hint` says which they would fit, or what the file lacks."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True)
class Fitted:
    """What a network takes from a file.

    Attributes:
        tensors: by the network's names, in its dtypes; of BatchNorm the running statistics, too.
        filled: names of counters that the file lacks, which stay 0.
        left_out: names that the network does not have, such as `fc.weight`.
    """

    tensors: Mapping[str, Tensor]
    filled: tuple[str, ...]
    left_out: tuple[str, ...]


def fit(found: Located, expected: Mapping[str, Tensor]) -> Fitted:
    """Take each tensor of a network from what was found in a file.

    Raises:
        MisfitError: a tensor is missing or has another shape, or the file has further layers of the network.
        ValueError: a tensor is not of real floating-point numbers, not finite, or no variance.
    """
    hint = _hint(found.tensors, expected)
    for name, tensor in expected.items():
        there = found.tensors.get(name)
        if there is None and not name.endswith(COUNTER):
            raise MisfitError(f"it has no {name}, of shape {shape(tensor)} in the network", hint)
        if there is not None and there.shape != tensor.shape:
            sentence = f"{name} has the shape {shape(there)} in it, and {shape(tensor)} in the network"
            raise MisfitError(sentence, hint)
    more = [name for name in found.tensors if name not in expected]
    for name in more:
        if _is_layer(name, more[-1], expected):
            sentence = f"it has {name}, of shape {shape(found.tensors[name])}, which the network has not"
            raise MisfitError(sentence, hint)
    tensors = {
        name: _converted(name, found.tensors[name], like) for name, like in expected.items() if name in found.tensors
    }
    if wrong := tensor_file.non_finite(tensors):
        raise ValueError(f"{wrong[0]} holds numbers that are not finite")
    filled = tuple(name for name in expected if name not in found.tensors)
    return Fitted(tensors, filled, tuple(more))


def _hint(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    flags = fitting_flags(tensors)
    if flags and flags == fitting_flags(expected):
        return "It is of this network, but not whole: save the network's state_dict() again."
    return f"It fits {flags}." if flags else "Choose the --backbone that the file was trained with."


def _is_layer(name: str, last: str, expected: Mapping[str, Tensor]) -> bool:
    """Whether `name` is of a part that the network has, such as another block; not the file's last layer, if whole."""
    parts = {other.partition(".")[0] for other in expected}
    layer = last.rpartition(".")[0]
    is_classifier = name.rpartition(".")[0] == layer and not any(other.startswith(f"{layer}.") for other in expected)
    return name.partition(".")[0] in parts and not (is_classifier and ANCHOR not in expected)


def _converted(name: str, tensor: Tensor, like: Tensor) -> Tensor:
    """Copy a tensor in the dtype of `like`.

    Raises:
        ValueError: it is complex, quantised, sparse, of integers in place of real numbers, or a negative variance.
    """
    if like.is_floating_point() and not tensor.is_floating_point():
        raise ValueError(f"{name} is {str(tensor.dtype).removeprefix('torch.')}, and weights are floating-point")
    copied = tensor_file.copy_tensor(tensor).to(like.dtype)
    if name.endswith("running_var") and bool((copied < 0).any()):
        raise ValueError(f"{name} holds a negative variance")
    return copied


def shape(tensor: Tensor) -> str:
    """Return the shape in words, such as `64 x 3 x 7 x 7`."""
    return " x ".join(map(str, tensor.shape)) or "of a single number"


def fitting_flags(tensors: Mapping[str, Tensor]) -> str:
    """Return the flags of our ResNet that has these tensors; empty: none of ours has."""
    sections, words = {"channels": "data", "stem": "model", "sk": "model"}, []
    for key, value in architecture(tensors).items():
        word = f"{value:g}" if isinstance(value, float) else str(value).lower()
        words.append(f"--set {sections[key]}.{key}={word}" if key in sections else f"--{key} {word}")
    return " ".join(words)


def architecture(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return `backbone`, `width`, `stem`, and where they are not usual `sk` and `channels`; empty: none of ours."""
    first = tensors.get("conv1.weight", tensors.get("conv1.0.weight"))
    norm, block = tensors.get("bn1.weight"), tensors.get(ANCHOR)
    if first is None or norm is None or block is None or first.ndim != 4:
        return {}
    base, depths, inner = len(norm), _depths(tensors), tensors.get("layer1.0.conv2.weight")
    bottleneck, deep = "layer1.0.conv3.weight" in tensors, "conv1.0.weight" in tensors
    sk = deep and inner is None  # else ResNet-D
    side = 1 if bottleneck else 3
    names = [name for name, known in DEPTHS.items() if known == depths and (name in BASIC) != bottleneck]
    grouped = inner is not None and tuple(inner.shape) != (base, base, 3, 3)
    if not names or tuple(block.shape) != (base, base, side, side) or grouped or deep != sk:
        return {}
    stem = "cifar" if first.shape[-1] == 3 and not sk else "imagenet"
    found: dict[str, Any] = {"backbone": names[0], "width": base / 64, "stem": stem}
    return found | ({"sk": True} if sk else {}) | ({"channels": first.shape[1]} if first.shape[1] != RGB else {})


def _depths(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Count the blocks of each stage."""
    blocks = {found[0] for name in tensors if (found := re.match(r"layer\d+\.\d+", name))}
    return tuple(sum(block.startswith(f"layer{stage}.") for block in blocks) for stage in range(1, 5))
