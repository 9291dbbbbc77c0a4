"""Gray and many-channel images from the plan to a file that runs elsewhere, with what makes no sense left out."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.augment import AugmentSettings, NormalizeSettings
from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.plan.plan import describe
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.events import Evaluated, Event, Finished, Planned
from ssl_cli.exports.onnx import export_run
from ssl_cli.formats.request import INPUTS
from ssl_cli.nn.backbone import build_backbone
from ssl_cli.protocols.knn import knn_eval
from ssl_cli.sheet import augmentation_sheet
from tests.augment.pictures import batch, pictures
from tests.config.test_recipe import settings_of
from tests.selection import slow

Trained = Callable[[int], tuple[Settings, list[Event]]]
RECIPE = AugmentSettings(order=("crop", "gray", "jitter", "flip", "normalize"))


def images(folder: Path, channels: int) -> Path:
    """Two classes of arrays, dark and bright; for one channel as the files hold it, without an axis of channels."""
    draw = np.random.default_rng(0)
    for name, low in (("dark", 0), ("bright", 120)):
        (folder / name).mkdir(parents=True)
        for k in range(24):
            x = draw.integers(low, low + 130, (20, 18 + k % 3, channels), dtype=np.uint8)
            np.save(folder / name / f"{k:02}.npy", x[:, :, 0] if channels == 1 else x)
    return folder


def settings(tmp_path: Path, channels: int, **augment: Any) -> Settings:
    return Settings.model_validate(
        {
            "method": {"name": "moco-v2", "queue": 24},
            "model": {"width": 0.0625, "bn_group": 16},
            "data": {
                "source": str(images(tmp_path / "images", channels)),
                "size": 16,
                "channels": channels,
                "threads": 1,
            },
            "augment": {"order": RECIPE.order, **augment},
            "optim": {"lr": 0.05},
            "schedule": {"epochs": 1},
            "run": {"out": str(tmp_path / "run"), "batch": 16, "recipe": "cifar", "evaluate": False},
            "hardware": {"precision": "fp32", "memory_format": "channels_last", "device": "cpu"},
        }
    )


def result(events: Any, name: str) -> dict[str, Any]:
    (found,) = (event.result for event in events if isinstance(event, Evaluated) and event.name == name)
    return dict(found)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run on images of as many channels, and its events."""

    @functools.cache
    def run(channels: int) -> tuple[Settings, list[Event]]:
        chosen = settings(tmp_path_factory.mktemp("run"), channels)
        return chosen, list(pretrain(chosen, origins={}, resume=False, overwrite=False))

    return run


@pytest.mark.parametrize("channels", [6, *slow(1)])
def test_a_run_says_what_it_leaves_out_and_is_evaluated(trained: Trained, tmp_path: Path, channels: int) -> None:
    chosen, events = trained(channels)
    (planned,) = (event for event in events if isinstance(event, Planned))
    (choice,) = (choice for choice in planned.choices if choice.name == "channels")
    assert choice.value == str(channels)
    assert choice.reason == (
        "left out: gray (there are no colours), normalize (its mean and std are of 3 channels), "
        "jitter's saturation and hue"
    )
    assert isinstance(events[-1], Finished)
    knn = result(knn_eval(str(chosen.run.out), ks=(5,), baselines=True), "knn")
    assert 0 <= knn["top1"] <= 1
    list(augmentation_sheet(chosen, tmp_path / "sheet.png", 2, 3))
    assert (tmp_path / "sheet.png").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("channels", [1, 6])
def test_the_file_takes_as_many_channels(trained: Trained, tmp_path: Path, channels: int, kind: str) -> None:
    chosen, _ = trained(channels)
    path = tmp_path / f"{kind}.onnx"
    export = result(export_run(str(chosen.run.out), path, input_kind=kind), "export")
    assert export["real_images"] == 8
    assert export["preprocessing"]["mean"] is None
    order = "gray" if channels == 1 else None  # as in the files
    assert (export["preprocessing"]["channels"], export["preprocessing"]["channel_order"]) == (channels, order)
    session = onnxruntime.InferenceSession(path)
    shape, dtype = ((2, channels, 16, 16), np.float32) if kind == "float-nchw" else ((2, 20, 30, channels), np.uint8)
    (h,) = session.run(None, {"image": np.ones(shape, dtype)})
    assert h.shape == (2, 32)


def test_numbers_for_each_channel_are_used(tmp_path: Path) -> None:
    mean, std = (0.1, 0.2, 0.3, 0.4), (1.0, 2.0, 1.0, 2.0)
    chosen = settings(tmp_path, 4, normalize={"mean": mean, "std": std})
    assert chosen.views.order == ("crop", "jitter", "flip", "normalize")
    images = batch(pictures(5, 16, 16, channels=4))
    plain = chosen.augment.model_copy(update={"order": ("crop", "jitter", "flip")})
    x, y = (Pipeline(given, 16, seed=0)(images)[0] for given in (plain, chosen.views))
    wanted = (x - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    torch.testing.assert_close(y, wanted)


def test_colour_images_are_as_before() -> None:
    assert RECIPE.suited(3) is RECIPE
    assert RECIPE.unsuited(3) == {}
    assert not [c for c in describe(*_described("moco-v2", 3)) if c.name == "channels"]


def test_the_second_order_loses_them_too() -> None:
    both = AugmentSettings(order=("crop", "normalize"), second=("crop", "gray", "normalize"))
    assert both.suited(2).order == ("crop",)
    assert both.suited(2).second == ("crop",)
    assert AugmentSettings(second=None).suited(1).second is None


def test_as_many_means_as_deviations() -> None:
    with pytest.raises(ValueError, match="one per channel"):
        NormalizeSettings(mean=(0.5,))


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:vit_b_16"])
def test_library_backbones_take_them_too(name: str) -> None:
    model = settings_of("simclr", "imagenet").model.model_copy(
        update={"backbone": name, "width": 1.0, "stem": "auto", "zero_init": False}
    )
    net, features = build_backbone(model, 32, channels=5)
    assert net.eval()(torch.rand(2, 5, 32, 32)).shape == (2, features)


def _described(method: str, channels: int) -> tuple[Settings, Any, int, str]:
    chosen = settings_of(method, "cifar", ["model.width=0.0625", f"data.channels={channels}"])
    return chosen, build_objective(chosen, torch.device("cpu"), 1000), 1000, "here"
