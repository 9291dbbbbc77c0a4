"""BatchNorm over groups of rows (Ioffe and Szegedy 2015, arXiv 1502.03167), whose forward moves no running statistics.

Which rows share statistics is set by the recipe; how many rows run at once is set by the plan. So a layer normalises
each group by itself and adds its mean and variance to a `Moments`, which the engine pools over a step and commits once,
however many micro-batches there were and whatever was recomputed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_cli import distributed
from ssl_cli.nn.sync_batchnorm import sync_batch_norm


class Moments:
    """Collect mean and biased variance of every BatchNorm layer over all groups of a step.

    Note: each forward pass is pooled as it ends, into few tensors: thousands of small ones, allocated between large
    ones, fragment the memory.
    """

    def __init__(self) -> None:
        self._pass: dict[_GroupedBatchNorm, list[tuple[int, Tensor, Tensor]]] = {}
        self._step: dict[tuple[_GroupedBatchNorm, ...], _Pool] = {}

    def add(self, layer: "_GroupedBatchNorm", count: int, mean: Tensor, var: Tensor) -> None:
        """Add `mean` and biased variance `var` `(C,)` of one group, of `count` values a channel."""
        self._pass.setdefault(layer, []).append((count, mean, var))

    @torch.no_grad()
    def pool_pass(self) -> None:
        """Pool the groups added since the last call, at once over all layers that saw the same number of groups."""
        by_groups: dict[int, list[_GroupedBatchNorm]] = {}
        for layer, groups in self._pass.items():
            by_groups.setdefault(len(groups), []).append(layer)
        for layers in map(tuple, by_groups.values()):
            by_group = zip(*(self._pass[layer] for layer in layers), strict=True)
            self._add_to_step(layers, _pool([_concatenate(group) for group in by_group]))
        self._pass.clear()

    def _add_to_step(self, layers: "tuple[_GroupedBatchNorm, ...]", pool: "_Pool") -> None:
        """Pool with earlier passes; layer by layer where those went through other layers too."""
        overlapping = [key for key in self._step if not set(key).isdisjoint(layers)]
        if overlapping and overlapping != [layers]:
            single = {layer: part for key in overlapping for layer, part in self._step.pop(key).split(key)}
            for layer, part in pool.split(layers):
                single[layer] = _pool([single[layer], part]) if layer in single else part
            self._step |= {(layer,): part for layer, part in single.items()}
        else:
            self._step[layers] = _pool([*filter(None, [self._step.get(layers)]), pool])

    @torch.no_grad()
    def pool(self) -> None:
        """Pool the step's statistics over all ranks, which have run the same layers."""
        self.pool_pass()
        if distributed.world_size() == 1:
            return
        for layers, local in self._step.items():
            row = torch.cat([local.counts.to(local.means.device), local.means.double(), local.variances.double()])
            rows = distributed.all_gather(row[None], [1] * distributed.world_size())
            values = rows[:, len(layers) :].to(local.means.dtype)
            parts = zip(rows[:, : len(layers)], *values.chunk(2, 1), strict=True)
            self._step[layers] = _pool([_Pool(counts, mean, var, local.widths) for counts, mean, var in parts])

    @torch.no_grad()
    def commit(self) -> None:
        """Update the running statistics of each layer once, by its momentum; the variance is the unbiased one."""
        self.pool_pass()
        running, batch, weights = list[Tensor](), list[Tensor](), list[float]()
        for layers, pool in self._step.items():
            unbiased = pool.variances * pool.by_channel(pool.counts / (pool.counts - 1).clamp(min=1))
            parts = (torch.split(part, list(pool.widths)) for part in (pool.means, unbiased))
            for layer, mean, variance in zip(layers, *parts, strict=True):
                if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
                    continue
                layer.num_batches_tracked += 1
                weight = layer.momentum if layer.momentum is not None else 1 / int(layer.num_batches_tracked)
                running += [layer.running_mean, layer.running_var]
                batch += [mean.to(layer.running_mean.dtype), variance.to(layer.running_var.dtype)]
                weights += [weight, weight]
        if running:
            torch._foreach_lerp_(running, batch, weights)
        self.clear()

    def clear(self) -> None:
        """Discard what was collected."""
        self._pass.clear()
        self._step.clear()


@dataclass(frozen=True)
class _Pool:
    """Hold the statistics of L layers, their channels concatenated.

    Attributes:
        counts: values per channel of each layer, float64 `(L,)`; on the host before they are pooled over ranks.
        means: of all channels `(C,)`.
        variances: biased, of all channels `(C,)`.
        widths: channels of each layer.
    """

    counts: Tensor
    means: Tensor
    variances: Tensor
    widths: tuple[int, ...]

    def split(self, layers: "Sequence[_GroupedBatchNorm]") -> "Iterator[tuple[_GroupedBatchNorm, _Pool]]":
        """Yield the statistics of each layer."""
        parts = (torch.split(part, list(self.widths)) for part in (self.means, self.variances))
        for layer, count, mean, variance, width in zip(layers, self.counts, *parts, self.widths, strict=True):
            yield layer, _Pool(count[None], mean, variance, (width,))

    def by_channel(self, by_layer: Tensor) -> Tensor:
        """Repeat values of layers `(L,)` for their channels `(C,)`, on the device and in the dtype of the means."""
        widths = torch.tensor(self.widths, device=by_layer.device)
        repeated = torch.repeat_interleave(by_layer, widths, output_size=len(self.means))
        return repeated.to(self.means.dtype).to(self.means.device, non_blocking=True)


