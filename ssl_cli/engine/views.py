"""From a loader's batches to what a step takes: the views that pass in this process, and the batch as all know it.

On a card the copy and the augmentation of a step's batch run on a stream beside the one that trains. They are begun
(`ahead`) as soon as the step before is on its way, so that the card has them done, or at hand, when it gets there. What
processes say to one another of a batch waits for the step's own turn: the order in which they speak is that of steps.

Memory never passes from one stream to the other while either has a use for it:

* What lies on the side stream is taken from that stream's blocks alone: cached images, copies, views. The allocator
  gives such a block away again as soon as the host lets go of it, but to the side stream only, where all is in order.
* Views alone are read by the other stream. When a step is handed its views, the training stream waits for the side
  stream, which makes them, and the side stream for the training stream, which by then has been given everything that
  reads the views of the step before. These are let go next, and whatever takes their place comes after that. So no
  more than two steps' views lie on the card; with `record_stream` it would hang on how far the card has come.
"""

from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace

import torch

from ssl_cli import distributed
from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import Loader
from ssl_cli.engine.plan.plan import Resolved
from ssl_cli.engine.precision import MEMORY_FORMATS, view_dtype
from ssl_cli.engine.shards import Views, gathered, step_share
from ssl_cli.objective import Batch, Objective


class Staging:
    """Makes the views of batches: on a CPU when they are asked for, on a card a step ahead."""

    def __init__(self, settings: Settings, resolved: Resolved, objective: Objective, loader: Loader) -> None:
        self.settings, self.objective, self.loader = settings, objective, loader
        self.device, self.layout = torch.device(resolved.device), MEMORY_FORMATS[resolved.memory_format]
        self.dtype = view_dtype(resolved.precision)
        self.pipeline = Pipeline(settings.views, settings.data.size, settings.run.seed)
        self._side = torch.cuda.Stream(self.device) if self.device.type == "cuda" else None  # type: ignore[no-untyped-call]
        self._own: Iterator[Batch] = iter(())
        self._next: Future[tuple[Views, Batch]] | None = None

    def batches(self, start: int, stop: int) -> Iterator[tuple[Views, Batch]]:
        """What the steps from `start` to `stop` (exclusive) take; a step's views are not to be used after its end.

        Raises:
            DataError: too many images cannot be read; raised when the step's turn has come.
        """
        self._own, self._next = self.loader.batches(start, stop), None
        if self._side is None:
            yield from map(self.stage, self._own)
            return
        for _ in range(start, stop):
            begun, self._next = self._next or self._begin(self._side), None
            views, batch = begun.result()
            training = torch.cuda.current_stream(self.device)
            training.wait_stream(self._side)
            self._side.wait_stream(training)
            yield views, self._whole(batch)

    def ahead(self) -> None:
        """Begin what the next step takes, on a stream of its own; a second time, or on a CPU, nothing happens."""
        if self._side is not None and self._next is None:
            self._next = self._begin(self._side)

    def stage(self, batch: Batch) -> tuple[Views, Batch]:
        """The V views of each image, view by view, as far as they pass here; and the batch as all processes know it."""
        return self._views(batch), self._whole(batch)

    def _begin(self, side: torch.cuda.Stream) -> Future[tuple[Views, Batch]]:
        begun = Future[tuple[Views, Batch]]()
        with torch.cuda.stream(side):
            try:
                batch = next(self._own)
                begun.set_result((self._views_after_all(batch), replace(batch, image=[])))
            except Exception as error:  # it is of the next step, and this one is not over
                begun.set_exception(error)
        return begun

    def _views_after_all(self, batch: Batch) -> Views:
        """Where there is no room for them beside the step that trains, once it is over and has given up its own."""
        try:
            return self._views(batch)
        except torch.OutOfMemoryError:
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
        return self._views(batch)

    def _views(self, batch: Batch) -> Views:
        images, views, own = self.settings.run.batch, self.objective.views, batch.to(self.device)
        share = step_share(self.settings, self.objective, batch.step)
        if share.alone:
            x = self.pipeline.stacked(own, views, self.dtype)
            return Views(x.contiguous(memory_format=self.layout), None, images)
        asked = self.objective.target_views
        read = share.read(asked)
        parts = []
        for view in range(views):
            rows = share.rows_of(view, asked)
            if not len(rows):
                continue  # all groups of this view were dealt to others
            some = own.select(torch.searchsorted(read, rows))
            x = self.pipeline.apply(some.image, self.pipeline.draw(some, view))
            parts.append((view, rows, x.to(self.dtype).contiguous(memory_format=self.layout)))
        return gathered(parts, views, images)

    def _whole(self, batch: Batch) -> Batch:
        """The batch as all processes know it: which image replaces a bad one is known where that was met."""
        share = step_share(self.settings, self.objective, batch.step)
        if share.alone:
            return replace(batch, image=[])
        order = share.queries.own.order
        rows = order[order < share.images]
        read = share.read(self.objective.target_views)
        index = distributed.gather_rows(batch.index[torch.searchsorted(read, rows)], rows, share.images)
        label = self.loader.source.labels[index]
        return Batch([], label, index, batch.epoch, batch.step, order.to(self.device, non_blocking=True))
