"""The momentum encoder: an exponential moving average (EMA) of the online encoder's weights."""

import copy
from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)


def momentum_copy(online: Net) -> Net:
    """Copy a network with its weights and BatchNorm statistics; the copy's parameters need no gradient."""
    return copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def update_ema(key: nn.Module, online: nn.Module, momentum: float) -> None:
    """Set the parameters of `key` to momentum * key + (1 - momentum) * online, in place; buffers are not changed.

    MoCo, equation 2. Computed in the parameters' own precision: at momentum 0.999 bfloat16 would round steps to zero.
    """
    torch._foreach_lerp_(list(key.parameters()), [p.detach() for p in online.parameters()], 1 - momentum)
