"""BatchNorm over the rows of all ranks (Ioffe and Szegedy 2015, arXiv 1502.03167, algorithm 1)."""

from typing import Any

import torch
from torch import Tensor

from ssl_cli import distributed


def sync_batch_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise local rows `(m,C,...)` by mean and biased variance of the rows of all ranks.

    Returns:
        The rows, and mean and biased variance `(C,)` of the local rows alone, detached.
    """
    out, local_mean, local_variance = _SyncBatchNorm.apply(x, eps)
    shape = (1, -1, *[1] * (x.dim() - 2))
    if weight is not None:
        out = out * weight.view(shape)
    if bias is not None:
        out = out + bias.view(shape)
    return out.to(x.dtype), local_mean, local_variance


class _SyncBatchNorm(torch.autograd.Function):
    """Compute (x - mean) / sqrt(variance + eps) in float32 or float64; forward and backward each reduce two sums."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        wide = x if x.dtype == torch.float64 else x.float()
        axes = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1]
        local_variance, local_mean = torch.var_mean(wide, axes, correction=0)
        # squares about the local mean, not about zero, lose no digits where the mean is large
        local = torch.cat([local_mean.new_full((1,), count), local_mean * count, local_variance * count])
        ranks = distributed.all_gather(local[None], [1] * distributed.world_size())
        counts, sums, squares = ranks[:, :1], *ranks[:, 1:].chunk(2, 1)
        total = counts.sum()
        mean = sums.sum(0) / total
        between = (counts * (sums / counts - mean).square()).sum(0)
        invstd = ((squares.sum(0) + between) / total + eps).rsqrt()
        shape = (1, -1, *[1] * (x.dim() - 2))
        out = (wide - mean.view(shape)) * invstd.view(shape)
        ctx.save_for_backward(out, invstd, total)
        ctx.axes, ctx.shape, ctx.dtype = axes, shape, x.dtype
        ctx.mark_non_differentiable(local_mean, local_variance)
        return out, local_mean, local_variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        out, invstd, total = ctx.saved_tensors
        grad = grads[0]
        sums = distributed.all_reduce_sum(torch.cat([grad.sum(ctx.axes), (grad * out).sum(ctx.axes)])) / total
        mean, mean_out = (part.view(ctx.shape) for part in sums.chunk(2))
        return ((grad - mean - out * mean_out) * invstd.view(ctx.shape)).to(ctx.dtype), None
