"""Views of images: the run's pipeline against torchvision v2, image by image."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import v2 as tv

from ssl_cli.bench.advice import AUGMENTATION
from ssl_cli.bench.ceilings import MEMORY
from ssl_cli.bench.part import Part
from ssl_cli.bench.subject import Subject
from ssl_cli.bench.timing import Arm, alternate
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.objective import Batch

ON_PROCESSORS = 256
"""Images at once without a card: more are no faster an image."""
FEW, FEW_LARGE, LARGE = 64, 16, 64
"""Images that torchvision takes at a time, those beyond so many pixels fewer."""
INTERPOLATION = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def _jitter(own: Any, size: int) -> Any:
    names = ("brightness", "contrast", "saturation", "hue")
    strong = {name: own.strength * getattr(own, name) for name in names}
    return tv.RandomApply([tv.ColorJitter(**{**strong, "hue": min(strong["hue"], 0.5)})], own.p)


def _rotate(own: Any, size: int) -> Any:
    turns = [tv.RandomRotation((turn, turn)) for turn in (90, 180, 270)]
    return tv.RandomApply([tv.RandomChoice(turns)], 0.75 * own.p)


def _blur(own: Any, size: int) -> Any:
    reach = round(3 * own.sigma[1]) if own.kernel == "full" else max(int(own.kernel * size) // 2, 1)
    return tv.RandomApply([tv.GaussianBlur(2 * reach + 1, own.sigma)], own.p)


OPS: dict[str, Callable[[Any, int], Any]] = {
    "crop": lambda own, size: tv.RandomResizedCrop(
        size, own.scale, own.ratio, INTERPOLATION[own.interpolation], antialias=True
    ),
    "flip": lambda own, size: tv.RandomHorizontalFlip(own.p),
    "rotate": _rotate,
    "cutout": lambda own, size: tv.RandomErasing(
        own.p, (own.size[0] ** 2, own.size[1] ** 2), (1.0, 1.0), round(255 * own.fill)
    ),
    "jitter": _jitter,
    "gray": lambda own, size: tv.RandomGrayscale(own.p),
    "solarize": lambda own, size: tv.RandomSolarize(round(255 * own.threshold), own.p),
    "blur": _blur,
    "noise": lambda own, size: tv.RandomApply([tv.GaussianNoise(sigma=sum(own.sigma) / 2)], own.p),
    "normalize": lambda own, size: tv.Normalize(own.mean, own.std),
}
"""torchvision's operation for ours, from its settings and the side of a view."""


def augment(subject: Subject) -> Part:
    """Images a second, all their views each."""
    settings, views = subject.settings, subject.objective.views
    batch = subject.batch if subject.device.type == "cuda" else _first(subject.batch, ON_PROCESSORS)
    size = settings.data.size
    few = list(batch.image[: FEW if size <= LARGE else FEW_LARGE])
    chains, missing = torchvisions(settings.augment, size, views)

    def plain() -> list[Tensor]:
        return [torch.stack([chain(image) for image in few]) for chain in chains]

    rates = alternate(
        {"ours": Arm(len(batch), lambda: subject.job.staging.stage(batch)), "plain": Arm(len(few), plain)},
        subject.device,
    )
    left_out = f" without {', '.join(missing)}" if missing else ""
    least = subject.ceilings.memory() / _bytes(batch, subject)
    found = rates["ours"].measured(
        "augment", "images/s", bounds={MEMORY: least}, reference=rates["plain"],
        against=f"torchvision v2, image by image{left_out}",
    )  # fmt: skip
    return Part((found,), {AUGMENTATION: 1 / found.rate})


def torchvisions(
    settings: AugmentSettings, size: int, views: int
) -> tuple[list[Callable[[Tensor], Tensor]], tuple[str, ...]]:
    """For each view a chain of torchvision's own from uint8 to float32, and the operations that it does not have."""
    orders = [settings.order, *[settings.second or settings.order] * (views - 1)]
    names = dict.fromkeys(name for order in orders for name in order)
    made = {name: OPS[name](getattr(settings, name), size) if name in OPS else None for name in names}
    chains: list[Callable[[Tensor], Tensor]] = []
    for order in orders:
        ops = [made[name] for name in order if made[name] is not None]
        # normalising and noise want floating-point numbers, all else is faster on bytes
        late = [op for op in ops if isinstance(op, tv.Normalize | tv.RandomApply) and _floats(op)]
        early = [op for op in ops if op not in late]
        chains.append(tv.Compose([*early, tv.ToDtype(torch.float32, scale=True), *late]))
    return chains, tuple(name for name, op in made.items() if op is None)


def _floats(op: Any) -> bool:
    return isinstance(op, tv.Normalize) or isinstance(op.transforms[0], tv.GaussianNoise)


def _bytes(batch: Batch, subject: Subject) -> float:
    """Of an image: each view reads it once and is written once, at the least."""
    pixels = sum(image.numel() for image in batch.image) / len(batch)
    view = subject.job.staging.stage(_first(batch, 1))[0].x[:1]
    return subject.objective.views * (pixels + view.numel() * view.element_size())


def _first(batch: Batch, count: int) -> Batch:
    return replace(batch, image=batch.image[:count], label=batch.label[:count], index=batch.index[:count])
