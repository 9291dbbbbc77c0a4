"""Quality while training goes on: kNN on a fixed part of the training images, within a share of the time."""

import time
from collections.abc import Iterator

import torch

from ssl_cli import draws
from ssl_cli.config.tree import Settings
from ssl_cli.data.source import Source
from ssl_cli.data.split import labelled, subset
from ssl_cli.engine.features import encode, evaluating
from ssl_cli.errors import SslcliError
from ssl_cli.events import Evaluated, Event, Warned
from ssl_cli.objective import Objective
from ssl_cli.transfer.knn import accuracy, knn

IMAGES = 2500
QUERIES = 0.2
FEWEST = 50
K = 20
SHARE = 0.03
"""Of the time of a run, at most."""
_STREAM = -2
"""No epoch shuffles in this stream."""


class Monitor:
    """kNN of the encoder as it is, on labelled training images that a seed chose once for all.

    A fifth of them ask, the others answer, so that no image finds itself. Test images are not touched, and neither
    are random streams, BatchNorm statistics or the mode of any module: a run is the same with it and without.

    Args:
        source: the training images.
        settings: of the run.
        precision: in which the network runs.
        device: where it is.
    """

    def __init__(self, source: Source, settings: Settings, precision: str, device: torch.device) -> None:
        self.settings, self.precision, self.device = settings, precision, device
        known = labelled(source)
        order = draws.permutation(settings.run.seed, len(known), _STREAM)[:IMAGES]
        cut = int(len(order) * QUERIES)
        self.queries, self.bank = subset(known, order[:cut]), subset(known, order[cut:])
        self.active = settings.run.monitor and len(order) >= FEWEST and len(known.classes) > 1
        self._began = time.monotonic()
        self._spent = self._last = 0.0

    def measure(self, objective: Objective, step: int, rate: float) -> Iterator[Event]:
        """`Evaluated` named `online_knn`, if its time has come; `rate` is the images per second of training."""
        # a training step takes two views forward and backward: its image costs six passes of one here, or more
        cost = self._last or (len(self.bank) + len(self.queries)) / (4 * rate)
        began = time.monotonic()
        if not self.active or self._spent + cost > SHARE * (began - self._began):
            return
        try:
            result = self._knn(objective)
        except SslcliError as error:
            self.active = False
            yield Warned(step=step, message=f"No kNN while training: {error.message}")
            return
        self._last = time.monotonic() - began
        self._spent += self._last
        yield Evaluated(step=step, name="online_knn", result={**result, "seconds": self._last})

    def _knn(self, objective: Objective) -> dict[str, float]:
        with evaluating(objective):
            bank, queries = (
                encode({"h": objective.represent}, part, self.settings, device=self.device, precision=self.precision)
                for part in (self.bank, self.queries)
            )
        votes = knn(bank.h["h"], bank.label, queries.h["h"], classes=len(self.bank.classes), k=K)
        top1, _ = accuracy(votes.scores, queries.label)
        return {"top1": top1, "k": votes.k, "bank": len(bank.label), "queries": len(queries.label)}
