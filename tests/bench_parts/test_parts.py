"""A fast path and the plain one beside it must do the same work, or their ratio means nothing."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2 as tv

from ssl_cli.augment.sheet import png
from ssl_cli.bench import augment, knn, loader, loss, step
from ssl_cli.bench.advice import LOSS, PASSES, READING, UPDATE
from ssl_cli.bench.timing import Rates
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.engine.plan import memory
from ssl_cli.registry import OPS
from ssl_cli.transfer.knn import knn as neighbours
from tests.bench_parts.toy import quick, subject

PLAIN: dict[str, dict[str, Any]] = {
    "simclr": {},
    "simclr-v2": {"memory": 16, "memory_keys": "past"},
    "moco-v2": {"queue": 16},
    "moco-v1": {"queue": 16, "symmetric": True},
}


@pytest.mark.parametrize("method", PLAIN)
def test_the_dense_loss_is_the_same_loss(method: str) -> None:
    with subject(method={"name": method, **PLAIN[method]}) as run:
        targets, value, z = run.outcome
        plain = loss.dense(run.objective)
        assert plain is not None
        torch.testing.assert_close(plain[1](z, targets), value)


@pytest.mark.parametrize(
    ("method", "own"), [("instdisc", {}), ("invaspread", {}), ("simclr-v2", {"memory": 16, "memory_keys": "all"})]
)
def test_of_other_losses_none_is_called_plain(
    method: str, own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    with subject(method={"name": method, **own}) as run:
        assert loss.dense(run.objective) is None
        (found,) = loss.loss(run).measured
        assert (found.reference, found.against) == (None, "")
        assert found.rate > 0


@pytest.mark.parametrize(("method", "own"), [("simclr", {}), ("moco-v2", {"queue": 16})])
def test_the_plain_loop_takes_the_same_step(method: str, own: dict[str, Any]) -> None:
    with subject(method={"name": method, **own}, optim={"lr": 0.01}) as run:
        plain, before = step.PlainLoop(run), run.objective.backbone.get_parameter("conv1.weight").clone()
        assert plain.images == 8
        assert not {type(part).__module__ for part in plain.net.modules()} & {"ssl_cli.nn.batchnorm"}
        run.step()
        for group in plain.optimiser.param_groups:
            group["lr"] = run.job.lr(0)
        plain.step()
        ours, theirs = run.objective.state_dict(), plain.net.state_dict()
        assert ours.keys() == theirs.keys()
        for name in ours:
            if "num_batches" not in name and "running" not in name:  # keys' statistics are those of their own network
                torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-4, msg=name)
        assert (ours["backbone.conv1.weight"] - before).abs().max() > 1e-3


def test_a_step_that_is_measured_moves_the_weights_and_a_gradient_does_not() -> None:
    with subject() as run:
        weight = next(run.objective.parameters())
        before = weight.clone()
        run.gradient()
        assert torch.equal(weight, before)
        assert weight.grad is None
        run.step()
        assert not torch.equal(weight, before)


def test_a_step_is_told_with_its_bounds_and_other_arithmetic_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    with subject() as run:
        part = step.step(run)
        (found,) = part.measured
        assert set(found.bounds) == {"matrix fp32", "memory"}
        assert found.reference is not None
        assert part.seconds[PASSES] > 0 <= part.seconds[UPDATE]
        assert [option.setting for option in part.options] == [
            "--precision bf16",
            "--set hardware.memory_format=contiguous",
        ]
        assert all(option.factor > 0 for option in part.options)
        weight = run.objective.backbone.get_submodule("conv1").weight
        assert isinstance(weight, Tensor)
        assert weight.is_contiguous(memory_format=torch.channels_last)  # left as it was


def test_rows_that_pass_twice_are_counted_and_room_for_them_is_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    cached = {"hardware": {"mode": "cached", "micro_batch": 8, "device": "cpu", "precision": "fp32"}}
    with subject(model={"bn_group": 4, "width": 0.0625}, **cached) as run:
        assert run.again == 1.0
        part = step.step(run)
        (option,) = [option for option in part.options if option.setting.startswith("--memory")]
        assert 0.4 < option.factor < 0.9
        twice = part.measured[0].bounds["matrix fp32"]
    with subject() as run:
        assert run.again == 0.0
        assert run.ceilings.matrix("fp32")
        once = step._bounds(run)["matrix fp32"] / run.ceilings.matrix("fp32")
    assert twice > 0 < once
    with subject(model={"bn_group": 4, "width": 0.0625}, **cached) as run:
        monkeypatch.setattr(memory, "available", lambda: 0)
        monkeypatch.setattr(memory, "resident", lambda: 0)
        assert not step._memory(run)  # there is no such room


def test_the_plain_vote_is_the_same_vote() -> None:
    generator = torch.Generator().manual_seed(1)
    bank, queries = torch.randn(50, 8, generator=generator), torch.randn(9, 8, generator=generator)
    label = torch.arange(50) % 10
    ours = neighbours(bank, label, queries, classes=10, k=knn.K).scores
    theirs = knn.plainly(bank, label, queries, 10)
    torch.testing.assert_close(ours / ours.sum(1, keepdim=True), theirs / theirs.sum(1, keepdim=True))


def test_torchvision_s_chain_has_every_operation_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(augment.OPS) == set(OPS) - {"sobel"}
    order = ("crop", *(name for name in OPS if name not in ("crop", "normalize")), "normalize")
    chains, missing = augment.torchvisions(AugmentSettings(order=order), 16, 2)
    assert missing == ("sobel",)
    assert len(chains) == 2
    image = torch.randint(0, 256, (3, 20, 24), dtype=torch.uint8)
    for _ in range(8):
        view = chains[0](image)
        assert (view.shape, view.dtype) == ((3, 16, 16), torch.float32)
    first, second = augment.torchvisions(AugmentSettings(order=("crop", "gray"), second=("crop",)), 16, 2)[0]
    names = [[type(op).__name__ for op in chain.transforms] for chain in (first, second)]  # type: ignore[attr-defined]
    assert names == [["RandomResizedCrop", "RandomGrayscale", "ToDtype"], ["RandomResizedCrop", "ToDtype"]]


def test_torchvision_s_numbers_are_those_of_the_settings() -> None:
    own = AugmentSettings.model_validate(
        {
            "jitter": {"strength": 0.5, "hue": 0.2},
            "blur": {"kernel": 0.1, "sigma": (0.1, 2.0)},
            "crop": {"scale": (0.2, 1)},
        }
    )
    chain = augment.torchvisions(own, 224, 1)[0][0]
    assert isinstance(chain, tv.Compose)
    crop, _, jitter, _, blur, _ = chain.transforms
    assert crop.scale == (0.2, 1)
    assert jitter.transforms[0].hue == (-0.1, 0.1)
    assert blur.transforms[0].kernel_size == (23, 23)


def test_views_are_measured_with_all_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    with subject() as run:
        (found,) = augment.augment(run).measured
        # two views: each reads 3 x 16 x 16 bytes, and writes as many float32 numbers
        assert found.bounds["memory"] == pytest.approx(run.ceilings.memory() / (2 * (768 + 4 * 768)))
        assert found.against == "torchvision v2, image by image"


def test_images_without_files_are_written_for_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    with subject() as run:
        part = loader.loader(run)
    assert [found.name for found in part.measured] == ["loader", "cached"]
    assert all(found.reference and found.rate > 0 for found in part.measured)
    assert part.notes == ("shapes:train has no files; the loader read 32 of its images as JPEG files",)
    assert next(found.name for found in run.ceilings.fresh) == "decode, 1 thread"
    assert part.options == ()  # drawn images need no threads, and these fit the memory


def test_where_workers_cannot_run_there_is_no_plain_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)

    class Starved:
        def __iter__(self) -> None:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error.")

    monkeypatch.setattr(loader, "_plain", lambda *_: nullcontext(Starved()))
    with subject() as run:
        part = loader.loader(run)
    assert [found.reference for found in part.measured] == [None, None]
    assert part.notes[0].startswith("a DataLoader's workers cannot run here: DataLoader worker (pid 7)")


def test_a_plain_step_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)

    def step_(self: step.PlainLoop) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 43 GiB")

    monkeypatch.setattr(step.PlainLoop, "step", step_)
    with subject() as run:
        (found,) = step.step(run).measured
    assert (found.reference, found.against) == (None, "")


def test_a_folder_is_read_as_it_is_broken_files_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    for i in range(40):
        (tmp_path / f"{i:02}.png").write_bytes(png(torch.randint(0, 256, (3, 40, 30), dtype=torch.uint8)))
    (tmp_path / "00.png").write_bytes(b"broken")
    with subject(data={"source": str(tmp_path), "size": 16, "threads": 1, "cache": "none"}) as run:
        files, made = loader._files(run, 28, tmp_path)
        assert not made
        assert str(tmp_path / "00.png") not in files.paths
        assert len(files.paths) == 62  # few files are read again
        rates = {"files": Rates((100.0,) * 5), "memory": Rates((1000.0,) * 5)}
        seconds, options = loader._reading(run, rates, {1: 50.0, 2: 40.0, 4: 200.0}, made, 3 * 28 * 28)
    assert seconds == {READING: pytest.approx(0.01)}
    assert [option.setting for option in options] == ["--set data.cache=ram", "--threads 2", "--threads 4"]
    # of four epochs three come from memory; four threads were measured to be four times as fast, two to be slower
    assert [option.factor for option in options] == pytest.approx([(0.01 + 3 * 0.001) / 4 / 0.01, 1.25, 0.25])


def test_loss_and_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    with subject() as run:
        part = loss.loss(run)
        assert part.seconds[LOSS] == pytest.approx(1 / part.measured[0].rate)
        # the dense matrix of 16 rows of 128, once forward and twice backward
        assert part.measured[0].bounds["matrix fp32"] == pytest.approx(
            run.ceilings.matrix("fp32") / (3 * 2 * 16 * 16 * run.outcome[2].shape[1] / 8)
        )
