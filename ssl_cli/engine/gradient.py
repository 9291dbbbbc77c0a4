"""The gradient of a loss that sees the whole batch, however few of its activations are in memory at once."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ssl_cli.engine.shards import Share
from ssl_cli.nn.batchnorm import Moments, grouped
from ssl_cli.nn.checkpointing import checkpointed

Loss = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Rowwise:
    """Passes the rows of a step through a network, micro-batch by micro-batch of whole BatchNorm groups.

    Attributes:
        net: whose BatchNorm layers are grouped.
        call: row numbers `(m,)` to the rows' outputs `(m,...)`.
        share: which rows share statistics, and which of them pass in this process.
        micro_batch: rows at a time.
        autocast: makes the precision context of one pass.
        seed: of dropout; each micro-batch draws the same numbers whenever it passes.
        checkpointing: whether parts of the network keep their inputs alone, and pass again for the gradient.
    """

    net: nn.Module
    call: Callable[[Tensor], Tensor]
    share: Share
    micro_batch: int
    autocast: Callable[[], AbstractContextManager[None]]
    seed: int
    checkpointing: bool = False

    def __len__(self) -> int:
        return len(self._micro_batches())

    @property
    def sizes(self) -> list[int]:
        """Rows of each micro-batch."""
        return [len(rows) for rows, _ in self._micro_batches()]

    def out(self, number: int, moments: Moments | None) -> Tensor:
        """Outputs of micro-batch `number`, in group order; its BatchNorm statistics go to `moments`."""
        rows, sizes = self._micro_batches()[number]
        spanning = self.share.spanning
        sparing = checkpointed(self.net, sizes, across_ranks=spanning) if self.checkpointing else nullcontext()
        torch.manual_seed((self.seed + number) % 2**63)
        with grouped(self.net, sizes, moments, across_ranks=spanning), sparing, self.autocast():
            return self.call(rows)

    def without_gradient(self, moments: Moments | None) -> Tensor | None:
        """The outputs of all rows in their own order, outside any graph; None where there are none."""
        out = self.first(len(self), moments)
        return None if out is None else self.share.joined(out)

    @torch.no_grad()
    def first(self, count: int, moments: Moments | None) -> Tensor | None:
        """Outputs of the first micro-batches, outside any graph, in group order; None where there are none.

        They go to one tensor: as many as there are micro-batches, each made among a pass's large ones, would leave the
        memory around them in pieces.
        """
        out, place = None, 0
        for number, rows in enumerate(sizes := self.sizes[:count]):
            found: Tensor | None = self.out(number, moments)  # an objective's targets may be None
            if found is None:
                return None
            if out is None:
                out = found.new_empty(sum(sizes), *found.shape[1:])
            out[place : place + rows] = found
            place += rows
        return out

    def _micro_batches(self) -> list[tuple[Tensor, tuple[int, ...]]]:
        return list(self.share.micro_batches(self.micro_batch))


def backward(rows: Rowwise, loss: Loss, moments: Moments, kept: int) -> tuple[Tensor, Tensor]:
    """Gradient of `loss(z)`, exact, with the graphs of the last `kept` micro-batches in memory.

    All rows pass, the last `kept` micro-batches with a graph; the loss of the whole batch gives d loss / d z; the
    graphs take the chain rule from there, and all other micro-batches pass again to do so, with the same groups,
    precision and dropout. With all graphs kept this is the ordinary backward pass; with none, gradient caching (Gao et
    al. 2021, arXiv 2101.06983); between them no row passes again whose graph there was room for.

    Several processes each pass rows of their own and gather z; none sends a gradient of it.

    Returns:
        The loss and z `(M,D)` of all rows, detached; gradients, of the own rows, are accumulated in the parameters,
        moments collected once.
    """
    count = len(rows)
    again = max(count - kept, 0)
    done = rows.first(again, None)
    with rows.autocast():  # around all, so that the graphs share one cast of each weight
        outs = [rows.out(number, moments) for number in range(again, count)]
    parts = [out.detach() for out in outs] if done is None else [done, *(out.detach() for out in outs)]
    z = rows.share.joined(torch.cat(parts)).requires_grad_()
    value = loss(z)
    value.backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    slopes = torch.split(z.grad[rows.share.own.order.to(z.device, non_blocking=True)], rows.sizes)
    with tensor_float(z.device):
        for number in range(count - 1, again - 1, -1):
            outs.pop().backward(slopes[number])  # type: ignore[no-untyped-call]
        for number in range(again):
            rows.out(number, moments).backward(slopes[number])  # type: ignore[no-untyped-call]
    return value.detach(), z.detach()


def autocast(device: torch.device, precision: str) -> Callable[[], AbstractContextManager[None]]:
    """A maker of contexts in which matrix work runs in `precision`, on a card what stays float32 in TF32.

    A new context for every pass: autocast remembers the casts of weights, and those made without a graph would cut
    the gradient off in the next pass.
    """

    @contextmanager
    def context() -> Iterator[None]:
        with tensor_float(device):
            if precision == "bf16":
                with torch.autocast(device.type, torch.bfloat16):
                    yield
            else:
                yield

    return context


@contextmanager
def tensor_float(device: torch.device) -> Iterator[None]:
    """Within the block a card rounds what it multiplies in float32 to TF32; then all is as before.

    For networks and their gradient alone: a loss divides by a low temperature, and what it rounds off grows.
    """
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    products = (cuda.matmul, cudnn.conv) if device.type == "cuda" else ()  # type: ignore[attr-defined]
    before = [product.fp32_precision for product in products]
    try:
        for product in products:
            product.fp32_precision = "tf32"
        yield
    finally:
        for product, precision in zip(products, before, strict=True):
            product.fp32_precision = precision
