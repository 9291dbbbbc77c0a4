"""The loss and its gradient at the embeddings of a batch: the run's own against the dense matrix of its formula."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_cli.bench.advice import LOSS
from ssl_cli.bench.part import Part
from ssl_cli.bench.subject import Subject
from ssl_cli.bench.timing import Arm, alternate
from ssl_cli.bench.work import operations
from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.methods.moco import MoCo
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.methods.simclr_v2 import SimCLRv2
from ssl_cli.objective import Objective, Targets

MOST = 2**28
"""Entries of a matrix that plain code may hold: 1 GB, and it holds a few."""
Plain = Callable[[Tensor, Targets], Tensor]


def loss(subject: Subject) -> Part:
    """Images a second."""
    targets, _, rows = subject.outcome
    objective, batch, images = subject.objective, subject.batch, len(subject.batch)
    arms = {"ours": Arm(images, _once(rows, lambda z: objective.loss(z, targets, batch)))}
    plain = dense(objective)
    if plain is not None and len(rows) * max(len(rows), objective.negatives(images) or 0) <= MOST:
        arms["plain"] = Arm(images, _once(rows, lambda z: plain[1](z, targets)))
    rates = alternate(arms, subject.device)
    each = operations(arms["ours"].call) / images
    bounds = {"matrix fp32": subject.ceilings.matrix("fp32") / each} if each else {}
    found = rates["ours"].measured(
        "loss", "images/s", bounds=bounds, reference=rates.get("plain"), against=plain[0] if plain else ""
    )
    return Part((found,), {LOSS: 1 / found.rate})


def dense(objective: Objective) -> tuple[str, Plain] | None:
    """What the plain loss of a method is called, and the loss; None where there is none to compare with."""
    if isinstance(objective, MoCo):
        return "dense logits, cross-entropy", lambda z, keys: _over_the_queue(objective, z, keys)
    if isinstance(objective, SimCLR) and not (isinstance(objective, SimCLRv2) and objective.against_keys):
        memory = objective.memory if isinstance(objective, SimCLRv2) else None
        return "dense NT-Xent", lambda z, _: nt_xent(z, objective.cfg.temperature, memory)
    return None


def _over_the_queue(objective: MoCo, z: Tensor, keys: Targets) -> Tensor:
    assert isinstance(keys, Tensor)
    own = (z * keys.transpose(0, 1).flatten(0, 1)).sum(1, keepdim=True)
    logits = torch.cat([own, z @ objective.queue.rows.T], 1) / objective.cfg.temperature
    return F.cross_entropy(logits, torch.zeros(len(z), dtype=torch.int64, device=z.device))


def _once(rows: Tensor, value: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """A call that takes the loss at these rows and its gradient there."""
    z = rows.detach().clone().requires_grad_()

    def call() -> None:
        z.grad = None
        value(z).backward()  # type: ignore[no-untyped-call]

    return call
