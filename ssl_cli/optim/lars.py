"""LARS as in SimCLR's code (You et al. 2017, arXiv 1708.03888): the momentum buffer includes the learning rate."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class LARS(Optimizer):
    """Update v := momentum * v + lr * ratio * (g + weight_decay * w);  w := w - v.

    `ratio` is `trust * |w| / |g + weight_decay * w|` if the group has `adapt` and both norms are positive, else 1.
    Weight decay and adaptation are independent settings of a parameter group.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
        adapt: bool = True,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust, "adapt": adapt}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step along the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step_group(group, params)
        return loss

    def _step_group(self, group: dict[str, Any], params: list[Tensor]) -> None:
        update = [p.grad for p in params if p.grad is not None]
        if group["weight_decay"]:
            update = list(torch._foreach_add(update, params, alpha=group["weight_decay"]))
        rates: list[Tensor] | float = group["lr"]
        if group["adapt"]:
            w, g = torch.stack(torch._foreach_norm(params)), torch.stack(torch._foreach_norm(update))
            ratios = torch.where((w > 0) & (g > 0), group["trust"] * w / g, torch.ones_like(w))
            rates = list((group["lr"] * ratios).unbind())
        scaled = torch._foreach_mul(update, rates)
        for p in params:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        velocity = [self.state[p]["momentum"] for p in params]
        torch._foreach_mul_(velocity, group["momentum"])
        torch._foreach_add_(velocity, scaled)
        torch._foreach_sub_(params, velocity)
