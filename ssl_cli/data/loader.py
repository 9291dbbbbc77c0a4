"""Batches in an order that is a permutation by (seed, epoch) and a cursor: any step can be the first."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.data.bad import BadImages
from ssl_cli.data.cache import Cache, Policy, joined
from ssl_cli.data.reader import DEADLINE, Reader, Ticket
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.errors import DataError
from ssl_cli.events import Skipped
from ssl_cli.names import shown
from ssl_cli.objective import Batch

_REPLACEMENT = draws.slots("replacement", 1)[0]


def cap_for(size: int) -> int:
    """The short side to keep of an image whose views have side `size`: crops of it are rarely enlarged much."""
    return max(56, round(1.75 * size))


def require_batch(name: str, images: int, batch: int) -> None:
    """Refuse a batch larger than the data.

    Raises:
        DataError: fewer images than the batch, or than the two that any batch holds.
    """
    if images < 2:
        count = "1 image" if images else "no image"
        raise DataError(
            f"{shown(name)} holds {count}, and training takes 2 at least.", "Give another folder of images."
        )
    if batch > images:
        raise DataError(
            f"{shown(name)} holds {images} images, fewer than the batch of {batch}.", f"Pass --batch {images} or less."
        )


@dataclass
class _Begun:
    """A batch whose images are being read."""

    step: int
    epoch: int
    index: Tensor
    tickets: dict[int, Ticket]


class Loader:
    """Batches of a source, read ahead in threads, kept in memory where they fit.

    Args:
        source: the images.
        batch: images a step; what is left of an epoch is dropped.
        seed: of the order.
        threads: that decode; default: the processors at hand.
        cache: see `Cache`.
        cache_bytes: what an `auto` cache may hold.
        card: where it holds images, rather than in memory, if they fit; see `Cache`.
        card_bytes: of the card.
        cap: short side of an image, at most; see `cap_for`.
        deadline: seconds a read may take.
        share: which rows of a step's batch to read, int64 `(m,)`; default: all.

    Attributes:
        skipped: one event for each bad image, for the engine to take away.
        wait_seconds: time spent in waiting for images.

    Raises:
        DataError: fewer images than the batch.
    """

    def __init__(
        self,
        source: Source,
        batch: int,
        seed: int,
        *,
        threads: int | None = None,
        cache: Policy = "auto",
        cache_bytes: float = 1e9,
        card: torch.device | None = None,
        card_bytes: int = 0,
        cap: int | None = None,
        deadline: float = DEADLINE,
        share: Callable[[int], Tensor] | None = None,
    ) -> None:
        require_batch(source.name, len(source), batch)
        self.source, self.batch, self.seed = source, batch, seed
        self.threads, self.cap, self.deadline, self.share = threads, cap, deadline, share
        self.steps_per_epoch = len(source) // batch
        self.wait_seconds = 0.0
        self._bad = BadImages(source)
        self._cache = Cache(len(source), cache, cache_bytes, card, card_bytes)
        self._order = (-1, torch.empty(0, dtype=torch.int64))

    @property
    def skipped(self) -> list[Skipped]:
        """One event for each bad image, for the engine to take away."""
        return self._bad.skipped

    def batches(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """The batches of steps `start_step` to `stop_step` (exclusive), the same wherever one starts.

        Raises:
            DataError: too many images cannot be read.
        """
        ahead = 2 if self.batch <= 1024 else 1
        with Reader(self.source, self.threads, self.cap, self.deadline) as reader:
            begun: deque[_Begun] = deque()
            for step in range(start_step, stop_step):
                last = min(step + ahead, stop_step - 1)
                begun.extend(self._begin(reader, later) for later in range(step + len(begun), last + 1))
                since = time.perf_counter()
                batch = self._finish(reader, begun.popleft())
                self.wait_seconds += time.perf_counter() - since
                yield batch

    def _begin(self, reader: Reader, step: int) -> _Begun:
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, draws.permutation(self.seed, len(self.source), epoch))
        index = self._order[1][position * self.batch : (position + 1) * self.batch]
        index = index if self.share is None else index[self.share(step)]
        tickets = {}
        if not isinstance(self.source, BatchedSource):
            missing = index[~self._cache.has[index]].tolist()
            tickets = {k: reader.ask(k) for k in missing if k not in self._bad}
        return _Begun(step, epoch, index, tickets)

    def _finish(self, reader: Reader, begun: _Begun) -> Batch:
        index = begun.index
        missing = ~self._cache.has[index]
        if isinstance(self.source, BatchedSource):
            fresh: Tensor | list[Tensor] = self.source.read_many(index[missing])
        else:
            pairs = [self._read(reader, begun, k) for k in index[missing].tolist()]
            index = index.masked_scatter(missing, torch.tensor([k for k, _ in pairs], dtype=torch.int64))
            missing = ~self._cache.has[index]  # what took the place of a bad one may be held
            fresh = joined([pixels for _, pixels in pairs if pixels is not None])
        image = self._merged(index, missing, fresh)
        return Batch(image, self.source.labels[index], index, begun.epoch, begun.step)

    def _merged(self, index: Tensor, missing: Tensor, fresh: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
        """The images of a batch: `fresh` in the rows that were `missing` `(N,)`, the others from the cache."""
        if not missing.any():
            return self._cache.take(index)
        held, new = iter(self._cache.take(index[~missing])), iter(fresh)  # there may be no room for them in a moment
        self._cache.put(index[missing], fresh)
        if self._cache.has[index].all() and (self._cache.on_card or not missing.all()):
            return self._cache.take(index)
        if missing.all():
            return fresh
        return joined([next(new) if absent else next(held).cpu() for absent in missing.tolist()])

    def _read(self, reader: Reader, begun: _Begun, index: int) -> tuple[int, Tensor | None]:
        """Image `index`, or the first good one drawn in its place: which it is, and its pixels unless they are held."""
        chosen, attempt = index, 0
        while True:
            if self._cache.has[chosen]:
                return chosen, None
            if chosen not in self._bad:
                try:
                    return chosen, reader.wait(begun.tickets.get(chosen) or reader.ask(chosen))
                except DataError as error:
                    self._bad.add(chosen, error.message, begun.step)
            attempt += 1
            key = draws.Key(self.seed, begun.epoch, torch.tensor([index]), attempt)
            chosen = int(draws.integer(*key, _REPLACEMENT, len(self.source)))


def read_all(
    source: Source,
    indices: Tensor | None = None,
    *,
    threads: int | None = None,
    cap: int | None = None,
    batch: int = 256,
    skipped: list[Skipped] | None = None,
    deadline: float = DEADLINE,
) -> Iterator[tuple[Tensor | list[Tensor], Tensor, Tensor]]:
    """Images, labels and indices in order, `batch` at a time, bad ones left out and added to `skipped`.

    Raises:
        DataError: too many images cannot be read.
    """
    wanted = torch.arange(len(source)) if indices is None else indices
    bad = BadImages(source)
    with Reader(source, threads, cap, deadline) as reader:
        begun: deque[list[Ticket]] = deque()
        for start in range(0, len(wanted), batch):
            chunk = wanted[start : start + batch]
            if isinstance(source, BatchedSource):
                yield source.read_many(chunk), source.labels[chunk], chunk
                continue
            for later in range(start + batch * len(begun), min(start + 2 * batch, len(wanted)), batch):
                begun.append([reader.ask(k) for k in wanted[later : later + batch].tolist()])
            good, images = [], []
            for ticket in begun.popleft():
                try:
                    images.append(reader.wait(ticket))
                    good.append(ticket.index)
                except DataError as error:
                    bad.add(ticket.index, error.message)
            if images:
                yield joined(images), source.labels[good], torch.tensor(good)
    if skipped is not None:
        skipped += bad.skipped
