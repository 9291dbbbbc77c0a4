"""kNN accuracy during training, on a fixed part of the training images."""

from collections.abc import Iterator

import torch

from ssl_cli import draws
from ssl_cli.config.tree import Settings
from ssl_cli.data.decoded import Fitted
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.data.split import labelled, queries_and_bank
from ssl_cli.engine.evaluation.features import Encoder, Features, Transform, encode
from ssl_cli.errors import SslcliError, convert_exception
from ssl_cli.events import Evaluated, Event, Warned
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.objective import Objective
from ssl_cli.transfer.knn import default_k, knn
from ssl_cli.transfer.tally import accuracy

EVERY = 10
"""Log steps from one measurement to the next."""
IMAGES, BATCHES = 2500, 10
"""Images at most, and in batches: encoding them costs little of the steps between two measurements."""
QUERIES, FEWEST, MICRO = 0.2, 50, 256
FITTED, LARGEST = "fitted", 2**26
"""Of images that take at most so many bytes as the network sees them, only the first measurement decodes any."""
K = 20
"""Neighbours at most; fewer where a class of the bank is smaller."""
_STREAM = -2
"""Of the permutation that chooses images: no epoch uses it."""


class Monitor:
    """Measure the kNN accuracy of h at every tenth log step, on labelled training images chosen by the seed.

    A fifth of the images are queries, the others the bank. Test images are not used, and random streams, BatchNorm
    statistics and the mode of modules are left as they are: the trained weights do not depend on it.

    Args:
        source: the training images.
        settings: of the run.
        precision: of the forward pass, `fp32` or `bf16`.
        device: of the objective.
        micro: rows of a forward pass, at most.
    """

    def __init__(
        self, source: Source, settings: Settings, precision: str, device: torch.device, micro: int = MICRO
    ) -> None:
        self.settings, self.precision, self.device, self.micro = settings, precision, device, min(micro, MICRO)
        known = labelled(source)
        count = min(IMAGES, BATCHES * settings.run.batch)
        order = draws.permutation(settings.run.seed, len(known), _STREAM)[:count]
        self.queries, self.bank = queries_and_bank(known, order, settings.run.seed, QUERIES)
        enough = len(order) >= FEWEST and len(self.queries) > 0
        self.active = settings.run.monitor and enough and len(known.classes) > 1
        self._log_steps, self._seen = 0, dict[Source, Source]()
        whole = 4 * len(order) * settings.data.channels * settings.data.size**2
        self._keeps = whole <= LARGEST and not isinstance(source, BatchedSource)

    def measure(self, objective: Objective, step: int) -> Iterator[Event]:
        """Count a log step; at every tenth yield `Evaluated` named `online_knn`.

        An error, such as too little memory, is a `Warned` and the end of measuring: training continues without it.
        """
        self._log_steps += 1
        if not self.active or self._log_steps % EVERY:
            return
        try:
            bank, queries = (self._encode(objective, part) for part in (self.bank, self.queries))
            k = default_k(bank.label, K)
            votes = knn(bank.h["h"], bank.label, queries.h["h"], classes=len(self.bank.classes), k=k)
            top1, _ = accuracy(votes.ranking, queries.label)
        except (SslcliError, MemoryError, RuntimeError) as error:
            self.active = False
            converted = convert_exception(error)
            yield Warned(step=step, message=f"No kNN while training: {converted.message}", hint=converted.hint)
            return
        result = {"top1": top1, "k": votes.k, "bank": len(bank.label), "queries": len(queries.label)}
        yield Evaluated(step=step, name="online_knn", result=result)

    def _encode(self, objective: Objective, part: Source) -> Features:
        seen, encoders = self._seen.get(part), dict[str, Encoder](h=objective.represent)
        if self._keeps and not seen:
            encoders[FITTED] = torch.nn.Identity()
        transforms: dict[str, Transform] | None = {"": lambda batch: batch.image} if seen else None
        with evaluating(objective):
            found = encode(
                encoders, seen or part, self.settings, device=self.device, precision=self.precision, micro=self.micro,
                transforms=transforms,
            )  # fmt: skip
        if FITTED in found.h:
            self._seen[part] = Fitted(part, found.index, found.h[FITTED])
        return found
