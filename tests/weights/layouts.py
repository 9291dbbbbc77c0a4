"""A network as other code keeps it: its own modules, wrapped and saved as that code does."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models

State = Mapping[str, Tensor]


def with_statistics(net: nn.Module) -> nn.Module:
    """Give every BatchNorm other statistics and weights than those of a new one; return the network."""
    draw = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            for tensor in (module.weight.data, module.running_var):
                assert tensor is not None
                tensor.copy_(0.5 + torch.rand(len(tensor), generator=draw))
            for tensor in (module.bias.data, module.running_mean):
                assert tensor is not None
                tensor.copy_(0.2 * torch.randn(len(tensor), generator=draw))
    return net


def resnet18() -> nn.Module:
    """Make torchvision's ResNet-18 with random weights and statistics."""
    torch.manual_seed(5)
    return with_statistics(models.resnet18(weights=None))


def under(prefix: str, state: State) -> dict[str, Tensor]:
    """Put a prefix before every name."""
    return {prefix + name: value for name, value in state.items()}


def other(state: State) -> dict[str, Tensor]:
    """Make the same tensors with other values, such as those of a momentum encoder."""
    return {name: value + 1 for name, value in state.items()}


def numbered(state: State, order: list[str]) -> dict[str, Tensor]:
    """Name the children of a network as `nn.Sequential(*children)` does."""
    found = {}
    for name, value in state.items():
        first, _, rest = name.partition(".")
        if first in order:
            found[f"{order.index(first)}.{rest}"] = value
    return found


def _head(state: State) -> dict[str, Tensor]:
    width = state["layer4.1.bn2.weight"].shape[0]
    return {"0.weight": torch.ones(8, width), "0.bias": torch.ones(8)}


def _without_fc(state: State) -> dict[str, Tensor]:
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


def _moco(state: State) -> Any:
    names = under("module.encoder_k.", other(state)) | under("module.encoder_q.", state)
    return {"epoch": 3, "arch": "resnet18", "state_dict": names | {"module.queue": torch.ones(8, 4)}, "optimizer": {}}


def _solo(state: State) -> Any:
    plain = _without_fc(state)
    names = under("momentum_backbone.", other(plain)) | under("backbone.", plain) | under("projector.", _head(state))
    names |= under("classifier.", {"weight": torch.ones(10, 512), "bias": torch.ones(10)})
    return {"epoch": 9, "pytorch-lightning_version": "1.6.4", "state_dict": names, "optimizer_states": [{}]}


def _lightly(state: State) -> Any:
    children = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    plain = numbered(state, children)
    names = under("backbone_momentum.", other(plain)) | under("backbone.", plain)
    return names | under("projection_head.layers.", _head(state))


def _vissl(state: State) -> Any:
    trunk = under("_feature_blocks.", _without_fc(state))
    return {"classy_state_dict": {"base_model": {"model": {"trunk": trunk, "heads": _head(state)}}}, "iteration": 5}


def _old(state: State) -> Any:
    return OrderedDict((name, value) for name, value in state.items() if not name.endswith("num_batches_tracked"))


LAYOUTS: dict[str, tuple[str, Callable[[State], Any]]] = {
    "torchvision": ("state dict of torchvision", dict),
    "before-0.4.1": ("state dict of torchvision", _old),
    "parallel": ("state dict of torchvision", lambda state: {"state_dict": under("module.", state)}),
    "moco": ("MoCo checkpoint", _moco),
    "simclr": ("encoder with a projection head", lambda state: {
        "state_dict": under("convnet.", _without_fc(state)) | under("projection.", _head(state))}),
    "simclr-pytorch": ("encoder with a projection head", lambda state: under("encoder.", _without_fc(state))
                       | under("projector.", _head(state))),
    "lightly": ("lightly", _lightly),
    "solo-learn": ("solo-learn", _solo),
    "solo-learn-early": ("solo-learn", lambda state: {"state_dict": under("encoder.", _without_fc(state))
                         | {"classifier.weight": torch.ones(10, 512), "classifier.bias": torch.ones(10)}}),
    "lightning": ("Lightning", lambda state: {"pytorch-lightning_version": "2", "state_dict": under("model.", state)}),
    "vissl": ("VISSL", _vissl),
    "cifar": ("torchvision", lambda state: {name.replace("downsample", "shortcut"): value
                                            for name, value in state.items()}),
}  # fmt: skip
"""What it is recognised as, and what is saved, by the code that saves it."""
