"""Views of each step's batch; on a GPU those of the next step are prefetched on a side stream.

Note:
    Memory never moves between the two streams while one of them still uses it. Cached images, copies and views are
    allocated on the side stream, whose own order makes it safe to reuse their blocks there. Only views are read by the
    training stream: when a step takes its views, the training stream waits for the side stream, which made them, and
    the side stream waits for the training stream, on which everything that reads the previous step's views has been
    queued by then. Those are released next, so at most two steps' views are in GPU memory, however late the GPU
    is; `record_stream` could not guarantee that.
"""

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ssl_cli import distributed
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.data.loader import Loader
from ssl_cli.data.positives import group_at
from ssl_cli.engine.rows import StepRows
from ssl_cli.objective import Batch, Objective


@dataclass(frozen=True)
class Views:
    """Views of a step that this rank runs.

    Attributes:
        x: `(R,C,H,W)`.
        position: int64 `(V*N,)`, the row of x for each row of the step, -1 if on another rank; None: the same row.
        images: N, images of the step over all ranks.
    """

    x: Tensor
    position: Tensor | None
    images: int

    def rows(self, rows: Tensor) -> Tensor:
        """Return rows of the step `(m,C,H,W)` by their number int64 `(m,)`, view by view."""
        position = rows if self.position is None else self.position[rows]
        return self.x[position.to(self.x.device, non_blocking=True)]

    def view(self, number: int, images: Tensor) -> Tensor:
        """Return view `number` of some images int64 `(m,)`; an empty tensor where this rank does not have that view."""
        rows = images + number * self.images
        if self.position is not None and bool((self.position[rows] < 0).any()):
            return self.x[:0]
        return self.rows(rows)


class ViewLoader:
    """Make the views of one step after the other.

    Args:
        loader: batches of images.
        pipeline: step to the augmentation of its views.
        objective: gives the number of views (`views`) and those that `targets` reads (`target_views`).
        rows: step to the rows of that step; see `step_rows`.
        device: where views are made.
        memory_format: of the views.
        dtype: of the views.
    """

    def __init__(
        self,
        loader: Loader,
        pipeline: Callable[[int], Pipeline],
        objective: Objective,
        rows: Callable[[int], StepRows],
        *,
        device: torch.device,
        memory_format: torch.memory_format,
        dtype: torch.dtype,
    ) -> None:
        self.loader, self.pipeline, self.objective, self.rows = loader, pipeline, objective, rows
        self.device, self.memory_format, self.dtype = device, memory_format, dtype
        self._side_stream = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._batches: Iterator[Batch] = iter(())
        self._step = -1
        self._current: tuple[Views, Batch] | None = None
        self._loaded: Batch | None = None
        self._prefetched: Views | Exception | None = None

    def start(self, step: int, stop: int) -> None:
        """Start reading the batches of steps `step` to `stop` (exclusive)."""
        self._batches, self._step = self.loader.batches(step, stop), step - 1
        self._current = self._loaded = self._prefetched = None

    def take(self, step: int) -> tuple[Views, Batch]:
        """Return the views and the batch of `step`: the step of the last call again, or the next one.

        The batch is that of all ranks, without its images. After an error the call can be repeated.

        Raises:
            DataError: too many images cannot be read.
            RuntimeError: out of memory.
        """
        if self._current is None or step != self._step:
            self._current = None  # on the CPU the previous views are released before the next ones are made
            if self._side_stream is None:
                views = self._make()
            else:
                self.prefetch()
                made, self._prefetched = self._prefetched, None
                if isinstance(made, Exception):
                    raise made
                assert made is not None
                training_stream = torch.cuda.current_stream(self.device)
                training_stream.wait_stream(self._side_stream)
                self._side_stream.wait_stream(training_stream)
                views = made
            assert self._loaded is not None
            self._current, self._step = (views, self._global_batch(self._loaded)), step
            self._loaded = None
        return self._current

    def prefetch(self) -> None:
        """Queue the next step's views on the side stream of a GPU, unless they are queued; do nothing on the CPU."""
        if self._side_stream is None or self._prefetched is not None:
            return
        with torch.cuda.stream(self._side_stream):
            try:
                self._prefetched = self._make()
            except StopIteration:
                return  # the current step is the last one
            except torch.OutOfMemoryError:
                self._prefetched = self._make_after_sync()
            except Exception as error:  # it belongs to the next step, and the current one is not finished
                self._prefetched = error

    def _make_after_sync(self) -> Views | Exception:
        """Make views once the current step has finished and released its activations."""
        torch.cuda.synchronize(self.device)
        torch.cuda.empty_cache()
        try:
            return self._make()
        except Exception as error:
            return error

    def _make(self) -> Views:
        """Make the views of the next batch, which stays in `_loaded`: with its images only after an error."""
        if self._loaded is None:
            self._loaded = next(self._batches)
        began = time.perf_counter()
        views = self.augment(self._loaded)
        if self._side_stream is None:
            self.loader.view_seconds += time.perf_counter() - began
        self._loaded = replace(self._loaded, image=[], partner=None)
        return views

    def augment(self, batch: Batch) -> Views:
        """Return the views of a batch that this rank runs."""
        rows, count, batch = self.rows(batch.step), self.objective.views, batch.to(self.device)
        pipeline = self.pipeline(batch.step)
        if rows.single_rank:
            x = pipeline.stacked(batch, count, self.dtype)
            return Views(x.contiguous(memory_format=self.memory_format), None, rows.images)
        target_views = self.objective.target_views
        read = rows.images_to_read(target_views)
        parts = []
        for view in range(count):
            images = rows.images_of_view(view, target_views)
            if len(images):
                selected = batch.of_view(view).select(torch.searchsorted(read, images))
                x = pipeline.apply(selected.image, pipeline.draw(selected, view))
                parts.append((view, images, x.to(self.dtype).contiguous(memory_format=self.memory_format)))
        return concatenate(parts, count, rows.images)

    def _global_batch(self, batch: Batch) -> Batch:
        """Gather labels and indices of all ranks' images: where one cannot be read, its rank alone has replaced it."""
        rows = self.rows(batch.step)
        if rows.single_rank:
            return batch
        order = rows.queries.local.order
        images = order[order < rows.images]
        read = rows.images_to_read(self.objective.target_views)
        index = distributed.gather_rows(batch.index[torch.searchsorted(read, images)], images, rows.images)
        label, local = self.loader.source.labels[index], order.to(self.device, non_blocking=True)
        return Batch([], label, index, batch.epoch, batch.step, local, group_at(self.loader.positives, index))


def pipeline_by_step(settings: AugmentSettings, seed: int, size_at: Callable[[int], int]) -> Callable[[int], Pipeline]:
    """Return the function that gives the augmentation of a step, whose views have `size_at(step)` pixels a side."""
    of_size = functools.cache(lambda size: Pipeline(settings, size, seed))
    return lambda step: of_size(size_at(step))


def concatenate(parts: list[tuple[int, Tensor, Tensor]], views: int, images: int) -> Views:
    """Concatenate parts of a step's views: each the number of a view, images int64 `(m,)` and pixels `(m,C,H,W)`."""
    position = torch.full((views * images,), -1)
    starts = itertools.accumulate((len(rows) for _, rows, _ in parts), initial=0)
    for start, (view, rows, _) in zip(starts, parts, strict=False):
        position[view * images + rows] = torch.arange(start, start + len(rows))
    return Views(torch.cat([x for _, _, x in parts]), position, images)
