"""A method's objective in a loop of one's own: the papers' losses and states in plain loops."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import ssl_cli
from ssl_cli.errors import UsageError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Tanh()).double()


def views(count: int = 5, seed: int = 0) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.rand(count, 3, 2, 2, generator=draw, dtype=torch.float64) for _ in range(2)]


def unit(rows: Tensor) -> list[list[float]]:
    return [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows.tolist()]


def dot(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def test_simclr_is_nt_xent_of_both_views() -> None:
    """Chen et al. 2020, equation 1."""
    objective: Any = ssl_cli.Objective.of("simclr", network(), 6, temperature=0.5, head_dim=4).double()
    x = views()
    loss, after_step = objective.contrast(x)
    with torch.no_grad():
        z = unit(objective.projector(objective.backbone(torch.cat(x))))
    terms = []
    for i in range(10):
        j = (i + 5) % 10
        others = math.fsum(math.exp(dot(z[i], z[k]) / 0.5) for k in range(10) if k != i)
        terms.append(-math.log(math.exp(dot(z[i], z[j]) / 0.5) / others))
    assert float(loss.detach()) == pytest.approx(math.fsum(terms) / 10, rel=1e-12)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    after_step()
    assert all(torch.equal(before[name], value) for name, value in objective.state_dict().items())


def test_moco_contrasts_with_its_queue_and_moves_it_after_the_step() -> None:
    """He et al. 2020, equations 1 and 2, algorithm 1."""
    form: dict[str, Any] = {"temperature": 0.2, "queue": 8, "ema": 0.75, "symmetric": False, "head_dim": 4}
    objective: Any = ssl_cli.Objective.of("moco-v2", network(), 6, **form).double()
    optimiser = torch.optim.SGD([p for p in objective.parameters() if p.requires_grad], 0.1)
    for step in range(3):
        x = views(4, step)
        with torch.no_grad():
            q, k = unit(objective.online(x[0])), unit(objective.key(x[1]))
        queue = objective.queue.rows.tolist()
        slow = [p.clone() for p in objective.key.parameters()]
        loss, after_step = objective.contrast(x)
        terms = []
        for row, key in zip(q, k, strict=True):
            positive = math.exp(dot(row, key) / 0.2)
            terms.append(
                -math.log(positive / (positive + math.fsum(math.exp(dot(row, other) / 0.2) for other in queue)))
            )
        assert float(loss.detach()) == pytest.approx(math.fsum(terms) / 4, rel=1e-9)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        assert objective.queue.rows.tolist() == queue
        after_step()
        now = sorted(objective.queue.rows.tolist())
        assert all(any(row == pytest.approx(key, rel=1e-12) for row in now) for key in k)
        online = objective.online.parameters()
        for moved, old, fast in zip(objective.key.parameters(), slow, online, strict=True):
            torch.testing.assert_close(moved, 0.75 * old + 0.25 * fast.detach())


def test_a_memory_bank_is_by_the_place_of_an_image() -> None:
    objective: Any = ssl_cli.Objective.of("instdisc", network(), 6, images=20, head_dim=4, noise=0).double()
    places = torch.tensor([3, 17, 4])
    before = objective.bank.rows.clone()
    loss, after_step = objective.contrast(views(3)[:1], places)
    loss.backward()
    after_step()
    changed = (objective.bank.rows != before).any(1).nonzero()[:, 0].tolist()
    assert changed == [3, 4, 17]


def test_noise_is_drawn_anew_in_each_epoch() -> None:
    objective: Any = ssl_cli.Objective.of("instdisc", network(), 6, images=200, head_dim=4, noise=16).double()
    places = torch.arange(3)
    losses = [float(objective.contrast(views(3)[:1], places, epoch)[0].detach()) for epoch in (0, 1, 0)]
    assert losses[0] == losses[2] != losses[1]


def test_training_lowers_the_loss() -> None:
    objective: Any = ssl_cli.Objective.of("simclr", network().float(), 6)
    optimiser = torch.optim.SGD(objective.parameters(), 0.5)
    x = [view.float() for view in views(16)]
    x[1] = x[0] + 0.01 * x[1]
    losses = []
    for _ in range(30):
        loss, after_step = objective.contrast(x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        after_step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_what_is_not_given_comes_from_the_recipe_and_not_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSLCLI_METHOD__TEMPERATURE", "0.9")
    own: Any = ssl_cli.Objective.of("moco-v2", network(), 6).cfg
    paper: Any = ssl_cli.Objective.of("moco-v2", network(), 6, recipe="imagenet", queue=4).cfg
    assert (own.temperature, own.queue, own.ema) == (0.2, 1024, 0.99)
    assert (paper.queue, paper.ema) == (4, 0.999)


@pytest.mark.parametrize(
    ("method", "options", "said"),
    [
        ("simclrr", {}, "There is no method 'simclrr'"),
        ("simclr", {"temperatur": 1}, "There is no setting 'method.temperatur' (from the argument temperatur)"),
        ("simclr", {"temperature": -1}, "method.temperature = -1 (from the argument temperature) is refused"),
        ("instdisc", {}, "a row for each training image"),
        ("finetune", {}, "is a command of its own"),
    ],
)
def test_a_wrong_request_is_one_sentence(method: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        ssl_cli.Objective.of(method, network(), 6, **options)
    assert said in caught.value.message


def test_no_width_and_a_name_in_python_are_said_as_arguments() -> None:
    with pytest.raises(UsageError, match="features=0 is no width of h"):
        ssl_cli.Objective.of("simclr", network(), 0)
    with pytest.raises(UsageError, match=r"no method 'nope' \(from the argument method\)"):
        ssl_cli.Objective.of("nope", network(), 6)
    with pytest.raises(UsageError, match=r"'nope' \(from the argument recipe\)"):
        ssl_cli.Objective.of("simclr", network(), 6, recipe="nope")


def test_views_that_cannot_be_compared() -> None:
    objective: Any = ssl_cli.Objective.of("simclr", network(), 6)
    with pytest.raises(UsageError, match="2 views of one shape"):
        objective.contrast(views()[:1])
    with pytest.raises(UsageError, match="2 views of one shape"):
        objective.contrast([views()[0], views(4)[1]])
    with pytest.raises(UsageError, match="2 views of one shape"):
        objective.contrast([])
    bank = ssl_cli.Objective.of("instdisc", network(), 6, images=5)
    with pytest.raises(UsageError, match="a row for each image"):
        bank.contrast(views())
