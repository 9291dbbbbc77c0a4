"""The queue against a deque that pushes one key at a time."""

from collections import deque

import pytest
import torch

from ssl_cli.nn.queue import Queue


@pytest.mark.parametrize("size", [1, 5, 8])
@pytest.mark.parametrize("counts", [[3, 3, 3, 3], [8, 1, 7], [5], [17, 2], [1] * 20, [40]])
def test_first_in_first_out_with_exact_wrap(size: int, counts: list[int]) -> None:
    queue = Queue(size, 2)
    oldest_first = deque([row.tolist() for row in queue.rows], maxlen=size)
    number = 0.0
    for count in counts:
        keys = torch.tensor([[number + i, 0.5] for i in range(count)])
        number += count
        queue.push(keys)
        oldest_first.extend(keys.tolist())
    cursor = int(queue.cursor)
    assert torch.cat([queue.rows[cursor:], queue.rows[:cursor]]).tolist() == list(oldest_first)


def test_starts_as_unit_noise_and_lives_in_the_checkpoint() -> None:
    queue = Queue(64, 16)
    torch.testing.assert_close(queue.rows.norm(dim=1), torch.ones(64))
    assert set(queue.state_dict()) == {"rows", "cursor"}
    assert not queue.rows.requires_grad
