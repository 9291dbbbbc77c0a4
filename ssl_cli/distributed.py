"""What processes that train together say to one another; with one process every word of it is the identity.

They are started by torch's launchers (`torchrun`, or `--devices`). Tensors on the CPU travel by gloo and those on a
card by NCCL. All of them must say the same things in the same order.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from ssl_cli.objective import LocalRows
from ssl_cli.world import world

BUCKET = 1 << 25
"""Bytes of gradients that travel together."""
PATIENCE = 600
"""Seconds for which a process waits for the others."""
_board: Store | None = None
"""Where a process that fails leaves word; it is the launcher's, and outlives every process."""


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Within the block, processes started together can talk; `device` is where this one computes."""
    if world().size == 1:
        yield
        return
    global _board
    _heard(lambda: _join("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"))
    yield
    dist.destroy_process_group()  # not after an error: it might wait for a process that is gone
    _board = None


def _join(backend: str) -> None:
    global _board
    patience = datetime.timedelta(seconds=PATIENCE)
    store, rank_, size_ = next(rendezvous("env://", timeout=patience))
    _board = PrefixStore("sslcli", store.clone())  # a line of its own, free while the other one waits
    dist.init_process_group(backend, store=store, rank=rank_, world_size=size_, timeout=patience)


def _heard(waits: Callable[[], None]) -> None:
    """Call what waits for other processes deaf to signals, which are heard all the same; they leave it behind."""
    done: Future[None] = Future()

    def call() -> None:
        try:
            waits()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=call, daemon=True).start()
    done.result()


def world_size() -> int:
    """How many processes talk."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Which one this is."""
    return dist.get_rank() if world_size() > 1 else 0


@torch.no_grad()
def all_gather(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Rows of all processes, those of the first one first; `counts` is how many each has, `len(x)` of them here."""
    if world_size() == 1:
        return x
    most = max(counts)
    padded = x.new_zeros(most, *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


@torch.no_grad()
def gather_rows(x: Tensor, own: LocalRows, total: int) -> Tensor:
    """All `total` rows, from those `x` `(m,...)` that each process has found at its `own` row numbers."""
    if isinstance(own, slice) or world_size() == 1:
        return x
    everything = x.new_zeros(total, *x.shape[1:])
    everything[own] = x
    return all_reduce_sum(everything)


def all_reduce_sum(x: Tensor) -> Tensor:
    """The sum over processes, in place and the same to the last bit in all of them."""
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def mean_over_ranks(part: Tensor, share: float) -> Tensor:
    """The mean over the rows of all processes, from that of the own ones, a `share` of all; the gradient is theirs.

    Who has all rows, as the first process does while it plans, speaks to nobody.
    """
    if share == 1:
        return part
    whole: Tensor = _Mean.apply(part, share)
    return whole


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, share: float) -> Tensor:
        ctx.share = share
        return all_reduce_sum(part * share)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, None]:
        return outer[0] * ctx.share, None


@torch.no_grad()
def all_reduce_gradients(parameters: Iterable[Tensor]) -> None:
    """Add up the gradients of all processes, many tensors at a time."""
    if world_size() == 1:
        return
    for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
        flat = all_reduce_sum(torch.cat([grad.reshape(-1) for grad in bucket]))
        parts = torch.split(flat, [grad.numel() for grad in bucket])
        torch._foreach_copy_(bucket, [part.view(grad.shape) for part, grad in zip(parts, bucket, strict=True)])


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one type, in turn, as many as make a bucket."""
    bucket: list[Tensor] = []
    held = 0
    for tensor in tensors:
        if bucket and (held + tensor.nbytes > BUCKET or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, held = [], 0
        bucket.append(tensor)
        held += tensor.nbytes
    if bucket:
        yield bucket


def all_reduce_max(*numbers: int) -> list[int]:
    """The highest of the numbers that the processes say, known on the host, place by place."""
    if world_size() == 1:
        return list(numbers)
    said = torch.tensor(numbers)
    dist.all_reduce(said, dist.ReduceOp.MAX)
    found: list[int] = said.tolist()
    return found


def leave_word(words: str) -> None:
    """Say to the others why this process ends, for when they miss it."""
    if _board is not None:
        with contextlib.suppress(RuntimeError):
            _board.set(f"fault/{world().rank}", words)


def last_words(seconds: float = 3.0) -> tuple[int, str] | None:
    """Which of the other processes has ended, and what it said of it, if one does within some seconds."""
    if _board is None:
        return None
    until, where = time.monotonic() + seconds, world()
    with contextlib.suppress(RuntimeError):  # the machine of the board may be what is lost
        while True:
            for other in range(where.size):
                if other != where.rank and _board.check([f"fault/{other}"]):
                    return other, _board.get(f"fault/{other}").decode()
            if time.monotonic() >= until:
                break
            time.sleep(0.1)
    return None


def is_connection_loss(error: BaseException) -> bool:
    """Whether the error is of a conversation that another process did not keep up."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def broadcast_bytes(words: bytes | None) -> bytes:
    """What the first process has to say, in all of them; the others say None, and wait for a day."""
    if world_size() == 1:
        assert words is not None
        return words
    if _board is not None:  # it may have images to fetch and a plan to make before it speaks
        if words is None:
            board = _board.clone()
            _heard(lambda: board.wait(["told"], datetime.timedelta(days=1)))
        else:
            _board.set("told", "")
    (length,) = all_reduce_max(len(words or b""))
    letter = _letter(words or b"", length)
    dist.broadcast(letter, src=0)
    return letter.numpy().tobytes()


def all_gather_bytes(words: bytes) -> list[bytes]:
    """What every process has to say."""
    if world_size() == 1:
        return [words]
    (length,) = all_reduce_max(len(words))
    if not length:
        return [b""] * world_size()
    letters = [torch.empty(length, dtype=torch.uint8) for _ in range(world_size())]
    dist.all_gather(letters, _letter(words, length))
    return [letter.numpy().tobytes().rstrip(b"\0") for letter in letters]


def _letter(words: bytes, length: int) -> Tensor:
    return torch.frombuffer(bytearray(words.ljust(length, b"\0")), dtype=torch.uint8)
