"""The momentum encoder: a copy of the online encoder that follows it slowly."""

import copy
from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def momentum_copy(online: Net) -> Net:
    """A copy with the same weights and no gradients; BatchNorm statistics are its own from here on."""
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def update_ema(key: nn.Module, online: nn.Module, momentum: float) -> None:
    """Key parameters := momentum * key + (1 - momentum) * online, in their own precision; buffers stay.

    MoCo, equation 2. At momentum 0.999 a bfloat16 key would round every step away, so keys are never cast.
    """
    torch._foreach_lerp_(list(key.parameters()), [p.detach() for p in online.parameters()], 1 - momentum)
