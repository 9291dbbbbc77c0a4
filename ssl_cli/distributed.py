"""Collectives between the ranks of a run; with a world size of 1 each returns its input.

Ranks are started by torch's launchers (`torchrun`, or `--devices`). Collectives use gloo for tensors on the CPU and
NCCL on a GPU. Every rank has to call the same collectives in the same order.
"""

from __future__ import annotations

import datetime
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ssl_cli.objective import LocalRows
from ssl_cli.world import default_threads, world

BUCKET_BYTES = 1 << 25
"""Size of the buckets in which gradients are reduced."""
TIMEOUT = datetime.timedelta(minutes=10)
"""How long a collective waits for the other ranks."""
UNBOUNDED = datetime.timedelta(days=365)
"""Timeout where rank 0 may take hours, and where a lost connection alone ends the wait."""
POLL_SECONDS = 2e-4
control_group: dist.ProcessGroup | None = None
"""A gloo group without a timeout, for the run's broadcast and the watchdog."""
rank_lost = threading.Event()
"""Set by the watchdog where another rank is lost."""


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Join the process group of the run, which computes on `device` here; leave it at the end of the block.

    Note: the group is not destroyed after an exception, as that may wait for a rank that is gone. Each local rank gets
    its part of the cores as torch threads unless `OMP_NUM_THREADS` is set.
    """
    if world().size == 1:
        yield
        return
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(default_threads())
    _interruptible(lambda: _join("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"))
    yield
    dist.destroy_process_group()


def _join(backend: str) -> None:
    global control_group
    dist.init_process_group(backend, timeout=TIMEOUT)
    control_group = dist.new_group(  # type: ignore[assignment]
        backend="gloo", timeout=UNBOUNDED
    )


def _interruptible(call: Callable[[], None]) -> None:
    """Run a blocking call in a thread, so that the main thread handles signals while it waits.

    Note: after an exception of a signal handler the daemon thread is left behind.
    """
    done = Future[None]()

    def run() -> None:
        try:
            call()
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    done.result()


def world_size() -> int:
    """Return the number of ranks in the process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the rank of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_connection_loss(error: BaseException) -> bool:
    """Return whether a collective raised the error because another rank is gone or too late."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def to_host(x: Tensor) -> Tensor:
    """Copy a tensor to the host once the device has computed it.

    Raises:
        DistNetworkError: another rank is lost, so the device may wait for its part of a collective forever.

    Note: with several ranks on GPUs the host polls an event, for `Tensor.item` would block until NCCL's timeout.
    """
    if world_size() == 1 or x.device.type != "cuda":
        return x.cpu()
    host = torch.empty_like(x, device="cpu", pin_memory=True).copy_(x, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    while not event.query():  # type: ignore[no-untyped-call]
        if rank_lost.is_set():
            raise dist.DistNetworkError("another rank is lost")
        time.sleep(POLL_SECONDS)
    return host


@torch.no_grad()
def all_gather(x: Tensor, counts: Sequence[int]) -> Tensor:
    """Concatenate the rows of all ranks, in rank order; `counts` is the number of rows on each rank."""
    if world_size() == 1:
        return x
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


@torch.no_grad()
def gather_rows(x: Tensor, local_rows: LocalRows, total: int) -> Tensor:
    """Return all `total` rows; `x` `(m,...)` are those of this rank, at the row numbers `local_rows` `(m,)`."""
    if isinstance(local_rows, slice) or world_size() == 1:
        return x
    rows = x.new_zeros(total, *x.shape[1:])
    rows[local_rows] = x
    return all_reduce_sum(rows)


def all_reduce_sum(x: Tensor) -> Tensor:
    """Sum over ranks, in place; the result has the same bits on every rank."""
    if world_size() > 1:
        dist.all_reduce(x)
    return x


def mean_over_ranks(local_mean: Tensor, fraction: float) -> Tensor:
    """Return the mean over the rows of all ranks, from that of the local rows, which are a `fraction` of all.

    The gradient is that of the local rows. With a fraction of 1 nothing is communicated.
    """
    if fraction == 1:
        return local_mean
    mean: Tensor = _Mean.apply(local_mean, fraction)
    return mean


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, local_mean: Tensor, fraction: float) -> Tensor:
        ctx.fraction = fraction
        return all_reduce_sum(local_mean * fraction)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.fraction, None


@torch.no_grad()
def all_reduce_gradients(parameters: Iterable[Tensor]) -> None:
    """Sum the gradients over ranks, in buckets of `BUCKET_BYTES`."""
    if world_size() == 1:
        return
    for bucket in _buckets([p.grad for p in parameters if p.grad is not None]):
        flat = all_reduce_sum(torch.cat([grad.reshape(-1) for grad in bucket]))
        parts = torch.split(flat, [grad.numel() for grad in bucket])
        torch._foreach_copy_(bucket, [part.view(grad.shape) for part, grad in zip(parts, bucket, strict=True)])


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Split tensors, in order, into buckets of one dtype and at most `BUCKET_BYTES`."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size + tensor.nbytes > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.nbytes
    if bucket:
        yield bucket


def all_reduce_max(*numbers: int) -> list[int]:
    """Return the elementwise maximum over ranks, on the host."""
    if world_size() == 1:
        return list(numbers)
    maxima = torch.tensor(numbers)
    dist.all_reduce(maxima, dist.ReduceOp.MAX)
    found: list[int] = maxima.tolist()
    return found


def broadcast_bytes(data: bytes | None) -> bytes:
    """Return the bytes of rank 0 on every rank; the others pass None and wait as long as it takes."""
    objects = [data]
    if world_size() > 1:
        _interruptible(lambda: dist.broadcast_object_list(objects, src=0, group=control_group))
    assert objects[0] is not None
    return objects[0]


def gather_bytes(data: bytes) -> list[bytes]:
    """Return the bytes of every rank, in rank order, on rank 0, and none on the others; wait as long as it takes."""
    if world_size() == 1:
        return [data]
    gathered = [b""] * world_size() if rank() == 0 else None
    _interruptible(lambda: dist.gather_object(data, gathered, dst=0, group=control_group))
    return gathered or []


def all_gather_bytes(data: bytes) -> list[bytes]:
    """Return the bytes of every rank, in rank order."""
    gathered = [data] * world_size()
    if world_size() > 1:
        dist.all_gather_object(gathered, data)
    return gathered
