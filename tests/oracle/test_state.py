"""What moves after a step, against plain loops: queue, memory bank, momentum encoder."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ssl_cli.nn.bank import Bank
from ssl_cli.nn.ema import momentum_copy, update_ema
from ssl_cli.nn.queue import Queue
from tests.oracle import paper
from tests.oracle.agree import agree


def unit_rows(count: int, dim: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(count, dim, dtype=torch.float64, generator=generator))


@pytest.mark.parametrize("size", [1, 5, 8, 12])
@pytest.mark.parametrize("counts", [[], [3, 3, 3, 3], [8, 1, 7], [5], [17, 2], [1] * 20, [12, 12]])
def test_queue(size: int, counts: list[int]) -> None:
    queue = Queue(size, 3).double()
    pushes = [unit_rows(count, 3, seed) for seed, count in enumerate(counts)]
    expected = paper.fifo(queue.rows.tolist(), [keys.tolist() for keys in pushes])
    for keys in pushes:
        queue.push(keys)
    agree("queue: rows, oldest first", queue.rows.roll(-int(queue.cursor), 0), expected)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("index", [[3], [5, 0, 2], [4, 1, 4, 4, 0, 1], [2] * 9])
def test_bank(momentum: float, index: list[int]) -> None:
    bank = Bank(6, 4).double()
    expected = bank.rows.tolist()
    for seed in range(3):
        z = unit_rows(len(index), 4, seed)
        bank.blend(torch.tensor(index), z, momentum)
        expected = paper.blended(expected, index, z.tolist(), momentum)
    agree("memory bank: rows", bank.rows, expected)


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99, 0.999, 1.0])
def test_momentum_encoder(momentum: float) -> None:
    online = nn.Linear(3, 2).double()
    key = momentum_copy(online)
    start, seen = key.weight.flatten().tolist(), []
    for seed in range(5):
        with torch.no_grad():
            online.weight += unit_rows(2, 3, seed)
        seen.append(online.weight.flatten().tolist())
        update_ema(key, online, momentum)
    agree("momentum encoder: weights", key.weight.flatten(), paper.update_ema(start, seen, momentum))
