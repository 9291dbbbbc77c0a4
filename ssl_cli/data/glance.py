"""A quick look at a source of images: their number, and a few to measure with, without opening them all."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from ssl_cli.config.tree import DataSettings
from ssl_cli.data.bands import in_channels
from ssl_cli.data.collect import plain_folder
from ssl_cli.data.folder import of_paths
from ssl_cli.data.passed import Passed
from ssl_cli.data.places import are_paths, is_shapes, name_and_split
from ssl_cli.data.search import require_images, walk
from ssl_cli.data.shapes import CLASSES, Shapes
from ssl_cli.data.source import Source, note_of
from ssl_cli.data.sources import open_pretraining

SECONDS = 2.0
FEW = 64
SIZES: dict[str, tuple[int, dict[str, int]]] = {
    "cifar10": (10, {"train": 50_000, "test": 10_000}),
    "cifar100": (100, {"train": 50_000, "test": 10_000}),
    "mnist": (10, {"train": 60_000, "test": 10_000}),
    "fashionmnist": (10, {"train": 60_000, "test": 10_000}),
    "svhn": (10, {"train": 73_257, "test": 26_032, "extra": 531_131}),
    "stl10": (10, {"train": 5_000, "test": 8_000, "unlabeled": 100_000, "all": 105_000}),
    "imagenette": (10, {"train": 9_469, "test": 3_925}),
    "food101": (101, {"train": 75_750, "test": 25_250}),
    "flowers102": (102, {"train": 1_020, "val": 1_020, "test": 6_149}),
    "dtd": (47, {"train": 1_880, "val": 1_880, "test": 1_880}),
    "aircraft": (100, {"train": 6_667, "val": 3_333, "test": 3_333}),
    "country211": (211, {"train": 31_650, "val": 10_550, "test": 21_100}),
    "fake": (10, {"train": 512, "test": 512}),
}
"""Of each torchvision data set the number of classes, and the published number of images in each split."""


@dataclass(frozen=True)
class Glance:
    """Describe a source of images.

    Attributes:
        images: their number, or a lower bound.
        few: some of them; None if they are not on this machine.
        where: folder or name of the source.
        doubt: why the number may be wrong; empty if it is exact.
        note: what was gone through and passed over.
    """

    images: int
    few: Source | None
    where: str
    doubt: str = ""
    note: str = ""


def glance(settings: DataSettings, seed: int, enough: int = 0) -> Glance:
    """Count the images to pretrain on without opening them; in a large folder for two seconds, or up to `enough`.

    Images that labels choose, or that have groups, are opened.

    Raises:
        DataError: there is no such folder or data set, or no image in it.
    """
    places = settings.places
    paths = are_paths(places)
    opened = settings.labels is not None or settings.group_by is not None or settings.positives == "group"
    if paths and not opened and len(places) == 1 and (found := plain_folder(places[0])):
        return _folder(*found, settings, enough)
    if paths or opened:
        source = open_pretraining(settings, seed)
        return Glance(len(source), source, source.name, note=note_of(source))
    if is_shapes(places):
        count = _limited(settings.images, len(CLASSES), settings.limit)
        return Glance(count, in_channels(Shapes(min(FEW, count), settings.size, seed), settings.channels), "shapes")
    name, split = name_and_split(places[0])
    classes, sizes = SIZES[name]
    labels = {"unlabeled": 1, "all": classes + 1}.get(split, classes)  # images without a label count as one class
    count = _limited(sizes[split], labels, settings.limit)
    doubt = f"Whether {name} is in the data folder was not checked; its size is the published one."
    return Glance(count, None, f"{name}:{split}", doubt)


def _limited(images: int, classes: int, limit: int | None) -> int:
    return images if limit is None else min(images, limit * classes)


def _folder(root: Path, through: str, settings: DataSettings, enough: int) -> Glance:
    require_images(root)
    limit, counts, passed = settings.limit, dict[str, int](), Passed()
    paths: list[str] = []
    until = time.monotonic() + SECONDS
    doubt = ""
    for path, _ in walk(root, [], passed):
        top, separator, _ = path[len(os.path.join(root, "")) :].partition(os.sep)  # noqa: PTH118
        top = top if separator else ""
        counts[top] = counts.get(top, 0) + 1
        if len(paths) < FEW:
            paths.append(path)
        if time.monotonic() > until and sum(counts.values()) >= enough:
            doubt = f"There may be more images: they were counted for {SECONDS:g} s only."
            break
    images = sum(min(count, limit or count) for count in counts.values())
    labels = [-1] * len(paths)
    few = of_paths(str(root), paths, labels, (), settings.channels, settings.value_range, settings.bits)
    return Glance(images, few, str(root), doubt, "; ".join(filter(None, [through, passed.note()])))