def _concatenate(group: Sequence[tuple[int, Tensor, Tensor]]) -> _Pool:
    """Concatenate count, mean and variance of one group over layers."""
    counts, means, variances = zip(*group, strict=True)
    widths = tuple(len(mean) for mean in means)
    return _Pool(torch.tensor(counts, dtype=torch.float64), torch.cat(means), torch.cat(variances), widths)


def _pool(parts: Sequence[_Pool]) -> _Pool:
    """Pool the statistics of the same layers on several sets of rows (Chan, Golub and LeVeque 1983, equation 1.5)."""
    if len(parts) == 1:
        return parts[0]
    counts = torch.stack([part.counts for part in parts])
    total = counts.sum(0)
    weights = [parts[0].by_channel(weight) for weight in counts / total]
    mean = _weighted_sum(weights, [part.means for part in parts])
    variances = [part.variances + (part.means - mean).square() for part in parts]
    return _Pool(total, mean, _weighted_sum(weights, variances), parts[0].widths)


def _weighted_sum(weights: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    return (torch.stack(list(weights)) * torch.stack(list(parts))).sum(0)


class _GroupedBatchNorm(_BatchNorm):
    """Normalise by group in training; state_dict and evaluation are torch's."""

    sizes: tuple[int, ...] | None = None
    moments: Moments | None = None
    across_ranks = False
    """Whether each group has rows on all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `(M,C,...)`; in training each group of `sizes` rows by its own mean and biased variance.

        Raises:
            ValueError: the group sizes do not add up to the rows.
        """
        if not self.training:
            return super().forward(x)
        sizes = self.sizes or (len(x),)
        if sum(sizes) != len(x):
            raise ValueError(f"BatchNorm groups of {sizes} rows do not add up to {len(x)} rows")
        if len(sizes) == 1:
            return self._normalise(x)
        return torch.cat([self._normalise(group) for group in torch.split(x, list(sizes))])

    def _normalise(self, x: Tensor) -> Tensor:
        if self.across_ranks:
            out, mean, variance = sync_batch_norm(x, self.weight, self.bias, self.eps)
            if self.moments is not None:
                self.moments.add(self, x.numel() // x.shape[1], mean, variance)
            return out
        # native_batch_norm returns the statistics it computed, so the moments cost nothing
        out, mean, invstd = torch.native_batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps)
        if self.moments is not None:
            variance = (invstd.detach().pow(-2) - self.eps).clamp_(min=0)
            self.moments.add(self, x.numel() // x.shape[1], mean.detach(), variance)
        return out


class BatchNorm1d(_GroupedBatchNorm, nn.BatchNorm1d):
    """Normalise as `torch.nn.BatchNorm1d`, by groups of rows."""


class BatchNorm2d(_GroupedBatchNorm, nn.BatchNorm2d):
    """Normalise as `torch.nn.BatchNorm2d`, by groups of rows."""


@contextmanager
def grouped(
    net: nn.Module, sizes: Sequence[int], moments: Moments | None = None, *, across_ranks: bool = False
) -> Iterator[None]:
    """Split the rows that run through `net` within the block into BatchNorm groups, and collect their statistics.

    Args:
        net: module whose BatchNorm layers are ours.
        sizes: local rows of each group, in order.
        moments: where the statistics are added; default: nowhere.
        across_ranks: whether each group has rows on all ranks, which then have to run at the same time.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, _GroupedBatchNorm)]
    for layer in layers:
        layer.sizes, layer.moments, layer.across_ranks = tuple(sizes), moments, across_ranks
    try:
        yield
    finally:
        for layer in layers:
            layer.sizes, layer.moments, layer.across_ranks = None, None, False
    if moments is not None:
        moments.pool_pass()


def convert(net: nn.Module) -> nn.Module:
    """Replace every torch BatchNorm in `net` by ours, in place, as `SyncBatchNorm.convert_sync_batchnorm` does."""
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and not isinstance(child, _GroupedBatchNorm):
            kind = BatchNorm2d if isinstance(child, nn.BatchNorm2d) else BatchNorm1d
            made = kind(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            for tensor in list(child.state_dict().values())[:1]:
                made.to(device=tensor.device, dtype=tensor.dtype)
            made.load_state_dict(child.state_dict())
            setattr(net, name, made.train(child.training))
        else:
            convert(child)
    return net
