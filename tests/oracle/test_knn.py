"""Weighted kNN against the vote of Wu et al. 2018, section 3.4, in plain loops."""

import pytest
import torch

from ssl_cli.transfer.knn import knn
from tests.oracle import paper
from tests.oracle.agree import agree


@pytest.mark.parametrize("k", [1, 5, 37, 200])
@pytest.mark.parametrize("temperature", [0.07, 0.1, 1.0])
def test_votes_of_plain_loops(k: int, temperature: float) -> None:
    draw = torch.Generator().manual_seed(k)
    bank = torch.randn(60, 7, generator=draw, dtype=torch.float64)
    queries = torch.randn(9, 7, generator=draw, dtype=torch.float64) * 30  # length must not matter
    labels = torch.randint(4, (60,), generator=draw)
    found = knn(bank, labels, queries, classes=4, k=k, temperature=temperature)
    wanted = [paper.votes(bank.tolist(), labels.tolist(), q, 4, k, temperature) for q in queries.tolist()]
    agree("kNN: shares of the vote", found.scores / found.scores.sum(1, keepdim=True), wanted)
    single = knn(bank.float(), labels, queries.float(), classes=4, k=k, temperature=temperature)
    torch.testing.assert_close(single.scores, found.scores.float(), rtol=1e-4, atol=1e-6)
    assert found.k == min(k, 60)
