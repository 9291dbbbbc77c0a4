"""The memory bank against rows written one after the other."""

import pytest
import torch
from torch.nn.functional import normalize

from ssl_cli.nn.bank import Bank


def written_in_turn(bank: Bank, index: list[int], z: list[list[float]], momentum: float) -> list[list[float]]:
    """The official code's update on one device: all blends read the old rows, then each row is written."""
    old, new = bank.rows.tolist(), bank.rows.tolist()
    for i, row in zip(index, z, strict=True):
        mixed = [momentum * a + (1 - momentum) * b for a, b in zip(old[i], row, strict=True)]
        length = sum(x * x for x in mixed) ** 0.5
        new[i] = [x / length for x in mixed]
    return new


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("index", [[3], [5, 0, 2], [4, 1, 4, 4, 0, 1], [2] * 9])
def test_blends_and_lets_the_last_of_an_image_stand(momentum: float, index: list[int]) -> None:
    bank = Bank(6, 4)
    z = normalize(torch.randn(len(index), 4, generator=torch.Generator().manual_seed(len(index))))
    expected = written_in_turn(bank, index, z.tolist(), momentum)
    before = bank.rows.clone()
    bank.blend(torch.tensor(index), z, momentum)
    torch.testing.assert_close(bank.rows, torch.tensor(expected))
    torch.testing.assert_close(bank.rows.norm(dim=1), torch.ones(6))
    untouched = sorted(set(range(6)) - set(index))
    assert torch.equal(bank.rows[untouched], before[untouched])


def test_the_last_stands_in_whatever_order_a_device_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    index, z = torch.tensor([1, 0, 1, 1]), torch.eye(4)
    forwards, backwards = Bank(2, 4), Bank(2, 4)
    forwards.blend(index, z, 0.5)
    write = torch.Tensor.index_copy_
    monkeypatch.setattr(torch.Tensor, "index_copy_", lambda to, dim, i, rows: write(to, dim, i.flip(0), rows.flip(0)))
    backwards.blend(index, z, 0.5)
    assert torch.equal(forwards.rows, backwards.rows)


def test_starts_as_unit_noise_that_its_arguments_decide() -> None:
    torch.manual_seed(1)
    bank = Bank(4000, 16, seed=3)
    torch.manual_seed(2)
    assert torch.equal(bank.rows, Bank(4000, 16, seed=3).rows)
    assert not torch.equal(bank.rows, Bank(4000, 16, seed=4).rows)
    torch.testing.assert_close(bank.rows.norm(dim=1), torch.ones(4000))
    torch.testing.assert_close(bank.rows.mean(0), torch.zeros(16), atol=0.02, rtol=0)
    torch.testing.assert_close(bank.rows.T @ bank.rows / 4000, torch.eye(16) / 16, atol=0.01, rtol=0)


def test_lives_in_the_checkpoint_and_takes_no_gradient() -> None:
    bank = Bank(6, 4)
    assert set(bank.state_dict()) == {"rows"}
    bank.blend(torch.tensor([1, 2]), torch.eye(4)[:2].requires_grad_(), 0.5)
    assert not bank.rows.requires_grad


def test_an_embedding_opposite_to_its_row_leaves_no_nan() -> None:
    bank = Bank(2, 4)
    bank.blend(torch.tensor([0]), -bank.rows[:1].clone(), 0.5)
    assert bool(bank.rows.isfinite().all())
