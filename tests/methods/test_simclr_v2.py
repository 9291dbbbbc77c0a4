"""SimCLR v2: its memory against a plain implementation, and without one against SimCLR."""

import copy
import math
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from ssl_cli.config.methods import SimCLRSettings, SimCLRv2Settings
from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.losses.row_softmax import row_softmax
from ssl_cli.methods.simclr import SimCLR
from ssl_cli.methods.simclr_v2 import SimCLRv2
from ssl_cli.nn.resnet import resnet18
from ssl_cli.objective import Batch, Objective, Targets

Form = Literal["all", "past"]
FORMS: list[Form] = ["all", "past"]
IMAGES = 3
RATE, EMA, ROWS, TEMPERATURE = 0.5, 0.9, 10, 0.2


def build(**settings: object) -> SimCLRv2:
    torch.manual_seed(0)
    cfg = {"memory": ROWS, "head_batchnorm": True, "head_dim": 16, **settings}
    return SimCLRv2(resnet18(0.25, "cifar"), 128, SimCLRv2Settings.model_validate(cfg)).double()


def make(images: int = 4, seed: int = 0) -> tuple[Batch, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    batch = Batch([], torch.full((images,), -1), torch.arange(images), step=seed)
    return batch, list(torch.rand(2, images, 3, 16, 16, dtype=torch.float64, generator=generator))


def targets_of(objective: Objective, views: list[Tensor], batch: Batch) -> Targets:
    with torch.no_grad():
        return objective.targets(views, batch)


def step(objective: Objective, batch: Batch, views: list[Tensor]) -> float:
    """What the engine does in a step, with plain gradient descent."""
    targets = targets_of(objective, views, batch)
    z = objective(torch.cat(views))
    loss = objective.loss(z, targets, batch)
    trained = [p for p in objective.parameters() if p.requires_grad]
    with torch.no_grad():
        for p, slope in zip(trained, torch.autograd.grad(loss, trained), strict=True):
            p.sub_(slope, alpha=RATE)
    objective.after_step(z.detach(), targets, batch, 0.5)
    return float(loss.detach())


# The plain implementation: four linear layers, lists of rows, and the paper's sentences one after the other.


def plain_embedding(weights: list[Tensor], x: Tensor) -> Tensor:
    h = x.flatten(1) @ weights[0].T + weights[1]
    a = (h @ weights[2].T + weights[3]).clamp(min=0)
    a = (a @ weights[4].T + weights[5]).clamp(min=0)
    z = a @ weights[6].T + weights[7]
    return z / z.square().sum(1, keepdim=True).sqrt()


def plain_loss(z: Tensor, batch: list[Tensor], memory: list[Tensor]) -> Tensor:
    """`batch`: in z's order, z itself or its keys."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(z)):
        candidates = [z[i] @ batch[j] for j in range(len(z)) if j != i] + [z[i] @ row for row in memory]
        positive = z[i] @ batch[(i + len(z) // 2) % len(z)]
        total = total - torch.log((positive / TEMPERATURE).exp() / (torch.stack(candidates) / TEMPERATURE).exp().sum())
    return total / len(z)


class Plain:
    def __init__(self, weights: list[Tensor], memory: Tensor, form: Form) -> None:
        self.form = form
        self.weights = [w.clone().requires_grad_() for w in weights]
        self.slow = [w.clone() for w in weights]
        self.memory = [row.clone() for row in memory]
        self.oldest = 0

    def step(self, views: list[Tensor]) -> float:
        keys = [row for view in views for row in plain_embedding(self.slow, view)]
        z = plain_embedding(self.weights, torch.cat(views))
        loss = plain_loss(z, keys if self.form == "all" else list(z), self.memory)
        slopes = torch.autograd.grad(loss, self.weights)
        self.weights = [(w - RATE * g).detach().requires_grad_() for w, g in zip(self.weights, slopes, strict=True)]
        for key in keys:
            self.memory[self.oldest] = key
            self.oldest = (self.oldest + 1) % len(self.memory)
        self.slow = [EMA * s + (1 - EMA) * w.detach() for s, w in zip(self.slow, self.weights, strict=True)]
        return float(loss.detach())


class EnqueuesFirst(SimCLRv2):
    """The trap: a row meets its own key and its positive's as negatives."""

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        assert self.queue is not None
        assert targets is not None
        self.queue.push(targets.transpose(0, 1).flatten(0, 1))
        return super().loss(z, targets, batch)

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        assert self.queue is not None
        self.queue.cursor.sub_(2 * len(batch))  # so that the contents stay right and the loss alone is wrong
        super().after_step(z, targets, batch, progress)


class FollowsFirst(SimCLRv2):
    """Another: the momentum encoder has moved before the keys are made."""

    def targets(self, views: list[Tensor], batch: Batch) -> Targets:  # type: ignore[override]
        assert self.key is not None
        with torch.no_grad():
            for slow, fast in zip(self.key.parameters(), self.online.parameters(), strict=True):
                slow.lerp_(fast, 1 - EMA)
        return super().targets(views, batch)


class KeepsOneView(SimCLRv2):
    """And another: only the first view's keys are kept."""

    @torch.no_grad()
    def after_step(self, z: Tensor, targets: Targets, batch: Batch, progress: float) -> None:
        assert targets is not None
        super().after_step(z, targets[:, :1], batch, progress)


class MeetsItsOwnKey(SimCLRv2):
    """In the form "all": the row's own key is a candidate too."""

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        positive = torch.arange(len(z)).roll(len(batch))
        return row_softmax(z, self.candidates(z, targets), positive, self.cfg.temperature)


class FindsItsOwnKey(SimCLRv2):
    """Also there: keys in the wrong order, so that a view finds its own key and not the other's."""

    def loss(self, z: Tensor, targets: Targets, batch: Batch) -> Tensor:
        assert targets is not None
        return super().loss(z, targets.flip(1), batch)


class Crossed(SimCLRv2):
    """Asked for one form, it takes the other."""

    @property
    def against_keys(self) -> bool:
        return not super().against_keys


def run_beside_the_plain_one(kind: type[SimCLRv2], form: Form) -> None:
    """Three steps of six keys into ten rows, so the memory wraps; each step's loss, and all state after it."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 6))
    cfg = SimCLRv2Settings(memory=ROWS, ema=EMA, temperature=TEMPERATURE, head_hidden=7, head_dim=5, memory_keys=form)
    ours = kind(backbone, 6, cfg).double()
    assert ours.key is not None
    assert ours.queue is not None
    plain = Plain([p.detach() for p in ours.online.parameters()], ours.queue.rows, form)
    generator = torch.Generator().manual_seed(1)
    for number in range(3):
        views = list(torch.rand(2, IMAGES, 3, 4, 4, dtype=torch.float64, generator=generator))
        batch = Batch([], torch.full((IMAGES,), -1), torch.arange(IMAGES), step=number)
        assert step(ours, batch, views) == pytest.approx(plain.step(views), abs=1e-12)
        torch.testing.assert_close(ours.queue.rows, torch.stack(plain.memory), atol=1e-12, rtol=0)
        assert int(ours.queue.cursor) == plain.oldest
        for found, expected in zip(ours.key.parameters(), plain.slow, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
        for found, expected in zip(ours.online.parameters(), plain.weights, strict=True):
            torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_three_steps_equal_the_plain_implementation(form: Form) -> None:
    run_beside_the_plain_one(SimCLRv2, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("trap", [EnqueuesFirst, FollowsFirst, KeepsOneView])
def test_traps_are_seen(trap: type[SimCLRv2], form: Form) -> None:
    with pytest.raises(AssertionError):
        run_beside_the_plain_one(trap, form)


@pytest.mark.parametrize("trap", [MeetsItsOwnKey, FindsItsOwnKey])
def test_traps_among_the_keys_of_the_batch_are_seen(trap: type[SimCLRv2]) -> None:
    with pytest.raises(AssertionError):
        run_beside_the_plain_one(trap, "all")


def test_the_forms_differ_and_the_author_s_is_the_default() -> None:
    assert build().cfg.memory_keys == "all"
    with pytest.raises(AssertionError):
        run_beside_the_plain_one(Crossed, "all")


def test_without_a_memory_it_is_simclr_to_the_last_bit() -> None:
    ours = build(memory=0)
    torch.manual_seed(0)
    cfg = SimCLRSettings(head_layers=3, head_batchnorm=True, head_dim=16)
    theirs = SimCLR(resnet18(0.25, "cifar"), 128, cfg).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for number in range(2):
        batch, views = make(seed=number)
        assert step(ours, batch, views) == step(theirs, batch, views)
        for (name, found), expected in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
            assert torch.equal(found, expected), name
    z = theirs(torch.cat(views)).detach()
    assert ours.observe(z, None, batch) == theirs.observe(z, None, batch)
    assert ours.chance(4) == theirs.chance(4)


def test_without_a_memory_nothing_is_asked_and_nothing_kept() -> None:
    ours = build(memory=0)
    batch, views = make()
    assert not ours.has_targets
    assert ours.key_views == 0
    assert targets_of(ours, views, batch) is None
    assert not any(name.startswith(("key.", "queue.")) for name in ours.state_dict())
    assert build().has_targets
    assert build().key_views == 2


def test_keys_are_the_momentum_encoder_s_of_both_views() -> None:
    ours = build()
    assert ours.key is not None
    with torch.no_grad():
        for p in ours.online.parameters():
            p.add_(torch.rand_like(p))
    batch, views = make()
    keys = targets_of(ours, views, batch)
    assert keys is not None
    expected = torch.stack([nn.functional.normalize(ours.key(view), dim=1) for view in views], dim=1)
    torch.testing.assert_close(keys, expected)
    assert not torch.allclose(keys[:, 0], ours(views[0]), atol=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_reaches_the_online_encoder_alone(form: Form) -> None:
    ours = build(memory_keys=form)
    assert ours.key is not None
    assert ours.queue is not None
    batch, views = make()
    keys = targets_of(ours, views, batch)
    assert keys is not None
    keys.requires_grad_()
    ours.loss(ours(torch.cat(views)), keys, batch).backward()  # type: ignore[no-untyped-call]
    assert keys.grad is None
    assert not ours.queue.rows.requires_grad
    assert all(p.grad is None and not p.requires_grad for p in ours.key.parameters())
    assert all(p.grad is not None and bool(p.grad.any()) for p in ours.online.parameters())


@pytest.mark.parametrize("form", FORMS)
def test_only_after_step_moves_state(form: Form) -> None:
    ours = build(memory_keys=form)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    batch, views = make()
    keys = targets_of(ours, views, batch)
    z = ours(torch.cat(views))
    ours.loss(z, keys, batch).backward()  # type: ignore[no-untyped-call]
    ours.observe(z.detach(), keys, batch)
    ours.chance(4)
    assert all(torch.equal(before[name], value) for name, value in ours.state_dict().items())
    ours.after_step(z.detach(), keys, batch, 0.5)
    moved = {name for name, value in ours.state_dict().items() if not torch.equal(before[name], value)}
    assert {"queue.rows", "queue.cursor"} == moved  # no optimiser has moved what the momentum encoder follows


@pytest.mark.parametrize("form", FORMS)
def test_all_state_is_in_the_checkpoint(form: Form) -> None:
    """Save, load into a fresh objective, take the next step: equal to the last bit."""
    ours, theirs = build(memory_keys=form), build(memory_keys=form)
    for number in range(2):
        step(ours, *make(seed=number))
    assert {"queue.rows", "queue.cursor", "key.0.conv1.weight", "key.1.0.weight"} <= set(ours.state_dict())
    assert not any(name.startswith(("online.", "memory")) for name in ours.state_dict())
    theirs.load_state_dict(copy.deepcopy(ours.state_dict()))
    assert step(ours, *make(seed=2)) == step(theirs, *make(seed=2))
    for name, value in ours.state_dict().items():
        assert torch.equal(theirs.state_dict()[name], value), name


@pytest.mark.parametrize("form", FORMS)
def test_where_the_networks_are_still_one_the_forms_are_one(form: Form) -> None:
    """In evaluation mode and before the first step keys are z itself: the loss is NT-Xent's of either form."""
    ours = build(temperature=TEMPERATURE, memory_keys=form).eval()
    batch, views = make()
    keys, z = targets_of(ours, views, batch), ours(torch.cat(views)).detach()
    torch.testing.assert_close(ours.loss(z, keys, batch), nt_xent(z, TEMPERATURE, ours.memory))
    assert float(ours.loss(z, keys, batch)) > float(nt_xent(z, TEMPERATURE))


def test_only_rows_of_the_form_past_are_drawn_to_one_another() -> None:
    """With "all" a row's gradient does not know the other rows."""
    batch, views = make()
    for form, alone in (("all", True), ("past", False)):
        ours = build(memory_keys=form)
        keys, z = targets_of(ours, views, batch), ours(torch.cat(views)).detach()
        moved = torch.cat([z[:1], z[1:].roll(1, 0)]).requires_grad_()
        one, other = (torch.autograd.grad(ours.loss(x, keys, batch), x)[0][0] for x in (z.requires_grad_(), moved))
        assert torch.allclose(one, other, atol=1e-12) == alone


@pytest.mark.parametrize("form", FORMS)
def test_negatives_and_chance_count_the_memory(form: Form) -> None:
    ours = build(memory_keys=form)
    assert ours.negatives(4) == 2 * 3 + ROWS
    assert ours.chance(4) == pytest.approx(math.log(2 * 3 + ROWS + 1))
    assert build(memory=0, memory_keys=form).negatives(4) == 6
    same = nn.functional.normalize(torch.ones(8, 16, dtype=torch.float64), dim=1)
    assert ours.queue is not None
    ours.queue.rows.copy_(same[:1])
    batch, _ = make()
    assert float(ours.loss(same, same.view(4, 2, 16), batch)) == pytest.approx(ours.chance(4))


@pytest.mark.parametrize("form", FORMS)
def test_an_anchor_is_right_only_if_no_row_of_the_memory_is_nearer(form: Form) -> None:
    ours = build(head_dim=20, memory_keys=form)
    assert ours.queue is not None
    batch, _ = make()
    axes = torch.eye(20, dtype=torch.float64)
    views = nn.functional.normalize(torch.stack([axes[:4], axes[:4] + 0.1 * axes[4:8]]), dim=2)
    z, keys = views.flatten(0, 1), views.transpose(0, 1)
    ours.queue.rows.copy_(axes[10:])
    assert float(ours.observe(z, keys, batch)["top1"]) == 1
    ours.queue.rows[3] = axes[2]
    assert float(ours.observe(z, keys, batch)["top1"]) == 0.75


def test_what_is_observed_is_what_the_loss_compares() -> None:
    """Keys of which two are exchanged: seen with "all", nothing to "past"."""
    batch, _ = make()
    axes = torch.eye(20, dtype=torch.float64)
    z, keys = axes[:4].repeat(2, 1), axes[[0, 1, 3, 2]][:, None].repeat(1, 2, 1)
    for form, top1, alignment in (("all", 0.5, 1.0), ("past", 1.0, 0.0)):
        ours = build(head_dim=20, memory_keys=form)
        assert ours.queue is not None
        ours.queue.rows.copy_(axes[10:])
        seen = ours.observe(z, keys, batch)
        assert (float(seen["top1"]), float(seen["alignment"])) == (top1, alignment)


def test_the_head_has_three_layers_and_can_be_cut_after_the_first() -> None:
    head = list(build(head_hidden=32).projector.children())
    kinds = ["Linear", "BatchNorm1d", "ReLU"]
    assert [type(m).__name__ for m in head] == [*kinds, *kinds, "Linear", "BatchNorm1d"]
    assert build(head_hidden=32).projector[:3](torch.rand(4, 128, dtype=torch.float64)).shape == (4, 32)
