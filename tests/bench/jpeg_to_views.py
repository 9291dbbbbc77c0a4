"""JPEG files to two SimCLR views: `python -m tests.bench.jpeg_to_views [--photos FOLDER] [--images N] [--repeats N]`.

Epochs here, with two decode threads, and of a torch DataLoader with two workers and torchvision.transforms.v2, in turns
within one run. Cold is the first epoch of a new loader, whose files are not in the page cache; warm is its second one,
in which sslcli decodes nothing. The views of both follow SimCLR's recipe; that they agree is for `tests.bench.views`.
On a machine that does other work set GOMP_SPINCOUNT=1000, as sslcli does there (`ssl_cli/spinning.py`).
"""

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2 as tv

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.data.loader import Loader, cap_for
from tests.bench.views import FAMILIES, say, spread, torchvisions
from tests.config.test_recipe import settings_of
from tests.data.files import open_folder

BATCH, WORKERS = 64, 2
SIDES = 500, 375
"""Width and height of an image of ImageNet."""
Epoch = Callable[[], int]
"""Makes the views of all images once; returns how many images they were of."""


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """Two views of each file, as torchvision's examples make them."""

    def __init__(self, paths: Sequence[Path], settings: AugmentSettings, size: int) -> None:
        self.paths = paths
        self.views = torchvisions(settings, size, first=[tv.ToImage()], last=[])

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        with Image.open(self.paths[index]) as picture:
            image = picture.convert("RGB")
        return self.views(image), self.views(image)


def sslcli(paths: Sequence[Path], settings: AugmentSettings, size: int) -> Epoch:
    source, pipeline = open_folder(paths[0].parent), Pipeline(settings, size, seed=0)
    loader = Loader(source, BATCH, 0, threads=WORKERS, cache="ram", cap=cap_for(size))
    steps = len(source) // BATCH
    starts = iter(range(0, 2 * steps, steps))

    def epoch() -> int:
        start = next(starts)
        views = [pipeline.stacked(batch, 2).shape[0] // 2 for batch in loader.batches(start, start + steps)]
        return sum(views)

    return epoch


def data_loader(paths: Sequence[Path], settings: AugmentSettings, size: int) -> Epoch:
    data = Photographs(paths, settings, size)
    loader = DataLoader(data, BATCH, shuffle=True, drop_last=True, num_workers=WORKERS, persistent_workers=True)
    return lambda: sum(len(first) for first, _ in loader)


def evict(paths: Sequence[Path]) -> None:
    """Ask the system to drop the files from its page cache."""
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def compared(paths: Sequence[Path], size: int, repeats: int) -> None:
    settings = settings_of("simclr", FAMILIES[size]).augment
    arms = {"sslcli": sslcli, "DataLoader, v2": data_loader}
    rates: dict[str, dict[str, list[float]]] = {when: {name: [] for name in arms} for when in ("cold", "warm")}
    for _ in range(repeats):
        for name, make in arms.items():
            evict(paths)
            epoch = make(paths, settings, size)
            for when in rates:
                began = time.perf_counter()
                images = epoch()
                rates[when][name].append(images / (time.perf_counter() - began))
            del epoch  # which ends the workers
    for when, found in rates.items():
        ours, theirs = found.values()
        ratio = spread([mine / other for mine, other in zip(ours, theirs, strict=True)], ".1f")
        words = "; ".join(f"{name} {spread(each, ',.0f')}" for name, each in found.items())
        say(f"  {when}: {words} images/s; sslcli is {ratio} times as fast")


def made(folder: Path, count: int) -> None:
    """Write JPEG files with about as much detail as photographs."""
    width, height = SIDES
    for k in range(count):
        noise = np.random.default_rng(k).normal(size=(height // 8, width // 8 + 1, 3))
        image = Image.fromarray((127 + 40 * noise).clip(0, 255).astype(np.uint8))
        image.resize(SIDES, Image.Resampling.BICUBIC).save(folder / f"{k:05}.jpg", quality=90)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--photos", type=Path, help="JPEG files; absent: made ones")
    parser.add_argument("--images", type=int, default=4 * BATCH)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(WORKERS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.photos is None:
            made(folder, asked.images)
        else:
            for path in sorted(asked.photos.glob("*.jp*g"))[: asked.images]:
                shutil.copy(path, folder)
        os.sync()  # a page that is not on the disk yet is not dropped
        paths = sorted(folder.iterdir())
        size = sum(path.stat().st_size for path in paths) / len(paths) / 1000
        say(f"torch {torch.__version__}, torchvision {torchvision.__version__}, {os.cpu_count()} processors")
        say(f"load {os.getloadavg()[0]:.1f}; {len(paths)} files of {size:.0f} kB; medians of {asked.repeats} turns")
        for side, family in FAMILIES.items():
            say(f"{side} px, SimCLR's {family} recipe, batch {BATCH}")
            compared(paths, side, asked.repeats)


if __name__ == "__main__":
    main()
