"""What is timed and the plain code next to it must do the same work, or their ratio means nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2 as tv

from ssl_cli.bench import parts
from ssl_cli.bench.advice import NETWORK, READING, UPDATE
from ssl_cli.bench.parts import Traffic, dense_loss, plain_step, torchvision_chain
from ssl_cli.bench.run import Run
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.objective import Objective
from ssl_cli.optim.build import build_optimiser
from ssl_cli.registry import OPS
from tests.bench_parts.toy import quick, run

CACHED: dict[str, dict[str, Any]] = {"hardware": {"mode": "cached", "micro_batch": 8}, "model": {"bn_group": 4}}


@pytest.fixture(scope="module")
def simclr() -> Run:
    """A run whose parts are looked at, not trained."""
    return run()


@pytest.mark.parametrize(("method", "own"), [("simclr", {}), ("moco-v2", {"queue": 16})])
def test_the_plain_loop_takes_the_same_step(method: str, own: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    this = run(method={"name": method, **own}, optim={"lr": 0.01})
    before = this.objective.backbone.get_parameter("conv1.weight").clone()
    made: list[tuple[Objective, torch.optim.Optimizer]] = []

    def remembered(net: Objective, *rest: Any) -> torch.optim.Optimizer:
        made.append((net, build_optimiser(net, *rest)))
        return made[0][1]

    monkeypatch.setattr(parts, "build_optimiser", remembered)
    plain = plain_step(this, 8)
    ((net, optimiser),) = made
    assert not {type(part).__module__ for part in net.modules()} & {"ssl_cli.nn.batchnorm"}
    this.step()
    for group in optimiser.param_groups:
        group["lr"] = this.trainer.lr(0)
    plain()
    ours, theirs = this.objective.state_dict(), net.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        if "num_batches" not in name and "running" not in name:  # the keys' statistics are those of their own network
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4, msg=name)
    assert (ours["backbone.conv1.weight"] - before).abs().max() > 1e-3


def test_a_gradient_leaves_the_weights_and_a_step_moves_them(simclr: Run) -> None:
    this = simclr
    weight = next(this.objective.parameters())
    before = weight.clone()
    this.gradient()
    assert torch.equal(weight, before)
    this.step()
    assert not torch.equal(weight, before)


def test_a_step_has_its_bounds_and_more_memory_is_advised_where_rows_are_recomputed(
    simclr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    whole, cached = simclr, run(**CACHED)
    once, twice = parts.step(whole), parts.step(cached)
    assert set(once.bounds["step"]) == {"matrix fp32", "memory"}
    work = [
        r.machine.matrix("fp32") / part.bounds["step"]["matrix fp32"] for r, part in ((whole, once), (cached, twice))
    ]
    assert 1.3 < work[1] / work[0] < 1.45  # the forward pass is computed twice: about 4 units of work for 3
    traffic = [r.machine.memory() / part.bounds["step"]["memory"] for r, part in ((whole, once), (cached, twice))]
    assert traffic[1] > traffic[0]
    times = {"step": 0.5, "gradient": 0.375}
    assert once.seconds(times) == {NETWORK: 0.375, UPDATE: 0.125}
    assert once.seconds({"step": 0.5}) == {NETWORK: 0.5, UPDATE: 0.0}  # no time was left for the gradient alone
    assert once.options(times) == []
    assert twice.options(times) == [("a larger --memory", NETWORK, 0.75, "estimate")]


@pytest.mark.parametrize(("method", "own"), [("simclr", {}), ("simclr-v2", {"memory": 16, "memory_keys": "past"})])
def test_the_dense_loss_is_the_same_loss_or_absent(
    method: str, own: dict[str, Any], simclr: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    this = simclr if method == "simclr" else run(method={"name": method, **own})
    part, dense = parts.loss(this), dense_loss(this.objective)
    assert (dense is not None) == (method == "simclr") == (part.plain is not None)
    if dense is None:
        return
    _, value, z = this.gradient()
    torch.testing.assert_close(dense(z), value)
    # the dense matrix of 16 rows, once forward and twice backward
    work = this.machine.matrix("fp32") / part.bounds["loss"]["matrix fp32"]
    assert work == pytest.approx(3 * 2 * 16 * 16 * z.shape[1] / 8)


def test_the_plain_vote_is_the_same_vote(simclr: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    part = parts.neighbours(simclr)
    assert part.plain is not None
    ours, theirs = part.calls["knn"].call().scores, part.plain.call()  # type: ignore[attr-defined]
    assert isinstance(theirs, Tensor)
    torch.testing.assert_close(ours / ours.sum(1, keepdim=True), theirs / theirs.sum(1, keepdim=True))


def test_torchvision_s_chain_has_the_usual_operations_in_the_order_and_strength_of_ours() -> None:
    order = ("crop", *(name for name in OPS if name not in ("crop", "normalize")), "normalize")
    chain, lacking = torchvision_chain(AugmentSettings(order=order), 16)
    assert lacking == ["rotate", "cutout", "solarize", "noise", "sobel"]
    view = chain(torch.randint(0, 256, (3, 20, 24), dtype=torch.uint8))
    assert (view.shape, view.dtype) == ((3, 16, 16), torch.float32)
    own = {"jitter": {"strength": 0.5, "hue": 0.2}, "blur": {"kernel": 0.1, "sigma": (0.1, 2.0)}}
    settings = AugmentSettings.model_validate({**own, "crop": {"scale": (0.2, 1)}})
    chain = torchvision_chain(settings, 224)[0]
    assert isinstance(chain, tv.Compose)
    crop, _, jitter, _, blur, _ = chain.transforms
    assert crop.scale == (0.2, 1)
    assert jitter.transforms[0].hue == (-0.1, 0.1)
    assert blur.transforms[0].kernel_size == (23, 23)


def test_views_are_bounded_by_all_bytes_of_an_image(simclr: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    part = parts.augment(simclr)
    # two views: each reads 3 x 16 x 16 bytes, and writes as many float32 numbers
    assert part.bounds["augment"]["memory"] == pytest.approx(simclr.machine.memory() / (2 * (768 + 4 * 768)))
    assert part.against == "torchvision v2, image by image"
    assert part.plain is not None
    views = part.plain.call()
    assert isinstance(views, list)
    assert len(views) == 2 * part.plain.work


def test_files_are_read_with_and_without_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    for i in range(12):
        Image.new("RGB", (40, 30), (i, 2 * i, 3 * i)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "00.png").write_bytes(b"broken")
    this = run(data={"source": str(tmp_path), "size": 16, "cache": "none"})
    part = parts.loader(this)
    assert set(part.bounds["loader"]) == {"decode"}
    assert this.machine.found[0].name == "decode, 1 thread"
    assert part.plain is not None
    assert (part.plain.work, part.plain.call()) == (8, [3 * 30 * 40] * 8)
    for arm in part.calls.values():
        arm.call()
    times = {"loader": 0.01, "cached": 0.001}
    assert part.seconds(times) == {READING: 0.01}  # data.cache=none
    (option,) = part.options(times)
    assert option[:2] == ("--set data.cache=ram", READING)
    assert option[2] == pytest.approx(0.1)


def test_images_that_are_not_files_have_no_plain_reader(simclr: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    part = parts.loader(simclr)
    assert (part.plain, part.bounds["loader"]) == (None, {})
    assert part.seconds({"loader": 0.01, "cached": 0.001}) == {READING: 0.001}  # all fit the RAM
    assert part.seconds({"loader": 0.01}) == {READING: 0.01}
    assert part.options({"loader": 0.01, "cached": 0.001}) == []


def moved(call: Callable[[], object]) -> int:
    """Bytes that a call reads and writes."""
    with Traffic() as traffic:  # type: ignore[no-untyped-call]
        call()
    return int(traffic.bytes)


def test_bytes_are_those_read_and_written() -> None:
    x, y = torch.rand(10, 20), torch.rand(10, 20)
    assert moved(lambda: x + y) == 3 * 800
    assert moved(lambda: (x.view(20, 10).t()[3:].detach(), torch.empty(1000))) == 0
    assert moved(lambda: x.add_(torch.ones(()).expand(10, 20))) <= 2 * 800 + 2 * 4 + 4  # one number, read often
    # read for its statistics, read, written
    assert moved(lambda: torch.native_batch_norm(x, None, None, None, None, True, 0.0, 1e-5)) == 3 * 800 + 2 * 80
