"""Several ranks that encode one set: each a part of a round, which rank 0 gathers in the order of the images."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ssl_cli import distributed
from ssl_cli.engine.build import local_device
from ssl_cli.engine.workers.worker import process_group
from ssl_cli.errors import DataError
from ssl_cli.signals import stop_request
from ssl_cli.world import world


@dataclass(frozen=True)
class Part:
    """Images that were encoded together.

    Attributes:
        images: all of them, int64 `(N,)`.
        index: those that could be read, int64 `(M,)`.
        rows: theirs, `(M,F)`.
    """

    images: Tensor
    index: Tensor
    rows: Tensor


@contextmanager
def joined(device: str) -> Iterator[str]:
    """Join the other ranks within the block, where there are some; return the device of this one.

    Raises:
        RankError: another rank failed or was killed.
        Interrupted: a signal came.
    """
    if world().size == 1:
        yield device
        return
    own = local_device(device)
    with stop_request() as request, process_group(own, request):
        yield str(own)


def agreed(identity: Mapping[str, Any], start: int) -> int:
    """Return the image from which rank 0 starts, `start` there.

    Raises:
        DataError: another run or other images here than on rank 0.
    """
    here = json.loads(json.dumps(identity))
    first = json.loads(distributed.broadcast_bytes(json.dumps([here, start]).encode()))
    if first[0] != here:
        what = f"Rank {distributed.rank()} has another checkpoint, other images or another precision than rank 0."
        raise DataError(what, "Give all machines the same run and images.")
    return int(first[1])


def gathered(part: Part | None) -> list[Part]:
    """Return the parts of all ranks, in rank order, on rank 0, and none on the others; a rank may have none left."""
    if distributed.world_size() == 1:
        return [] if part is None else [part]
    buffer = io.BytesIO()
    if part is not None:
        torch.save(asdict(part), buffer)
    found = distributed.gather_bytes(buffer.getvalue())
    return [Part(**torch.load(io.BytesIO(data), weights_only=True)) for data in found if data]
