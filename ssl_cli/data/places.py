"""Resolve DATA to a folder, the embedded set or a torchvision data set, without torch and before any image is read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_cli.config.tree import DataSettings
from ssl_cli.data.search import require_images
from ssl_cli.errors import DataError, UsageError
from ssl_cli.names import expanded, is_folder, is_there, shown
from ssl_cli.registry import closest, did_you_mean

SHAPES = "shapes"


def _flags() -> dict[str, Mapping[str, Any]]:
    return {"train": {"train": True}, "test": {"train": False}}


def _splits(*names: str, **other: str) -> dict[str, Mapping[str, Any]]:
    """Return splits with torchvision's names, and others by a name of ours."""
    return {name: {"split": split} for name, split in [*((n, n) for n in names), *other.items()]}


SPLITS: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "cifar10": _flags(),
    "cifar100": _flags(),
    "mnist": _flags(),
    "fashionmnist": _flags(),
    "svhn": _splits("train", "test", "extra"),
    "stl10": {**_splits("train", "test", "unlabeled"), "all": {"split": "train+unlabeled"}},
    "imagenette": _splits("train", test="val"),
    "food101": _splits("train", "test"),
    "flowers102": _splits("train", "val", "test"),
    "dtd": _splits("train", "val", "test"),
    "aircraft": _splits("test", "val", train="trainval"),
    "country211": _splits("train", "test", val="valid"),
    "fake": {"train": {"random_offset": 0}, "test": {"random_offset": 10**6}},
}
"""Of each torchvision data set, its splits and the arguments of each."""


def is_shapes(source: str | None) -> bool:
    """Whether `source` is the embedded set."""
    return source is None or source.lower() == SHAPES


def folder_of(source: str | None) -> Path | None:
    """Return the path that `source` is; None for a name. An existing path is preferred to a name."""
    if source is None:
        return None
    path = expanded(source)
    meant = os.sep in source or source.startswith((".", "~"))
    return path if meant or is_there(path) else None


def training_folder(folder: Path) -> Path:
    """Return the folder of the training images: `train/` in it, if there is one, else itself."""
    return folder / "train" if is_folder(folder / "train") else folder


def name_and_split(source: str, split: str | None = None) -> tuple[str, str]:
    """Split NAME[:SPLIT]; `split` overrides the one in the name, and `train` is the default.

    Raises:
        DataError: no such name or split.
    """
    name, _, named = source.lower().partition(":")
    split = split or named or "train"
    if name not in SPLITS:
        what = f"There is no folder and no data set called '{shown(source)}'."
        known = [*SPLITS, SHAPES]
        folders = [entry.name for entry in os.scandir() if entry.is_dir() and not entry.name.startswith(".")]
        meant = closest(name, known) or closest(source, folders)
        raise DataError(what, f"Did you mean '{shown(meant)}'?" if meant else did_you_mean(name, known))
    if split not in SPLITS[name]:
        raise DataError(f"'{name}' has no split '{shown(split)}'.", did_you_mean(split, SPLITS[name]))
    return name, split


def require_data(settings: DataSettings) -> None:
    """Refuse data that cannot be opened, before torch is imported.

    Raises:
        DataError: no such folder, no image in it, or no such data set or split.
        UsageError: test images are given for the embedded set, which has its own.
    """
    folder = folder_of(settings.source)
    if folder is not None:
        require_images(training_folder(folder))
    elif not is_shapes(settings.source):
        name_and_split(str(settings.source))
    if settings.test is not None:
        refuse_test_images(settings.source)
        require_images(expanded(settings.test))


def refuse_test_images(source: str | None) -> None:
    """Refuse test images for the embedded set.

    Raises:
        UsageError: `source` is the embedded set, which has its own.
    """
    if folder_of(source) is None and is_shapes(source):
        raise UsageError("The embedded set has test images of its own.", "Give --test-data together with DATA.")
