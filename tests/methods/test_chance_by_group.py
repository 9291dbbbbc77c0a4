"""Positives by group: the level of chance is the mean loss of equal embeddings over many batches, groups left out."""

from typing import Any

import pytest
import torch

from ssl_cli.config.tree import Settings
from ssl_cli.data.positives import Positives
from ssl_cli.engine.build import build_objective
from ssl_cli.objective import Batch, Objective

IMAGES, BATCH, DRAWS = 600, 8, 150
GROUP = torch.cat([torch.arange(2).repeat_interleave(150), torch.arange(2, 302)])
"""Half of the images in two large groups, the others alone in theirs."""
METHODS: dict[str, dict[str, Any]] = {
    "simclr": {}, "simclr-v2": {"memory": 40}, "moco-v2": {"queue": 40}, "invaspread": {}, "instdisc": {"noise": 64},
    "instdisc, softmax": {"noise": 0},
}  # fmt: skip


def made(name: str) -> Objective:
    method = {"name": name.partition(",")[0], "loss_scale": 2.0, **METHODS[name]}
    table = {"method": method, "model": {"backbone": "resnet18", "width": 0.0625}, "data": {"size": 8}}
    return build_objective(Settings.model_validate(table), torch.device("cpu"), IMAGES).eval()


def mean_loss(objective: Any, group: torch.Tensor | None) -> float:
    """The mean over random batches, in a state of random images, where all rows are one."""
    width, total = objective(torch.zeros(2, 3, 8, 8)).shape[1], 0.0
    row = torch.nn.functional.normalize(torch.ones(1, width), dim=1)
    keys = max(objective.key_views, objective.gradient_views)
    for name, buffer in objective.named_buffers():
        if name.endswith(".rows"):
            buffer.copy_(row.expand_as(buffer))
    for draw in range(DRAWS):
        order = torch.randperm(IMAGES, generator=torch.Generator().manual_seed(draw))
        index = order[:BATCH]
        queue = getattr(objective, "queue", None)
        if queue is not None and group is not None:
            queue.group.copy_(group[order[BATCH : BATCH + len(queue.rows)]])
        batch = Batch([], torch.zeros(BATCH), index, epoch=draw, group=None if group is None else group[index])
        targets = torch.empty(0)
        if objective.has_targets:
            noise = hasattr(objective, "bank")
            targets = objective.targets([], batch) if noise else row.expand(BATCH, keys, width)
        z = row.repeat(objective.gradient_views * BATCH, 1)
        total += float(objective.loss(z, targets if objective.has_targets else None, batch))
    return total / DRAWS


@pytest.mark.parametrize("name", METHODS)
def test_the_level_of_chance_is_that_of_the_negatives_which_are_left(name: str) -> None:
    objective = made(name)
    whole = objective.chance(BATCH)
    assert whole is not None
    assert mean_loss(objective, None) == pytest.approx(whole, abs=2e-3)
    positives = Positives(GROUP)
    assert positives.own_groups == ((0.5, 0.0), (0.5, 149 / 599))
    objective.prepare_groups(positives)
    objective.own_groups = positives.own_groups
    chance = objective.chance(BATCH)
    assert chance is not None
    assert mean_loss(objective, GROUP) == pytest.approx(chance, abs=0.05)
    assert chance < whole - 0.15  # of numbers times 2, the loss scale
