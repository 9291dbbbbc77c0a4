"""Images a second, two SimCLR views each: this pipeline against torchvision v2 image by image, in turns.

python tests/augment/bench_views.py [THREADS]
"""

import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torchvision
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as tv

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config.augment import AugmentSettings, CropSettings, JitterSettings
from ssl_cli.objective import Batch

REPEATS = 7


def simclr(strength: float, *, blur: bool) -> AugmentSettings:
    jitter = JitterSettings(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, strength=strength)
    order = ("crop", "flip", "jitter", "gray", *(["blur"] if blur else []))
    return AugmentSettings(order=order, crop=CropSettings(interpolation="bicubic"), jitter=jitter)


def torchvisions(size: int, strength: float, *, blur: bool) -> Callable[[Tensor], Tensor]:
    s = strength
    ops = [
        tv.RandomResizedCrop(size, interpolation=InterpolationMode.BICUBIC, antialias=True),
        tv.RandomHorizontalFlip(),
        tv.RandomApply([tv.ColorJitter(0.8 * s, 0.8 * s, 0.8 * s, 0.2 * s)], 0.8),
        tv.RandomGrayscale(0.2),
        *([tv.RandomApply([tv.GaussianBlur(23, (0.1, 2.0))], 0.5)] if blur else []),
        tv.ToDtype(torch.float32, scale=True),
    ]
    chain: Callable[[Tensor], Tensor] = tv.Compose(ops)
    return chain


def compare(name: str, images: Tensor | list[Tensor], size: int, strength: float, *, blur: bool) -> None:
    pipeline = Pipeline(simclr(strength, blur=blur), size, seed=0)
    n = len(images)
    batch = Batch(images, torch.full((n,), -1), torch.arange(n))
    single = torchvisions(size, strength, blur=blur)
    some = images[: max(16, n // 4)]
    arms: dict[str, tuple[int, Callable[[], object]]] = {
        "sslcli": (n, lambda: pipeline(batch)),
        "torchvision v2": (len(some), lambda: [torch.stack([single(image) for image in some]) for _ in range(2)]),
    }
    rates: dict[str, list[float]] = {arm: [] for arm in arms}
    for repeat in range(REPEATS + 1):
        for arm, (count, run) in arms.items():
            start = time.perf_counter()
            run()
            if repeat:  # the first is warm-up
                rates[arm].append(count / (time.perf_counter() - start))
    for arm, rate in rates.items():
        low, median, high = min(rate), statistics.median(rate), max(rate)
        sys.stdout.write(f"{name:24} {arm:16} {median:8.0f} images/s ({low:.0f} to {high:.0f}, n={REPEATS})\n")


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    load = os.getloadavg()[0]
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    sys.stdout.write(f"{versions}, {torch.get_num_threads()} threads, load {load:.1f}\n")
    generator = torch.Generator().manual_seed(0)
    small = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8, generator=generator)
    large = [torch.randint(0, 256, (3, 256, 256 + 16 * (i % 10)), dtype=torch.uint8) for i in range(32)]
    compare("CIFAR, 32 px", small, 32, 0.5, blur=False)
    compare("ImageNet, 256 to 224 px", large, 224, 1.0, blur=True)


if __name__ == "__main__":
    main()
