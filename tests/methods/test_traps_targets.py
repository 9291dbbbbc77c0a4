"""Traps of what a method compares with: keys are of the other view, noise is of everyone, anew for each image."""

import pytest
import torch
from torch.nn.functional import normalize

from tests.methods import test_instdisc, test_moco


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_key_is_of_the_other_view_by_the_momentum_encoder(symmetric: bool) -> None:
    """A query beside the key of its own view would have nothing to learn."""
    moco = test_moco.build(symmetric=symmetric)
    with torch.no_grad():
        for p in moco.key.parameters():
            p.mul_(1.5)
    batch, views = test_moco.make()
    keys = test_moco.keys_of(moco, views, batch)
    with torch.no_grad():
        wanted = [normalize(moco.key(view), dim=1) for view in (views[1], views[0])][: moco.gradient_views]
    torch.testing.assert_close(keys, torch.stack(wanted, 1))


def test_noise_is_of_every_row_for_every_image() -> None:
    """Uniform with replacement over all rows, the own one among them; no two images share their draws."""
    objective = test_instdisc.build(noise=4000)
    batch, _ = test_instdisc.make()
    rows = objective.targets([], batch)
    for own, drawn in zip(batch.index.tolist(), rows, strict=True):
        counts = torch.bincount(drawn, minlength=test_instdisc.ROWS).double()
        assert 60 < counts[own] < 145  # 100 by chance
        assert ((counts - 100).square() / 100).sum() < 78  # 99.98 % at 39 degrees of freedom
    assert len({tuple(drawn.tolist()) for drawn in rows}) == len(rows)
