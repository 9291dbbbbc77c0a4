"""Create the optimiser of the settings."""

from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from ssl_cli.config.tree import OptimSettings
from ssl_cli.optim.lars import LARS


def build_optimiser(net: nn.Module, optim: OptimSettings, lr: float) -> Optimizer:
    """Create the optimiser of all parameters that require a gradient, in two groups: matrices, and vectors.

    Vectors (BatchNorm parameters and biases) are those of one dimension, whatever their names. Weight decay and LARS
    adaptation may each exclude them.
    """
    params = [p for p in net.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": optim.weight_decay},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": optim.weight_decay * optim.decay_norm_bias},
    ]
    if optim.name == "lars":
        groups[0]["adapt"], groups[1]["adapt"] = True, optim.adapt_norm_bias
        return LARS(groups, lr, optim.momentum, trust=optim.trust)
    if optim.name == "adamw":
        return AdamW(groups, lr, betas=optim.betas, fused=True)
    return SGD(groups, lr, momentum=optim.momentum, nesterov=optim.nesterov, fused=True)


def set_rate(optimiser: Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimiser.param_groups:
        group["lr"] = lr
