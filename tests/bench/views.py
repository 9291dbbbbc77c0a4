"""Augmentation's speed: `python -m tests.bench.views [--threads N] [--photos FOLDER]`.

Two SimCLR views of each image, by the batch here and image by image in torchvision.transforms.v2, from the same decoded
images, in turns within one run; before that both are given the same parameters, and their pixels must agree. Then the
time of each operation, and the share of the SimCLR step of ResNet-18, width 0.25, at 32 pixels.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as tv

from ssl_cli.augment.pipeline import CHUNK_BYTES, Pipeline, sides_of
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.data.decode import decode
from ssl_cli.draws import Key
from ssl_cli.engine.build import build_objective
from ssl_cli.nn.precision import autocast
from ssl_cli.objective import Batch
from ssl_cli.optim.build import build_optimiser
from ssl_cli.registry import OPS, load
from tests.augment.pictures import batch, pictures
from tests.augment.reference import chain
from tests.config.test_recipe import settings_of

REPEATS = 9
FAMILIES = {32: "cifar", 224: "imagenet"}
"""Whose recipe of SimCLR is taken at which size."""
CPU = torch.device("cpu")


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def in_turns(arms: Mapping[str, Callable[[], object]], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Seconds of each arm, one after the other in every repeat; the first is warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for repeat in range(repeats + 1):
        for name, run in arms.items():
            began = time.perf_counter()
            run()
            if repeat:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def spread(values: list[float], form: str) -> str:
    low, median, high = min(values), statistics.median(values), max(values)
    return f"{median:{form}} ({low:{form}} to {high:{form}})"


def torchvisions(settings: AugmentSettings, size: int, *, first: list[Any], last: list[Any]) -> tv.Compose:
    """SimCLR's recipe in torchvision.transforms.v2."""
    crop, j = settings.crop, settings.jitter
    jitter = tv.ColorJitter(*(value * j.strength for value in (j.brightness, j.contrast, j.saturation, j.hue)))
    width = max(3, size // 10 // 2 * 2 + 1)
    blur = [tv.RandomApply([tv.GaussianBlur(width, settings.blur.sigma)], settings.blur.p)]
    how = InterpolationMode(crop.interpolation)
    return tv.Compose(
        [
            *first,
            tv.RandomResizedCrop(size, crop.scale, crop.ratio, interpolation=how, antialias=True),
            tv.RandomHorizontalFlip(settings.flip.p),
            tv.RandomApply([jitter], j.p),
            tv.RandomGrayscale(settings.gray.p),
            *(blur if "blur" in settings.order else []),
            *last,
            tv.ToDtype(torch.float32, scale=True),
        ]
    )


def same_pixels(pipeline: Pipeline, data: Batch, settings: AugmentSettings) -> None:
    """Assert that the views equal torchvision's float operations with the same parameters; say how closely."""
    differences = []
    for view, ours in enumerate(pipeline(data)):
        params = pipeline.draw(data, view)
        theirs = [chain(data.image[i], params, i, settings, pipeline.size) for i in range(len(data))]
        differences.append((ours - torch.stack(theirs)).abs().flatten())
    levels = 255 * torch.cat(differences).double()
    rare = levels.kthvalue(int(0.999 * len(levels))).values
    assert levels.mean() <= 0.5
    assert rare <= 3
    say(
        f"  parity, gray levels of 255: mean {levels.mean():.1e}, 99.9th percentile {rare:.1e}, most {levels.max():.1e}"
    )


def against_torchvision(size: int, images: Tensor | list[Tensor]) -> None:
    settings = settings_of("simclr", FAMILIES[size]).augment
    data, pipeline = batch(images), Pipeline(settings, size, seed=0)
    same_pixels(pipeline, batch(images[:16]), settings)
    some = list(images[:: max(1, len(images) // 32)])
    pil = [tv.functional.to_pil_image(image) for image in some]
    planar = [image.contiguous() for image in some]
    tensors = torchvisions(settings, size, first=[], last=[])
    pictures_ = torchvisions(settings, size, first=[], last=[tv.PILToTensor()])
    arms: dict[str, tuple[int, Callable[[], object]]] = {
        "sslcli": (len(data), lambda: pipeline(data)),
        "sslcli, bf16": (len(data), lambda: pipeline.stacked(data, 2, torch.bfloat16)),
        "v2, tensors": (len(some), lambda: [torch.stack([tensors(image) for image in some]) for _ in range(2)]),
        "v2, planar": (len(some), lambda: [torch.stack([tensors(image) for image in planar]) for _ in range(2)]),
        "v2, Pillow": (len(some), lambda: [torch.stack([pictures_(image) for image in pil]) for _ in range(2)]),
    }
    seconds = in_turns({name: run for name, (_, run) in arms.items()})
    rates = {name: [arms[name][0] / each for each in taken] for name, taken in seconds.items()}
    for name, rate in rates.items():
        ratios = [mine / other for mine, other in zip(rates["sslcli"], rate, strict=True)]
        ratio = f"; sslcli is {spread(ratios, '.1f')} times as fast" if name.startswith("v2") else ""
        say(f"  {name:13} {spread(rate, ',.0f')} images/s, two views each{ratio}")


def seconds_of(op: Any, images: Tensor | list[Tensor], drawn: Any) -> float:
    """Of one call; operations work in place, so that each gets a copy, whose time is taken off."""
    copied = (lambda: images.clone()) if isinstance(images, Tensor) else (lambda: images)
    seconds = in_turns({"copy": copied, "op": lambda: op.apply(copied(), drawn)})
    return statistics.median(seconds["op"]) - statistics.median(seconds["copy"])


def each_operation(size: int) -> None:
    """Microseconds for an image that draws the operation; images come in groups as they do in the pipeline."""
    settings = settings_of("simclr", FAMILIES[size]).augment
    n = max(2, CHUNK_BYTES // (12 * size**2))
    images = pictures(n, size, size) if size <= 64 else list(pictures(n, 256, 341))
    x = pictures(n, size, size).float() / 255
    took = []
    for name, path in OPS.items():
        own = getattr(settings, name)
        op = load(path)(own.model_copy(update={"p": 1.0} if hasattr(own, "p") else {}), size)
        drawn = op.draw(Key(0, 0, torch.arange(n), 0), sides_of(images))
        took.append(f"{name} {1e6 / n * seconds_of(op, images if name == 'crop' else x, drawn):.1f}")
    say(f"  microseconds an image: {', '.join(took)}")
    data = batch(images)
    draw = statistics.median(in_turns({"draw": lambda: Pipeline(settings, size, 0).draw(data, 0)})["draw"])
    say(f"  and to draw all parameters of a view: {1e6 * draw / n:.1f}")


def share_of_the_step() -> None:
    """Augmentation beside forward, loss, backward and update of SimCLR's shapes recipe."""
    settings = settings_of("simclr", "shapes")
    n = settings.run.batch
    data, pipeline = batch(pictures(n, 32, 32)), Pipeline(settings.augment, 32, seed=0)
    objective = build_objective(settings, CPU, n).train().to(memory_format=torch.channels_last)
    optimiser = build_optimiser(objective, settings.optim, 1e-3)
    views = pipeline.stacked(data, 2, torch.bfloat16)

    def step() -> None:
        with autocast(CPU, "bf16")():
            z = objective(views)
        torch.autograd.backward(objective.loss(z.float(), None, data))
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    seconds = in_turns({"views": lambda: pipeline.stacked(data, 2, torch.bfloat16), "step": step}, 5)
    shares = [100 * a / (a + b) for a, b in zip(seconds["views"], seconds["step"], strict=True)]
    milli = [1000 * each for each in seconds["step"]]
    say(f"SimCLR, ResNet-18 width 0.25, 32 px, batch {n}, bf16: the step without views {spread(milli, '.0f')} ms")
    say(f"  augmentation is {spread(shares, '.1f')} % of the whole")


def photographs(folder: Path | None, count: int) -> list[Tensor]:
    """Decoded images with a short side of 256, from a folder or made."""
    if folder is None:
        return [*pictures(count, 256, 341).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)]
    return [decode(path, cap=256) for path in sorted(folder.iterdir())[:count]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--photos", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.set_num_interop_threads(1)
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    say(f"{versions}, {asked.threads} threads, load {os.getloadavg()[0]:.1f}; medians of {REPEATS} (least to most)")
    for size, images in ((32, pictures(512, 32, 32)), (224, photographs(asked.photos, 64))):
        say(f"{size} px, SimCLR's {FAMILIES[size]} recipe, {len(images)} images")
        against_torchvision(size, images)
        each_operation(size)
    share_of_the_step()


if __name__ == "__main__":
    main()
