"""Load batches in the order of a permutation by (seed, epoch): a run can start at any step."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ssl_cli import draws
from ssl_cli.data.bad import BadImages
from ssl_cli.data.cache import Cache, Policy, joined
from ssl_cli.data.positives import Positives, group_at
from ssl_cli.data.reader import DEADLINE, PendingRead, Reader
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.errors import DataError
from ssl_cli.events import Skipped
from ssl_cli.names import shown
from ssl_cli.objective import Batch

_REPLACEMENT = draws.slots("replacement", 1)[0]


def cap_for(size: int) -> int:
    """Return the short side that images are shrunk to for views of side `size`, so that few crops are enlarged much."""
    return max(56, round(1.75 * size))


def require_batch(name: str, images: int, batch: int) -> None:
    """Refuse a batch that is larger than the data.

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


_Found = tuple[Tensor, Tensor | list[Tensor]]
"""Indices int64 `(m,)`, and their images."""


@dataclass
class _Prefetched:
    """Hold a batch whose images are being read."""

    step: int
    epoch: int
    index: Tensor
    pending: dict[int, PendingRead]


class Loader:
    """Load the batches of a source, prefetched in threads and cached where they fit.

    Args:
        source: the images.
        batch: images per step; the rest of an epoch that fills no batch is dropped.
        seed: of the order.
        threads: decode threads; None: the processors of this process.
        cache: policy of the cache, see `Cache`.
        cache_bytes: RAM for an `auto` cache.
        gpu: device whose memory an `auto` cache uses if all images fit; None: RAM alone.
        gpu_cache_bytes: bytes of its memory.
        cap: largest short side of an image, see `cap_for`.
        deadline: seconds after which a read fails.
        local_rows: function of the step that returns the rows of the batch which this rank reads, int64 `(m,)`;
            None: all rows.
        positives: draws the images of second views, which are read if `partners`; None: each image's are its own.

    Attributes:
        skipped: one event for each bad image, until the engine removes it.
        wait_seconds: time spent waiting for images.
        view_seconds: time spent making views of them, which whoever makes them adds; 0 where a GPU does.

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
        gpu: torch.device | None = None,
        gpu_cache_bytes: int = 0,
        cap: int | None = None,
        deadline: float = DEADLINE,
        local_rows: Callable[[int], Tensor] | None = None,
        positives: Positives | None = None,
        partners: bool = True,
    ) -> None:
        require_batch(source.name, len(source), batch)
        self.source, self.batch, self.seed = source, batch, seed
        self.threads, self.cap, self.deadline, self.local_rows = threads, cap, deadline, local_rows
        self.positives, self._partners = positives, positives if partners else None
        self.steps_per_epoch = len(source) // batch
        self.wait_seconds = self.view_seconds = 0.0
        self._bad = BadImages(source)
        self._cache = Cache(len(source), cache, cache_bytes, gpu, gpu_cache_bytes)
        self._order = (-1, torch.empty(0, dtype=torch.int64))

    @property
    def caches(self) -> bool:
        """Whether images are decoded in the first epoch alone, as far as there is room for them."""
        return self._cache.budget > 0 or getattr(self.source, "keeps_reads", False)

    @property
    def skipped(self) -> list[Skipped]:
        """One event for each bad image, until the engine removes it."""
        return self._bad.skipped

    def batches(self, start_step: int, stop_step: int) -> Iterator[Batch]:
        """Yield the batches of steps `start_step` to `stop_step` (exclusive); a step's does not depend on the start.

        Raises:
            DataError: too many images cannot be read.
        """
        depth = 2 if self.batch <= 1024 else 1
        with Reader(self.source, self.threads, self.cap, self.deadline) as reader:
            prefetched: deque[_Prefetched] = deque()
            for step in range(start_step, stop_step):
                last = min(step + depth, stop_step - 1)
                prefetched.extend(self._prefetch(reader, later) for later in range(step + len(prefetched), last + 1))
                since = time.perf_counter()
                batch = self._load(reader, prefetched.popleft())
                self.wait_seconds += time.perf_counter() - since
                yield batch

    def _prefetch(self, reader: Reader, step: int) -> _Prefetched:
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = (epoch, draws.permutation(self.seed, len(self.source), epoch))
        index = self._order[1][position * self.batch : (position + 1) * self.batch]
        index = index if self.local_rows is None else index[self.local_rows(step)]
        pending = {}
        if not isinstance(self.source, BatchedSource):
            drawn = () if self._partners is None else (self._partners.draw(self.seed, epoch, index),)
            wanted = torch.cat((index, *drawn))
            missing = dict.fromkeys(wanted[~self._cache.has[wanted]].tolist())
            pending = {k: reader.submit(k) for k in missing if k not in self._bad}
        if position + 1 == self.steps_per_epoch and getattr(self.source, "keeps_reads", False):
            for k in self._order[1][self.steps_per_epoch * self.batch :].tolist():  # so that no later epoch decodes
                reader.submit(k)
        return _Prefetched(step, epoch, index, pending)

    def _load(self, reader: Reader, prefetched: _Prefetched) -> Batch:
        epoch, partner = prefetched.epoch, None
        index, image = self._images(reader, prefetched, prefetched.index)
        if self._partners is not None:
            drawn = self._partners.draw(self.seed, epoch, index)
            partner = self._images(reader, prefetched, drawn, of=index)[1]
        label, group = self.source.labels[index], group_at(self.positives, index)
        return Batch(image, label, index, epoch, prefetched.step, group=group, partner=partner)

    def _images(self, reader: Reader, prefetched: _Prefetched, index: Tensor, of: Tensor | None = None) -> _Found:
        """Return the images `index` `(m,)`, positives of `of` `(m,)` if given, or their replacements; with indices."""
        missing = ~self._cache.has[index]
        if isinstance(self.source, BatchedSource):
            fresh: Tensor | list[Tensor] = self.source.read_many(index[missing])
        else:
            anchors = itertools.repeat(None) if of is None else of[missing].tolist()
            wanted = zip(index[missing].tolist(), anchors, strict=False)
            pairs = [self._read(reader, prefetched, k, anchor) for k, anchor in wanted]
            index = index.masked_scatter(missing, torch.tensor([k for k, _ in pairs], dtype=torch.int64))
            missing = ~self._cache.has[index]  # the replacement of a bad image may be cached
            fresh = joined([pixels for _, pixels in pairs if pixels is not None])
        return index, self._merge(index, missing, fresh)

    def _merge(self, index: Tensor, missing: Tensor, fresh: Tensor | list[Tensor]) -> Tensor | list[Tensor]:
        """Combine `fresh` images, of the rows that were `missing` `(N,)`, with those of the cache, and cache them."""
        if not missing.any():
            return self._cache.take(index)
        cached, new = iter(self._cache.take(index[~missing])), iter(fresh)  # first, for `put` may drop images
        self._cache.put(index[missing], fresh)
        if self._cache.has[index].all() and (self._cache.on_gpu or not missing.all()):
            return self._cache.take(index)
        if missing.all():
            return fresh
        return joined([next(new) if absent else next(cached).cpu() for absent in missing.tolist()])

    def _read(self, reader: Reader, prefetched: _Prefetched, index: int, of: int | None) -> tuple[int, Tensor | None]:
        """Return image `index`, the positive of `of` if given, or what replaces it; pixels are None if cached."""
        if of is None or self._partners is None:
            others = _at_random(index, self.seed, prefetched.epoch, len(self.source))
        else:
            others = self._partners.replacements(of, index)
        for chosen in itertools.chain([index], others):
            if self._cache.has[chosen]:
                return chosen, None
            if chosen not in self._bad:
                try:
                    return chosen, reader.result(prefetched.pending.get(chosen) or reader.submit(chosen))
                except DataError as error:
                    self._bad.add(chosen, error.message, prefetched.step)
        raise DataError(f"{shown(self.source.path(index))} could be read before, and now it cannot.", "Restore it.")


def _at_random(index: int, seed: int, epoch: int, images: int) -> Iterator[int]:
    """Yield images of a set, drawn to replace the image `index` in an epoch."""
    for attempt in itertools.count(1):
        key = draws.Key(seed, epoch, torch.tensor([index]), attempt)
        yield int(draws.integer(*key, _REPLACEMENT, images))


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
    """Yield images, labels and indices in order, `batch` at a time; bad images are left out and added to `skipped`.

    Raises:
        DataError: too many images cannot be read.
    """
    wanted = torch.arange(len(source)) if indices is None else indices
    bad = BadImages(source)
    with Reader(source, threads, cap, deadline) as reader:
        prefetched: deque[list[PendingRead]] = deque()
        for start in range(0, len(wanted), batch):
            chunk = wanted[start : start + batch]
            if isinstance(source, BatchedSource):
                yield source.read_many(chunk), source.labels[chunk], chunk
                continue
            for later in range(start + batch * len(prefetched), min(start + 2 * batch, len(wanted)), batch):
                prefetched.append([reader.submit(k) for k in wanted[later : later + batch].tolist()])
            good, images = [], []
            for pending in prefetched.popleft():
                try:
                    images.append(reader.result(pending))
                    good.append(pending.index)
                except DataError as error:
                    bad.add(pending.index, error.message)
            if images:
                yield joined(images), source.labels[good], torch.tensor(good)
    if skipped is not None:
        skipped += bad.skipped
