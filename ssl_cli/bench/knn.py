"""Nearest neighbours among as many representations as the run's evaluation would have."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_cli.bench.ceilings import MEMORY
from ssl_cli.bench.part import Part
from ssl_cli.bench.subject import Subject
from ssl_cli.bench.timing import Arm, alternate
from ssl_cli.engine.evaluation.evaluate import LARGEST_BANK
from ssl_cli.engine.evaluation.features import evaluating
from ssl_cli.transfer.knn import knn as neighbours

QUERIES, K, TEMPERATURE, CLASSES = 1024, 200, 0.1, 10


def knn(subject: Subject) -> Part:
    """Queries a second, against a bank as large as the training set, up to 20,000 rows; rows are noise."""
    count, source = min(len(subject.job.loader.source), LARGEST_BANK), subject.job.loader.source
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), evaluating(subject.objective):
        width = subject.objective.represent(subject.views.x[:2].float()).shape[1]
    bank, queries = (torch.randn(rows, width, generator=generator).to(subject.device) for rows in (count, QUERIES))
    label = (torch.arange(count) % CLASSES).to(subject.device)
    classes = max(CLASSES, len(source.classes))
    rates = alternate(
        {
            "ours": Arm(QUERIES, lambda: neighbours(bank, label, queries, classes=classes, k=K).scores),
            "plain": Arm(QUERIES, lambda: plainly(bank, label, queries, classes)),
        },
        subject.device,
    )
    ceilings = subject.ceilings
    bounds = {
        "matrix fp32": ceilings.matrix("fp32") / (2 * count * width),
        MEMORY: ceilings.memory() / (8 * count),  # a similarity is written, and read to be ranked
    }
    found = rates["ours"].measured(
        "knn", "queries/s", bounds=bounds, reference=rates["plain"], against="one matmul, one topk"
    )
    return Part((found,))


@torch.no_grad()
def plainly(bank: Tensor, label: Tensor, queries: Tensor, classes: int) -> Tensor:
    """Votes `(Q,classes)`, all similarities at once."""
    similarity, nearest = (F.normalize(queries, dim=1) @ F.normalize(bank, dim=1).T).topk(min(K, len(bank)))
    votes = torch.zeros(len(queries), classes, device=bank.device)
    return votes.scatter_add_(1, label[nearest], (similarity / TEMPERATURE).exp())
