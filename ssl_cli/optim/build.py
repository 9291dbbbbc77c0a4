"""Create the optimiser of the settings."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ssl_cli.config.tree import OptimSettings
from ssl_cli.optim.lars import LARS
from ssl_cli.tensor_file import require_tensor

STATE_NAMES: dict[type[Optimizer], set[str]] = {
    SGD: {"momentum_buffer"}, LARS: {"momentum"}, AdamW: {"step", "exp_avg", "exp_avg_sq"},
}  # fmt: skip
"""What each optimiser keeps of a parameter: tensors of its shape, but for the scalar `step`."""


def build_optimiser(net: nn.Module, optim: OptimSettings, lr: float, plain: Iterable[nn.Parameter] = ()) -> Optimizer:
    """Create the optimiser of all parameters that require a gradient, in groups: matrices, vectors, and `plain` ones.

    Vectors (BatchNorm parameters and biases) are those of one dimension, whatever their names. Weight decay and LARS
    adaptation may each exclude them. Both exclude the `plain` ones, whatever the settings.
    """
    no_decay = {id(p) for p in plain}
    params = [p for p in net.parameters() if p.requires_grad and id(p) not in no_decay]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": optim.weight_decay * optim.decay_norm_bias},
    ]
    if no_decay:
        groups.append({"params": [p for p in net.parameters() if id(p) in no_decay], "weight_decay": 0.0})
    if optim.name == "lars":
        for group, adapt in zip(groups, (True, optim.adapt_norm_bias, False), strict=False):
            group["adapt"] = adapt
        return LARS(groups, lr, optim.momentum, trust=optim.trust)
    if optim.name == "adamw":
        return AdamW(groups, lr, betas=optim.betas, fused=True)
    return SGD(groups, lr, momentum=optim.momentum, nesterov=optim.nesterov, fused=True)


def set_rate(optimiser: Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = lr


def checked_state(found: dict[str, Any], optimiser: Optimizer) -> dict[int, dict[str, Any]]:
    """Return the state of each parameter in a loaded state dict, once all of it has the parameter's shape and dtype.

    Raises:
        ValueError: the first difference.
    """
    params, names = [p for group in optimiser.param_groups for p in group["params"]], STATE_NAMES[type(optimiser)]
    state = found.get("state")
    if not isinstance(state, dict):
        raise ValueError("the optimiser has no state")
    for number, of_param in state.items():
        if not isinstance(number, int) or not 0 <= number < len(params):
            raise ValueError(f"the optimiser has no parameter {number!r:.40}")
        if not isinstance(of_param, dict) or of_param.keys() - names:
            raise ValueError(f"the state of parameter {number} is not one of {type(optimiser).__name__}")
        for name, value in of_param.items():
            like = torch.zeros(()) if name == "step" else params[number]
            if value is not None:
                require_tensor(value, like.shape, like.dtype, f"'{name}' of parameter {number}")
    return state
