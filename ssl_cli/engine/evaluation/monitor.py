"""Quality while training goes on: kNN on a fixed part of the training images, within a share of the time."""

import time
from collections.abc import Iterator

import torch

from ssl_cli import draws
from ssl_cli.config.tree import Settings
from ssl_cli.data.source import Source
from ssl_cli.data.split import labelled, subset
from ssl_cli.engine.evaluation.features import Features, encode, evaluating
from ssl_cli.errors import SslcliError, convert_exception
from ssl_cli.events import Evaluated, Event, Warned
from ssl_cli.objective import Objective
from ssl_cli.transfer.knn import accuracy, knn

IMAGES = 2500
QUERIES = 0.2
FEWEST = 50
FEW = 32
MICRO = 256
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
        micro: rows at once, at most.
    """

    def __init__(
        self, source: Source, settings: Settings, precision: str, device: torch.device, micro: int = MICRO
    ) -> None:
        self.settings, self.precision, self.device, self.micro = settings, precision, device, min(micro, MICRO)
        known = labelled(source)
        order = draws.permutation(settings.run.seed, len(known), _STREAM)[:IMAGES]
        cut = int(len(order) * QUERIES)
        self.queries, self.bank = subset(known, order[:cut]), subset(known, order[cut:])
        self.active = settings.run.monitor and len(order) >= FEWEST and len(known.classes) > 1
        self._began = time.monotonic()
        self._spent = self._cost = 0.0

    def measure(self, objective: Objective, step: int) -> Iterator[Event]:
        """`Evaluated` named `online_knn`, if its time has come.

        What one will cost is first found on a few images, then by the last one. Whatever goes wrong here is a
        warning, and the end of looking: the training it watches is well.
        """
        if not self.active:
            return
        try:
            if not self._cost:
                self._cost = self._tried(objective)
            began = time.monotonic()
            if self._spent + self._cost > SHARE * (began - self._began):
                return
            result = self._knn(objective)
        except (SslcliError, MemoryError, RuntimeError) as error:
            self.active = False
            ours = convert_exception(error)
            yield Warned(step=step, message=f"No kNN while training: {ours.message}", hint=ours.hint)
            return
        self._cost = time.monotonic() - began
        self._spent += self._cost
        yield Evaluated(step=step, name="online_knn", result={**result, "seconds": self._cost})

    def _tried(self, objective: Objective) -> float:
        """Seconds that a measurement should take, by those that a few of its images do."""
        few = subset(self.queries, torch.arange(min(FEW, len(self.queries))))
        began = time.monotonic()
        self._encode(objective, few)
        seconds = time.monotonic() - began
        self._spent += seconds
        return seconds * (len(self.bank) + len(self.queries)) / len(few)

    def _knn(self, objective: Objective) -> dict[str, float]:
        bank, queries = (self._encode(objective, part) for part in (self.bank, self.queries))
        votes = knn(bank.h["h"], bank.label, queries.h["h"], classes=len(self.bank.classes), k=K)
        top1, _ = accuracy(votes.scores, queries.label)
        return {"top1": top1, "k": votes.k, "bank": len(bank.label), "queries": len(queries.label)}

    def _encode(self, objective: Objective, part: Source) -> Features:
        with evaluating(objective):
            return encode(
                {"h": objective.represent}, part, self.settings,
                device=self.device, precision=self.precision, micro=self.micro,
            )  # fmt: skip
