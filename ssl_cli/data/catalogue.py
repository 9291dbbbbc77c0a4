"""torchvision data sets by name: opened from the data folder, downloaded only with `--download`."""

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision.datasets as tv

from ssl_cli.config.tree import DataSettings
from ssl_cli.data.arrays import Arrays
from ssl_cli.data.bands import in_channels
from ssl_cli.data.folder import Files, of_paths
from ssl_cli.data.places import SPLITS, name_and_split, not_in_folder
from ssl_cli.data.source import Source
from ssl_cli.errors import DataError
from ssl_cli.names import shown

FAKE_IMAGES = 512


@dataclass(frozen=True)
class Entry:
    """Describe a data set: its class, the arguments of each split, and whether each image is a file of its own."""

    make: Callable[..., Any]
    splits: Mapping[str, Mapping[str, Any]]
    files: bool = False


CATALOGUE: dict[str, Entry] = {
    "cifar10": Entry(tv.CIFAR10, SPLITS["cifar10"]),
    "cifar100": Entry(tv.CIFAR100, SPLITS["cifar100"]),
    "mnist": Entry(tv.MNIST, SPLITS["mnist"]),
    "fashionmnist": Entry(tv.FashionMNIST, SPLITS["fashionmnist"]),
    "svhn": Entry(tv.SVHN, SPLITS["svhn"]),
    "stl10": Entry(tv.STL10, SPLITS["stl10"]),
    "imagenette": Entry(tv.Imagenette, SPLITS["imagenette"], files=True),
    "food101": Entry(tv.Food101, SPLITS["food101"], files=True),
    "flowers102": Entry(tv.Flowers102, SPLITS["flowers102"], files=True),
    "dtd": Entry(tv.DTD, SPLITS["dtd"], files=True),
    "aircraft": Entry(tv.FGVCAircraft, SPLITS["aircraft"], files=True),
    "country211": Entry(tv.Country211, SPLITS["country211"], files=True),
    "fake": Entry(tv.FakeData, SPLITS["fake"]),
}


def open_named(source: str, settings: DataSettings, split: str | None = None) -> Source:
    """Open the data set NAME[:SPLIT]; `split` overrides the one in the name, and `train` is the default.

    Raises:
        DataError: no such name or split, or the files are not there.
    """
    name, split = name_and_split(source, split)
    entry = CATALOGUE[name]
    if name == "fake":
        return in_channels(_fake(split, entry, settings.size), settings.channels)
    dataset = _make(name, entry, split, settings)
    if entry.files:
        return _files(f"{name}:{split}", dataset, settings)
    return in_channels(_arrays(f"{name}:{split}", dataset), settings.channels)


def _make(name: str, entry: Entry, split: str, settings: DataSettings) -> Any:
    kwargs = dict(entry.splits[split])
    if entry.files:
        kwargs["loader"] = str  # an image is then its path, and decoding is ours
    with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
        try:
            return entry.make(root=settings.folder, download=False, **kwargs)
        except (RuntimeError, OSError) as error:
            if not settings.download:
                raise not_in_folder(name, settings.folder) from error
        try:
            return entry.make(root=settings.folder, download=True, **kwargs)
        except (RuntimeError, OSError, ValueError) as error:
            raise DataError(f"'{name}' could not be downloaded: {shown(str(error))}.", "Try again later.") from error


def _files(name: str, dataset: Any, settings: DataSettings) -> Files:
    pairs = [dataset[k] for k in range(len(dataset))]
    classes = tuple(c[0] if isinstance(c, tuple) else str(c) for c in getattr(dataset, "classes", ()))
    paths, labels = [path for path, _ in pairs], [label for _, label in pairs]
    return of_paths(name, paths, labels, classes, settings.channels, settings.value_range, settings.bits)


def _arrays(name: str, dataset: Any) -> Arrays:
    images = torch.as_tensor(dataset.data)
    if images.dim() == 3:
        images = images[:, None]
    elif images.shape[-1] == 3:
        images = images.permute(0, 3, 1, 2).contiguous()
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    labels = torch.as_tensor(np.asarray(labels)).long()
    classes = getattr(dataset, "classes", None) or [str(k) for k in range(int(labels.max()) + 1)]
    return Arrays(name, images, labels, tuple(map(str, classes)))


def _fake(split: str, entry: Entry, size: int) -> Arrays:
    dataset = entry.make(FAKE_IMAGES, (3, size, size), **entry.splits[split])
    pairs = [dataset[k] for k in range(len(dataset))]
    images = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in pairs])
    labels = torch.tensor([int(label) for _, label in pairs])
    return Arrays(f"fake:{split}", images, labels, tuple(map(str, range(dataset.num_classes))))
