"""BatchNorm statistics of rows that several processes hold (Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1)."""

from typing import Any

import torch
from torch import Tensor

from ssl_cli import distributed


def normalized(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Rows x `(m,C,...)` normalised by mean and biased variance of the rows of all processes.

    Returns:
        The rows; and mean and biased variance `(C,)` of the own ones alone, detached.
    """
    out, own_mean, own_variance = _Synchronized.apply(x, eps)
    shape = (1, -1, *[1] * (x.dim() - 2))
    if weight is not None:
        out = out * weight.view(shape)
    if bias is not None:
        out = out + bias.view(shape)
    return out.to(x.dtype), own_mean, own_variance


class _Synchronized(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps), in float32 at least; four sums a channel travel, two each way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        wide = x if x.dtype == torch.float64 else x.float()
        axes = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1]
        own_variance, own_mean = torch.var_mean(wide, axes, correction=0)
        # squares about the own mean, not about zero: nothing is lost where the mean is large
        own = torch.cat([own_mean.new_full((1,), count), own_mean * count, own_variance * count])
        each = distributed.all_gather(own[None], [1] * distributed.world_size())
        counts, sums, squares = each[:, :1], *each[:, 1:].chunk(2, 1)
        total = counts.sum()
        mean = sums.sum(0) / total
        between = (counts * (sums / counts - mean).square()).sum(0)
        inverse = ((squares.sum(0) + between) / total + eps).rsqrt()
        shape = (1, -1, *[1] * (x.dim() - 2))
        out = (wide - mean.view(shape)) * inverse.view(shape)
        ctx.save_for_backward(out, inverse, total)
        ctx.axes, ctx.shape, ctx.dtype = axes, shape, x.dtype
        ctx.mark_non_differentiable(own_mean, own_variance)
        return out, own_mean, own_variance

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        out, inverse, total = ctx.saved_tensors
        slope = outer[0]
        sums = distributed.all_reduce_sum(torch.cat([slope.sum(ctx.axes), (slope * out).sum(ctx.axes)])) / total
        mean, along = (part.view(ctx.shape) for part in sums.chunk(2))
        return ((slope - mean - out * along) * inverse.view(ctx.shape)).to(ctx.dtype), None
