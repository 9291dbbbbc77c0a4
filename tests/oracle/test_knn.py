"""Weighted kNN against the vote of Wu et al. 2018, section 3.4, in plain loops."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from ssl_cli.transfer.knn import knn, ranked, score, votes
from ssl_cli.transfer.tally import accuracy
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


KS, TEMPERATURES = (5, 1, 200, 37), (1.0, 0.07)


def several(seed: int, classes: int = 4) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A bank that is not normalised, its labels, queries and theirs."""
    draw = torch.Generator().manual_seed(seed)
    bank, queries = (5 * torch.randn(n, 7, generator=draw, dtype=torch.float64) + 1 for n in (60, 23))
    return bank, torch.randint(classes, (60,), generator=draw), queries, torch.randint(classes, (23,), generator=draw)


@pytest.mark.parametrize("at_once", [16_000_000, 1_000])
def test_all_votes_of_one_pass_are_those_of_plain_loops(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_cli.transfer.knn.SIMILARITIES", at_once)
    bank, labels, queries, _ = several(0)
    parts = list(votes(bank, labels, queries, classes=4, ks=KS, temperatures=TEMPERATURES))
    assert (len(parts) > 1) == (at_once < 16_000_000)
    found = torch.cat(parts, 2)
    for i, k in enumerate(KS):
        for j, temperature in enumerate(TEMPERATURES):
            wanted = [paper.votes(bank.tolist(), labels.tolist(), q, 4, k, temperature) for q in queries.tolist()]
            shares = found[i, j] / found[i, j].sum(1, keepdim=True)
            agree("kNN in one pass: shares of the vote", shares, wanted)


@pytest.mark.parametrize("k", [1, 5, 37])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_votes_and_accuracy_of_scikit_learn(k: int, temperature: float) -> None:
    bank, labels, queries, query_labels = several(k)
    oracle = KNeighborsClassifier(k, metric="cosine", weights=lambda distance: np.exp((1 - distance) / temperature))
    oracle.fit(bank.numpy(), labels.numpy())
    wanted = torch.from_numpy(oracle.predict_proba(queries.numpy()))
    (part,) = votes(bank, labels, queries, classes=4, ks=(k,), temperatures=(temperature,))
    torch.testing.assert_close(part[0, 0] / part[0, 0].sum(1, keepdim=True), wanted, rtol=1e-9, atol=1e-12)
    (found,) = score(bank, labels, queries, query_labels, classes=4, ks=(k,), temperatures=(temperature,))
    assert found.tally.top1 == pytest.approx(oracle.score(queries.numpy(), query_labels.numpy()))


def test_scores_are_those_of_each_k_and_temperature_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_cli.transfer.knn.SIMILARITIES", 1_000)
    bank, labels, queries, query_labels = several(3)
    found = score(bank, labels, queries, query_labels, classes=4, ks=KS, temperatures=TEMPERATURES)
    assert [(s.k, s.temperature) for s in found] == [(min(k, 60), t) for k in KS for t in TEMPERATURES]
    for one in found:
        alone = knn(bank, labels, queries, classes=4, k=one.k, temperature=one.temperature)
        assert (one.tally.top1, one.tally.top5) == pytest.approx(accuracy(ranked(alone.scores), query_labels))
    assert found[0].tally.confusion is not None
    assert found[1].tally.confusion is None
