"""Recipes: the papers' settings as TOML files, one for each method and family of images."""

import os
import statistics
import warnings
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from ssl_cli.config.layer import Layer, read_layer
from ssl_cli.config.methods import MethodSettings
from ssl_cli.config.tree import CIFAR_UP_TO
from ssl_cli.errors import UsageError
from ssl_cli.names import IMAGE_SUFFIXES, is_file, is_there, shown
from ssl_cli.registry import FAMILIES, METHODS, did_you_mean

SMALL_SETS = {"cifar10", "cifar100", "svhn", "mnist", "fashionmnist", "kmnist"}
_PEEKED = 32
_FOLDER = Path(str(resources.files("ssl_cli") / "recipes"))


def recipe_layer(method: str, wanted: str) -> Layer:
    """The recipe of a family, or the one in a TOML file.

    A user's own method has no recipe of ours: it starts from SimCLR's, of which only the settings that every method
    has remain in the table `method`.

    Raises:
        UsageError: there is no such family, no recipe for this method in it, or no such file.
    """
    if wanted.endswith(".toml") or is_file(Path(wanted)):
        return read_layer(Path(wanted), f"recipe {wanted}")
    if wanted not in FAMILIES:
        raise UsageError(f"There is no recipe family '{shown(wanted)}'.", did_you_mean(wanted, FAMILIES))
    if method in METHODS:
        path = _FOLDER / f"{method}.{wanted}.toml"
        if not path.is_file():
            have = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.toml")))
            raise UsageError(f"There is no recipe '{method}.{wanted}'.", f"There are {have}; or pass --recipe FILE.")
        return read_layer(path, f"recipe {path.stem}")
    base = recipe_layer("simclr", wanted)
    shared = MethodSettings.model_fields.keys() - {"name"}
    own = {name: value for name, value in base.table["method"].items() if name in shared}
    return Layer(base.origin, {**base.table, "method": own})


def family_of(source: str | None, size: Any) -> str:
    """The family that suits the data: its name where it is known, else the size asked for, else the images'."""
    if source is None or source == "shapes":
        return "shapes"
    if size is not None:
        return "cifar" if _at_most(size, CIFAR_UP_TO) else "imagenet"
    path = Path(source).expanduser()
    if not is_there(path):
        return "cifar" if source.partition(":")[0].lower() in SMALL_SETS else "imagenet"
    side = median_side(path)
    return "cifar" if side is not None and side <= CIFAR_UP_TO else "imagenet"


def _at_most(size: Any, limit: int) -> bool:
    try:
        return int(size) <= limit
    except (TypeError, ValueError, OverflowError):
        return False  # no number; the tree will say so


def median_side(folder: Path) -> float | None:
    """Median short side in pixels of a few images, read from their headers; None where there is none."""
    from PIL import Image  # late: most commands need no picture

    sides: list[int] = []
    for path in _some_images(folder):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a huge image; here only its size is read
                with Image.open(path) as image:
                    sides.append(min(image.size))
        except Exception:  # a broken file may raise anything; the loader reports it with its reason
            continue
    return statistics.median(sides) if sides else None


def _some_images(folder: Path) -> Iterator[Path]:
    """Up to 32 image files, without walking the whole of a large folder."""
    found = 0
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Path(root, name)
                found += 1
                if found == _PEEKED:
                    return
