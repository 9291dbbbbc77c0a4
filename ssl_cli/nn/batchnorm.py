"""BatchNorm over stated groups of rows, whose forward never touches running statistics.

Who shares statistics is maths and belongs to the recipe; how many rows pass at once is memory and belongs to the
engine. So a layer normalises each group by itself, and reports the moments it saw to a `Moments` collector. The
engine pools those of a whole step and commits them once, however often rows were passed or recomputed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_cli import distributed
from ssl_cli.nn.sync_batchnorm import normalized


class Moments:
    """Mean and biased variance of every layer, of the values in all groups of a step.

    What a pass reports is pooled as the pass ends, and kept in few tensors: thousands of small ones, each made between
    large ones, would leave the memory around them in pieces.
    """

    def __init__(self) -> None:
        self._met: dict[_Grouped, list[tuple[int, Tensor, Tensor]]] = {}
        self._pooled: dict[tuple[_Grouped, ...], _Pool] = {}

    def add(self, layer: "_Grouped", count: int, mean: Tensor, var: Tensor) -> None:
        """Take the biased variance `var` and `mean` `(C,)` of `count` values a channel."""
        self._met.setdefault(layer, []).append((count, mean, var))

    @torch.no_grad()
    def keep(self) -> None:
        """Pool what was met since this was last called: all layers that met as many groups at once."""
        alike: dict[int, list[_Grouped]] = {}
        for layer, met in self._met.items():
            alike.setdefault(len(met), []).append(layer)
        for layers in map(tuple, alike.values()):
            each = [[self._met[layer][group] for layer in layers] for group in range(len(self._met[layers[0]]))]
            self._add(layers, _pooled([_one(group) for group in each]))
        self._met.clear()

    def _add(self, layers: "tuple[_Grouped, ...]", found: "_Pool") -> None:
        """Pool these with what was met before; where passes share some of their layers alone, layer by layer."""
        sharing = [key for key in self._pooled if not set(key).isdisjoint(layers)]
        if sharing and sharing != [layers]:
            alone = {layer: pool for key in sharing for layer, pool in self._pooled.pop(key).apart(key)}
            for layer, pool in found.apart(layers):
                alone[layer] = _pooled([alone[layer], pool]) if layer in alone else pool
            self._pooled |= {(layer,): pool for layer, pool in alone.items()}
        else:
            self._pooled[layers] = _pooled([*filter(None, [self._pooled.get(layers)]), found])

    @torch.no_grad()
    def pool(self) -> None:
        """Pool what was met, also with what the other processes saw of the same layers."""
        self.keep()
        if distributed.world_size() == 1:
            return
        for layers, own in self._pooled.items():
            told = torch.cat([own.counts.to(own.means.device), own.means.double(), own.variances.double()])
            each = distributed.all_gather(told[None], [1] * distributed.world_size())
            values = each[:, len(layers) :].to(own.means.dtype)
            facts = zip(each[:, : len(layers)], *values.chunk(2, 1), strict=True)
            self._pooled[layers] = _pooled([_Pool(counts, mean, var, own.widths) for counts, mean, var in facts])

    @torch.no_grad()
    def commit(self) -> None:
        """Move each layer's running statistics by one step of its momentum; the variance is the unbiased one."""
        self.keep()
        running, seen, weights = list[Tensor](), list[Tensor](), list[float]()
        for layers, found in self._pooled.items():
            unbiased = found.variances * found.by_channel(found.counts / (found.counts - 1).clamp(min=1))
            parts = (torch.split(part, list(found.widths)) for part in (found.means, unbiased))
            for layer, mean, variance in zip(layers, *parts, strict=True):
                if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
                    continue
                layer.num_batches_tracked += 1
                weight = layer.momentum if layer.momentum is not None else 1 / int(layer.num_batches_tracked)
                running += [layer.running_mean, layer.running_var]
                seen += [mean.to(layer.running_mean.dtype), variance.to(layer.running_var.dtype)]
                weights += [weight, weight]
        if running:
            torch._foreach_lerp_(running, seen, weights)
        self.clear()

    def clear(self) -> None:
        """Forget what was collected."""
        self._met.clear()
        self._pooled.clear()


@dataclass(frozen=True)
class _Pool:
    """Statistics of some layers, one layer's channels behind the other's.

    Attributes:
        counts: values a channel, float64 `(L,)`; of one process on the host, which knows them.
        means: `(C,)`, of all channels.
        variances: `(C,)`, biased.
        widths: channels of each layer.
    """

    counts: Tensor
    means: Tensor
    variances: Tensor
    widths: tuple[int, ...]

    def apart(self, layers: "Sequence[_Grouped]") -> "Iterator[tuple[_Grouped, _Pool]]":
        """Those of each layer."""
        parts = (torch.split(part, list(self.widths)) for part in (self.means, self.variances))
        for layer, count, mean, variance, width in zip(layers, self.counts, *parts, self.widths, strict=True):
            yield layer, _Pool(count[None], mean, variance, (width,))

    def by_channel(self, by_layer: Tensor) -> Tensor:
        """Numbers of layers `(L,)` as those of channels `(C,)`, beside the means."""
        widths = torch.tensor(self.widths, device=by_layer.device)
        each = torch.repeat_interleave(by_layer, widths, output_size=len(self.means))
        return each.to(self.means.dtype).to(self.means.device, non_blocking=True)


def _one(met: Sequence[tuple[int, Tensor, Tensor]]) -> _Pool:
    """Of one group in each of some layers."""
    counts, means, variances = zip(*met, strict=True)
    widths = tuple(len(mean) for mean in means)
    return _Pool(torch.tensor(counts, dtype=torch.float64), torch.cat(means), torch.cat(variances), widths)


def _pooled(parts: Sequence[_Pool]) -> _Pool:
    """Of all values in the parts, which are of the same layers (Chan, Golub and LeVeque 1983, equation 1.5)."""
    if len(parts) == 1:
        return parts[0]
    counts = torch.stack([part.counts for part in parts])
    total = counts.sum(0)
    shares = [parts[0].by_channel(share) for share in counts / total]
    mean = _weighted(shares, [part.means for part in parts])
    apart = [part.variances + (part.means - mean).square() for part in parts]
    return _Pool(total, mean, _weighted(shares, apart), parts[0].widths)


def _weighted(shares: Sequence[Tensor], parts: Sequence[Tensor]) -> Tensor:
    """The parts, each times its share, added up."""
    return (torch.stack(list(shares)) * torch.stack(list(parts))).sum(0)


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
    if moments is not None:
        moments.keep()


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
