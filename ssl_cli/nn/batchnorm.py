"""BatchNorm over stated groups of rows, whose forward never touches running statistics.

Who shares statistics is maths and belongs to the recipe; how many rows pass at once is memory and belongs to the
engine. So a layer normalises each group by itself, and reports the moments it saw to a `Moments` collector. The
engine pools those of a whole step and commits them once, however often rows were passed or recomputed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_cli import comm
from ssl_cli.nn.synchronized import normalized

Facts = tuple[int | Tensor, Tensor, Tensor]
"""How many values (of several processes `(1,)`, on the device), their mean, and the sum of their squared distances from
it, `(C,)` each."""


class Moments:
    """Count, mean and summed squares of every layer, of the values in all groups of a step."""

    def __init__(self) -> None:
        self._met: dict[_Grouped, list[tuple[int, Tensor, Tensor]]] = {}
        self._pooled: dict[_Grouped, Facts] = {}

    def add(self, layer: "_Grouped", count: int, mean: Tensor, var: Tensor) -> None:
        """Take the biased variance `var` and `mean` `(C,)` of `count` values a channel."""
        self._met.setdefault(layer, []).append((count, mean, var))

    @torch.no_grad()
    def pool(self) -> None:
        """Pool what was met, also with what the other processes saw of the same layers."""
        self._pool_own()
        if comm.size() == 1 or not self._pooled:
            return
        parts = [torch.cat([mean.new_ones(1) * n, mean, squares]) for n, mean, squares in self._pooled.values()]
        own = torch.cat([part.double() for part in parts])
        each = torch.split(comm.all_gather(own[None], [1] * comm.size()), [len(part) for part in parts], 1)
        for layer, told in zip(self._pooled, each, strict=True):
            dtype = self._pooled[layer][1].dtype
            counts, (means, squares) = told[:, :1], told[:, 1:].chunk(2, 1)
            total = counts.sum(0)
            mean = (counts * means).sum(0) / total
            apart = squares.sum(0) + (counts * (means - mean).square()).sum(0)
            self._pooled[layer] = (total, mean.to(dtype), apart.to(dtype))

    def _pool_own(self) -> None:
        """All groups of a layer at once: a step has many, and each is small."""
        for layer, met in self._met.items():
            counts = [count for count, _, _ in met]
            means, variances = (torch.stack(part) for part in zip(*((mean, var) for _, mean, var in met), strict=True))
            self._pooled[layer] = _together(counts, means, variances)
        self._met.clear()

    @torch.no_grad()
    def commit(self) -> None:
        """Move each layer's running statistics by one step of its momentum; the variance is the unbiased one."""
        self._pool_own()
        running, seen, weights = list[Tensor](), list[Tensor](), list[float]()
        for layer, (count, mean, squares) in self._pooled.items():
            if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
                continue
            layer.num_batches_tracked += 1
            weight = layer.momentum if layer.momentum is not None else 1 / int(layer.num_batches_tracked)
            fewer = (count - 1).clamp(min=1) if isinstance(count, Tensor) else max(count - 1, 1)
            running += [layer.running_mean, layer.running_var]
            seen += [mean.to(layer.running_mean.dtype), (squares / fewer).to(layer.running_var.dtype)]
            weights += [weight, weight]
        if running:
            torch._foreach_lerp_(running, seen, weights)
        self.clear()

    def clear(self) -> None:
        """Forget what was collected."""
        self._met.clear()
        self._pooled.clear()


def _together(counts: list[int], means: Tensor, variances: Tensor) -> tuple[int, Tensor, Tensor]:
    """Of groups whose means and biased variances are `(G,C)`."""
    total = sum(counts)
    weights = torch.tensor(counts, dtype=means.dtype)[:, None].to(means.device, non_blocking=True)
    mean = (weights * means).sum(0) / total
    return total, mean, (weights * (variances + (means - mean).square())).sum(0)


class _Grouped(_BatchNorm):
    """Training statistics by group; state_dict and evaluation as in torch."""

    sizes: tuple[int, ...] | None = None
    moments: Moments | None = None
    spanning = False
    """Whether other processes hold rows of the same groups."""

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
        if self.spanning:
            out, mean, variance = normalized(x, self.weight, self.bias, self.eps)
            if self.moments is not None:
                self.moments.add(self, x.numel() // x.shape[1], mean, variance)
            return out
        # native_batch_norm also hands back the statistics it computed: the moments cost nothing
        out, mean, invstd = torch.native_batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps)
        if self.moments is not None:
            variance = (invstd.detach().pow(-2) - self.eps).clamp_(min=0)
            self.moments.add(self, x.numel() // x.shape[1], mean.detach(), variance)
        return out


class BatchNorm1d(_Grouped, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` over groups of rows."""


class BatchNorm2d(_Grouped, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over groups of rows."""


@contextmanager
def grouped(
    net: nn.Module, sizes: Sequence[int], moments: Moments | None = None, *, spanning: bool = False
) -> Iterator[None]:
    """Within the block, rows through `net` form groups of `sizes`, and their statistics go to `moments`.

    Where the groups are `spanning`, other processes hold rows of theirs too, which pass at the same time.
    """
    layers = [layer for layer in net.modules() if isinstance(layer, _Grouped)]
    for layer in layers:
        layer.sizes, layer.moments, layer.spanning = tuple(sizes), moments, spanning
    try:
        yield
    finally:
        for layer in layers:
            layer.sizes, layer.moments, layer.spanning = None, None, False


def convert(net: nn.Module) -> nn.Module:
    """Replace every torch BatchNorm in `net` by ours, as `SyncBatchNorm.convert_sync_batchnorm` does."""
    for name, child in net.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d) and not isinstance(child, _Grouped):
            kind = BatchNorm2d if isinstance(child, nn.BatchNorm2d) else BatchNorm1d
            ours = kind(child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats)
            for tensor in list(child.state_dict().values())[:1]:
                ours.to(device=tensor.device, dtype=tensor.dtype)
            ours.load_state_dict(child.state_dict())
            setattr(net, name, ours.train(child.training))
        else:
            convert(child)
    return net
