"""Choose network, image size, batch and epochs for a number of images, a machine and a time.

The rule, of which every number is a constant here:

* A batch is a power of two, at most half of the images, and the recipe's own where that makes eight steps of an epoch
  and a thousand of the run; else it is smaller, down to 64: in a short run more steps learn more than more negatives.
* Networks stand on a ladder, ordered by their FLOP. The highest rung is taken on which the time allows as many epochs
  as the set asks for: 200,000 images seen, but 20 epochs at least and 100 at most. The lowest is always allowed.
* Below 1,000 images no network is wider than 0.5 or deeper than a ResNet-18: it would learn them by heart.
* No run has more than 400 epochs, so one on few images ends before its time is over; and 20 steps at least.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ssl_cli.config.toml_file import flatten, nest
from ssl_cli.config.tree import CIFAR_UP_TO, Fitted, Settings
from ssl_cli.planning.network import FORWARD_BACKWARD, network_cost
from ssl_cli.registry import is_library_backbone

IMAGE_STEPS = 200_000
FEWEST_EPOCHS, ENOUGH_EPOCHS, MOST_EPOCHS = 20, 100, 400
FEWEST_STEPS = 20
STEPS_PER_EPOCH, WISHED_STEPS, SMALL_BATCH = 8, 1000, 64
FEW_IMAGES, WIDEST_FOR_FEW = 1000, 0.5
SMALL_SIZE = 32
LIBRARY_SIZE = 224
IN_NETWORK = 0.8
"""Share of the time in the network's passes: the rest makes views, computes the loss, evaluates and saves."""
IN_MEMORY = 0.5
"""Share of the memory for one BatchNorm group's activations, so that its step need not be recomputed."""

SMALL_IMAGES = (("resnet18", 0.25), ("resnet18", 0.5), ("resnet18", 1.0), ("resnet50", 1.0))
"""Networks for images up to 64 pixels, which have one size."""
LADDER = (
    ("resnet18", 0.25, 32),
    ("resnet18", 0.5, 96),
    ("resnet18", 0.5, 128),
    ("resnet18", 0.75, 128),
    ("resnet18", 1.0, 128),
    ("resnet18", 1.0, 160),
    ("resnet50", 1.0, 160),
    ("resnet50", 1.0, 224),
)
"""Networks and sizes for larger images; above 64 pixels the stem is that of the papers for ImageNet."""


@dataclass(frozen=True)
class Machine:
    """FLOP per second that training reaches, bytes for activations, and bytes of a number in them."""

    flops: float
    memory: float = math.inf
    number: int = 4


@dataclass(frozen=True)
class Work:
    """What a method does with images, and the settings that are given.

    Attributes:
        images: their number.
        side: their median short side in pixels.
        given: values of the settings that are not open, by dotted key; see `config.tree.Fitted`.
        batch: the recipe's batch.
        passes: FLOP of an image in a step, in those of a forward pass of one view of full size.
        group: rows of a BatchNorm group, at most.
        stem: of the network.
        channels: of an image.
    """

    images: int
    side: float
    given: Mapping[Fitted, Any]
    batch: int = 256
    passes: float = 2 * FORWARD_BACKWARD
    group: float = 512
    stem: str = "auto"
    channels: int = 3


@dataclass(frozen=True)
class Size:
    """The chosen network, image size, batch and epochs."""

    backbone: str
    width: float
    size: int
    batch: int
    epochs: float

    @property
    def values(self) -> dict[Fitted, Any]:
        """Return the settings by their dotted keys."""
        return {
            "model.backbone": self.backbone, "model.width": self.width, "data.size": self.size,
            "run.batch": self.batch, "schedule.epochs": self.epochs,
        }  # fmt: skip

    @property
    def network(self) -> str:
        """Return the network in words."""
        return self.backbone if is_library_backbone(self.backbone) else f"{self.backbone}, width {self.width:g}"


