"""Recipes: settings as TOML files, one for each method and family of images; most are those of the papers."""

import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

from ssl_cli.config.toml_file import TomlFile, read_toml
from ssl_cli.errors import UsageError
from ssl_cli.names import is_file, shown
from ssl_cli.registry import FAMILIES, METHODS, TRANSFERS, did_you_mean

SIDES = {"cifar10": 32, "cifar100": 32, "svhn": 32, "mnist": 28, "fashionmnist": 28, "stl10": 96, "fake": 224}
"""Short sides of torchvision's data sets in pixels; those of the others differ, and are larger."""
VARIANTS = ("finetune.simclr",)
"""Methods whose recipes, in some families, are others for runs that were pretrained by the method behind the dot."""
_FOLDER = Path(str(resources.files("ssl_cli") / "recipes"))


def read_recipe(method: str, wanted: str) -> TomlFile:
    """Read the recipe of a family, or the one in a TOML file.

    A user's own method has no recipe of ours: it starts from SimCLR's, whose table `method` then holds only the
    settings that every method has.

    Raises:
        UsageError: there is no such family, no recipe for this method in it, or no such file.
    """
    if wanted.endswith(".toml") or is_file(Path(wanted)):
        return read_toml(Path(wanted), f"recipe {wanted}")
    if wanted not in FAMILIES:
        raise UsageError(f"There is no recipe family '{shown(wanted)}'.", did_you_mean(wanted, FAMILIES))
    file = recipe_file(method, wanted)
    if _written_for(method) == method:
        return file
    from ssl_cli.config.methods import MethodSettings  # late: listing recipes needs no settings tree

    of_all = {f"method.{name}" for name in MethodSettings.model_fields if name != "name"}
    own = {key: value for key, value in file.values.items() if key in of_all or not key.startswith("method.")}
    return replace(file, values=own)


def recipe_file(method: str, family: str) -> TomlFile:
    """Read the recipe of this family as it is written: the method's own, or for a user's method SimCLR's.

    Raises:
        UsageError: the method has none in this family.
    """
    have = families(method)
    if family not in have:
        hint = f"{shown(method)} has {', '.join(have)}: try --recipe {have[-1]}, or a FILE."
        raise UsageError(f"There is no recipe '{_written_for(method)}.{family}'.", hint)
    return read_toml(_path(method, family), f"recipe {_path(method, family).stem}")


def families(method: str) -> list[str]:
    """Return the families in which this method has a recipe, that of the largest images last."""
    return [family for family in FAMILIES if is_file(_path(method, family))]


def citations(text: str) -> dict[str, str]:
    """Return the source that a recipe cites for each value, by dotted key: the comment behind it."""
    found: dict[str, str] = {}
    table = ""
    for line in text.splitlines():
        if header := re.match(r"\[([\w.]+)\]", line):
            table = header[1]
        elif cited := re.match(r"(\w+) = .*?\s#\s*(\S.*)", line):
            found[f"{table}.{cited[1]}"] = cited[2]
    return found


def variant(method: str, pretrained: str, family: str) -> str:
    """Return the method whose recipe is meant: one for runs that `pretrained` trained, where there is one."""
    name = f"{method}.{pretrained}"
    return name if name in VARIANTS and family in families(name) else method


def _written_for(method: str) -> str:
    return method if method in (*METHODS, *TRANSFERS, *VARIANTS) else "simclr"


def _path(method: str, family: str) -> Path:
    return _FOLDER / f"{_written_for(method)}.{family}.toml"


def family_of(source: str | None) -> str:
    """Return the family that suits the data: `shapes` for the embedded set, `own` for all other images.

    Those of the papers are for their own data sets and budgets, and are asked for by name.
    """
    return "shapes" if source is None or source.lower() == "shapes" else "own"


def known_side(source: str | tuple[str, ...] | None) -> float | None:
    """Return the short side in pixels of the images of a set that is known by its name; None of others."""
    if isinstance(source, tuple):
        return known_side(source[0])
    if source is None or family_of(source) == "shapes":
        return 32
    return SIDES.get(source.partition(":")[0].lower())
