"""Where the tensors of a network lie in a file of weights, recognised by their names alone.

Code that trains encoders wraps the same ResNet under many names: in modules (`module.encoder_q.`, `backbone.`), in
tables (`state_dict`, `classy_state_dict.base_model.model.trunk`), or as an `nn.Sequential` of its children, whose
layers have numbers. All are mapped to torchvision's names, which are ours.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ssl_cli.weights.file import Content

ANCHOR = "layer1.0.conv1.weight"
"""A tensor that every ResNet has, by which one is found."""
_STAGE = re.compile(r"(.*?)(layer)?(\d+)\.0\.conv1\.weight")
_AVERAGED = re.compile(r"(^|[._])(momentum|encoder_k|key|teacher|target|ema)([._]|$)")
STAGES = 4


@dataclass(frozen=True)
class Located:
    """A network that was found in a file.

    Attributes:
        kind: what the file was recognised as.
        prefix: of its tensors in the file.
        tensors: by torchvision's names.
        names: of each of them in the file.
    """

    kind: str
    prefix: str
    tensors: Mapping[str, Tensor]
    names: Mapping[str, str]


def locate(content: Content, expected: Iterable[str]) -> Located | None:
    """Find the network whose tensors have the names `expected`; None: there is nothing like it.

    Of several, a momentum encoder or teacher is the last choice, and otherwise the one with the shortest prefix is
    taken.
    """
    expected = list(expected)
    stages = _stages(content.tensors) if ANCHOR in expected else {}
    prefixes = set(stages) if ANCHOR in expected else _prefixes(content.tensors, expected[0])
    if not prefixes:
        return None
    prefix = min(prefixes, key=lambda found: (bool(_AVERAGED.search(found)), len(found), found))
    rename = _numbered(content.tensors, prefix, stages[prefix]) if stages.get(prefix) else {}
    names = {}
    for name in content.tensors:
        if name.startswith(prefix):
            first, dot, rest = name.removeprefix(prefix).partition(".")
            names[f"{rename.get(first, first)}{dot}{rest}".replace(".shortcut.", ".downsample.")] = name
    tensors = {name: content.tensors[other] for name, other in names.items()}
    return Located(_kind(content, prefix, numbered=bool(rename)), prefix, tensors, names)


def _stages(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the prefix of each ResNet, with the numbers of its stages where they have no names."""
    named, numbered = dict[str, set[str]](), dict[str, set[str]]()
    for name in names:
        if found := _STAGE.fullmatch(name):
            (named if found[2] else numbered).setdefault(found[1], set()).add(found[3])
    complete = {prefix: sorted(numbers, key=int) for prefix, numbers in numbered.items() if len(numbers) == STAGES}
    return {**complete, **{prefix: [] for prefix in named}}


def _prefixes(names: Iterable[str], first: str) -> set[str]:
    """Return what stands before the name `first` of a library network's tensor."""
    return {name.removesuffix(first) for name in names if name == first or name.endswith(f".{first}")}


def _numbered(tensors: Mapping[str, Tensor], prefix: str, stages: list[str]) -> dict[str, str]:
    """Name the numbered children of an `nn.Sequential`: its convolution, its BatchNorm and its four stages."""
    found = {number: f"layer{stage}" for stage, number in enumerate(stages, 1)}
    for name, tensor in tensors.items():
        number, _, rest = name.removeprefix(prefix).partition(".")
        if name.startswith(prefix) and number not in found:
            if rest == "running_mean":
                found[number] = "bn1"
            elif rest == "weight" and tensor.ndim == 4:
                found[number] = "conv1"
    return found


def _kind(content: Content, prefix: str, *, numbered: bool) -> str:
    lightning = "pytorch-lightning_version" in content.keys
    outer = prefix.removesuffix(".").rpartition(".")[0]
    inside = [name.removeprefix(f"{outer}.") for name in content.tensors]
    if "_feature_blocks." in prefix:
        return "VISSL checkpoint, its trunk"
    if "encoder_q." in prefix:
        return "MoCo checkpoint, its query encoder"
    if numbered:
        return "checkpoint of lightly or alike, a network of numbered layers"
    if re.search(r"(backbone|encoder)\.$", prefix) and any(name.startswith("classifier.") for name in inside):
        return "solo-learn checkpoint"
    if re.search(r"(convnet|encoder|backbone|f)\.$", prefix) and any("project" in name for name in inside):
        return "checkpoint of an encoder with a projection head"
    if lightning:
        return "Lightning checkpoint"
    if prefix in {"", "state_dict.", "model.", "module.", "state_dict.module."}:
        return "state dict of torchvision or timm"
    return "state dict"