def choose(work: Work, machine: Machine, seconds: float) -> Size:
    """Choose the size of a run of so many seconds; what is given stays as it is, whatever the machine."""
    asked = work.given.get("schedule.epochs")
    wanted = asked or epochs_wanted(work.images)
    found = None
    for rung in _rungs(work):
        seen = images_in(work, rung, machine, seconds)
        of_epochs = (asked or MOST_EPOCHS) * work.images
        batch = work.given.get("run.batch") or batch_for(work.images, work.batch, min(seen, of_epochs))
        per_epoch = max(work.images // batch, 1)
        epochs = min(max(seen / batch, FEWEST_STEPS) / per_epoch, max(MOST_EPOCHS, FEWEST_STEPS / per_epoch))
        size = replace(rung, batch=batch, epochs=asked or epochs)
        if found is None or (seen / batch / per_epoch >= wanted and _fits(work, size, machine)):
            found = size
    assert found is not None
    return found


def images_in(work: Work, size: Size, machine: Machine, seconds: float) -> float:
    """Return how many images training sees in the time, each epoch anew."""
    flop = network_cost(size.backbone, size.width, size.size, work.stem, work.channels).flop
    return seconds * machine.flops * IN_NETWORK / (work.passes * flop)


def batch_for(images: int, most: int, seen: float = 1e12) -> int:
    """Return the batch for so many images, of which the run sees `seen`: at most half of them, and at least 2.

    It is `most` where that makes eight steps of an epoch and a thousand of the run.
    """
    wished = max(min(images // STEPS_PER_EPOCH, int(seen) // WISHED_STEPS), SMALL_BATCH)
    return _power_of_two(max(min(most, wished, images // 2), 2))


def epochs_wanted(images: int) -> float:
    """Return the epochs that a network needs before a larger one is worth its time."""
    return min(max(IMAGE_STEPS / images, FEWEST_EPOCHS), ENOUGH_EPOCHS)


def warn_of_few(images: int) -> list[str]:
    """Return what to expect of a run on few images."""
    if images >= FEW_IMAGES:
        return []
    return [
        f"{images:,} images are few to learn from without labels: expect an encoder for images like these, somewhat "
        "better than an untrained one. More images, with labels or without, help most."
    ]


def fitted(settings: Settings, values: Mapping[Fitted, Any]) -> Settings:
    """Return the settings with these values, by dotted key, in place of those that are open.

    Raises:
        ValueError: a value that the setting cannot have.
    """
    chosen: dict[str, Any] = {key: value for key, value in values.items() if key in settings.run.fit}
    return Settings.model_validate(nest(dict(flatten(settings.model_dump())) | chosen))


def values_of(settings: Settings) -> dict[Fitted, Any]:
    """Return the values of the settings that are open, by dotted key."""
    table = dict(flatten(settings.model_dump()))
    return {key: table[key] for key in settings.run.fit}


def given_in(settings: Settings) -> dict[Fitted, Any]:
    """Return the values of what a plan could choose and the settings give."""
    model, run = settings.model, settings.run
    size = Size(model.backbone, model.width, settings.data.size, run.batch, settings.schedule.epochs)
    return {key: value for key, value in size.values.items() if key not in run.fit}


def _rungs(work: Work) -> Sequence[Size]:
    """Return the sizes to choose from, that of the fewest FLOP first, with what is given in place."""
    given = work.given
    backbone, width, size = (given.get(key) for key in ("model.backbone", "model.width", "data.size"))
    if is_library_backbone(str(backbone)):
        return [Size(str(backbone), 1.0, size or LIBRARY_SIZE, 2, 1)]
    ladder = _ladder(work.side)
    if work.images < FEW_IMAGES:
        ladder = [rung for rung in ladder if rung[1] <= WIDEST_FOR_FEW]
    rungs = dict.fromkeys(Size(backbone or name, width or wide, size or side, 2, 1) for name, wide, side in ladder)
    cost = lambda rung: network_cost(rung.backbone, rung.width, rung.size, work.stem, work.channels).flop  # noqa: E731
    return sorted(rungs, key=cost)


def _ladder(side: float) -> Sequence[tuple[str, float, int]]:
    """Return networks and sizes for images of this short side, none of which enlarges them much."""
    if side <= CIFAR_UP_TO:
        size = SMALL_SIZE if side >= SMALL_SIZE else max(8 * round(side / 8), 8)
        return [(*network, size) for network in SMALL_IMAGES]
    if side < LADDER[1][2]:
        return [(*SMALL_IMAGES[0], SMALL_SIZE), *((*network, CIFAR_UP_TO) for network in SMALL_IMAGES)]
    return [rung for rung in LADDER if rung[2] <= side]


def _fits(work: Work, size: Size, machine: Machine) -> bool:
    cost = network_cost(size.backbone, size.width, size.size, work.stem, work.channels)
    rows = min(work.group, 2 * max(size.batch, batch_for(work.images, work.batch)))  # whatever the time
    return rows * cost.activations * machine.number <= IN_MEMORY * machine.memory


def _power_of_two(count: int) -> int:
    return 1 << count.bit_length() - 1
