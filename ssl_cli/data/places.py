"""Resolve DATA to a folder, the embedded set or a torchvision data set, without torch and before any image is read."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ssl_cli.config.image_list import STDIN
from ssl_cli.config.tree import DataSettings
from ssl_cli.data.collect import refuse_overlap, require_places
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


def is_shapes(places: Sequence[str]) -> bool:
    """Whether DATA is the embedded set."""
    return not places or (len(places) == 1 and places[0].lower() == SHAPES)


def is_path(source: str) -> bool:
    """Whether DATA is a folder, a list or an archive, and no name. An existing path is preferred to a name."""
    meant = os.sep in source or source == STDIN or source.startswith((".", "~"))
    return meant or is_there(expanded(source))


def are_paths(places: Sequence[str]) -> bool:
    """Whether DATA is folders, lists and archives; several places are always.

    Raises:
        DataError: there are several, and one of them is not there.
    """
    if len(places) > 1:
        for place in places:
            if not is_path(place):
                what = f"There is no folder, list or archive called '{shown(place)}'."
                raise DataError(what, "Of several DATA, each is a path; the name of a data set stands alone.")
    return bool(places) and is_path(places[0])


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
        folders = [entry.name for entry in os.scandir() if is_folder(Path(entry)) and not entry.name.startswith(".")]
        meant = closest(name, known) or closest(source, folders)
        raise DataError(what, f"Did you mean '{shown(meant)}'?" if meant else did_you_mean(name, known))
    if split not in SPLITS[name]:
        raise DataError(f"'{name}' has no split '{shown(split)}'.", did_you_mean(split, SPLITS[name]))
    return name, split


def not_in_folder(name: str, folder: str) -> DataError:
    """Return the error about a torchvision data set that is not in the folder of data sets."""
    hint = "Add --download, or set SSLCLI_DATA__FOLDER to the folder that holds it."
    return DataError(f"'{name}' is not in the data folder '{shown(folder)}'.", hint)


def require_data(settings: DataSettings) -> None:
    """Refuse data that cannot be opened, before torch is imported.

    Raises:
        DataError: no such folder, no image in it, no such data set or split, or none here.
        UsageError: test images are given for the embedded set, which has its own, or groups for a set of a name.
    """
    if are_paths(settings.places):
        require_places(settings.places)
        _require_test(settings)
        return
    if settings.group_by is not None or settings.positives == "group":
        name = settings.places[0] if settings.places else SHAPES
        what = f"The images of '{shown(name)}' have no groups."
        raise UsageError(what, "Groups belong to folders, lists and archives: give one as DATA.")
    if not is_shapes(settings.places):
        name, _ = name_and_split(settings.places[0])
        if name != "fake" and not settings.download and not is_folder(expanded(settings.folder)):
            raise not_in_folder(name, settings.folder)
    _require_test(settings)


def _require_test(settings: DataSettings) -> None:
    if settings.test is not None:
        refuse_test_images(settings.places)
        require_places([settings.test])
        if are_paths(settings.places):
            refuse_overlap(settings.places, settings.test)


def refuse_test_images(places: Sequence[str]) -> None:
    """Refuse test images for the embedded set.

    Raises:
        UsageError: DATA is the embedded set, which has its own.
    """
    if not are_paths(places) and is_shapes(places):
        raise UsageError("The embedded set has test images of its own.", "Give --test-data together with DATA.")
