"""Map the names of methods, backbones and operations to import paths; nothing is imported before it is used."""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from ssl_cli.errors import UsageError
from ssl_cli.names import is_file, shown

METHODS = {
    "instdisc": "ssl_cli.methods.instdisc:InstDisc",
    "invaspread": "ssl_cli.methods.invaspread:InvaSpread",
    "moco-v1": "ssl_cli.methods.moco:MoCo",
    "moco-v2": "ssl_cli.methods.moco:MoCo",
    "simclr": "ssl_cli.methods.simclr:SimCLR",
    "simclr-v2": "ssl_cli.methods.simclr_v2:SimCLRv2",
}
TRANSFERS = {
    "finetune": "ssl_cli.transfer.finetune:FineTune",
    "distill": "ssl_cli.transfer.distill:Distill",
}
"""What trains on from a run, by the command of that name; no methods of pretraining."""
BACKBONES = {
    "resnet18": "ssl_cli.nn.resnet:resnet18",
    "resnet34": "ssl_cli.nn.resnet:resnet34",
    "resnet50": "ssl_cli.nn.resnet:resnet50",
    "resnet101": "ssl_cli.nn.resnet:resnet101",
    "resnet152": "ssl_cli.nn.resnet:resnet152",
}
BACKBONE_LIBRARIES = ("torchvision", "timm")
"""Libraries whose networks are named LIBRARY:NAME."""
H, Z = FEATURES = ("h", "z")
"""What an encoder gives: the backbone's output, and the projector's."""
OPS = {
    "crop": "ssl_cli.augment.crop:Crop",
    "flip": "ssl_cli.augment.flip:Flip",
    "rotate": "ssl_cli.augment.rotate:Rotate",
    "cutout": "ssl_cli.augment.cutout:Cutout",
    "jitter": "ssl_cli.augment.jitter:Jitter",
    "gray": "ssl_cli.augment.gray:Gray",
    "solarize": "ssl_cli.augment.solarize:Solarize",
    "blur": "ssl_cli.augment.blur:Blur",
    "noise": "ssl_cli.augment.noise:Noise",
    "sobel": "ssl_cli.augment.sobel:Sobel",
    "normalize": "ssl_cli.augment.normalize:Normalize",
}
SWEPT = tuple(name for name in OPS if name != "normalize")
"""Operations with a strength, or that are on or off; the others are the same for every view."""
BENCHES = ("step", "augment", "loader", "loss", "knn")
"""The keys of `bench.parts.PARTS`."""
TrackerName = Literal["tensorboard", "wandb", "mlflow", "trackio"]
TRACKERS: tuple[TrackerName, ...] = get_args(TrackerName)
"""Trackers, each named as the package that it needs and as the extra that installs it."""
FAMILIES = ("own", "shapes", "cifar", "stl10", "imagenet")


def is_library_backbone(backbone: str) -> bool:
    """Return whether a backbone's name is of the form LIBRARY:NAME; the library is not asked whether it has one."""
    library, _, name = backbone.partition(":")
    return library in BACKBONE_LIBRARIES and bool(name)


def closest(word: str, words: Iterable[str]) -> str | None:
    """Return the closest of `words`, ignoring case, or None if none is close."""
    known = {other.lower(): other for other in sorted(words, reverse=True)}
    close = difflib.get_close_matches(word.lower(), known, n=1)
    return known[close[0]] if close else None


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a hint that names the closest of `words`, or lists them all."""
    known = sorted(words)
    close = closest(word, known)
    return f"Did you mean '{close}'?" if close else f"Known: {', '.join(known)}."


def method_path(name: str) -> str:
    """Return the import path `module:Class` of a method: built in, of an entry point, or the user's own as it is.

    Raises:
        UsageError: no such method.
    """
    if ":" in name:
        file = Path(name.rpartition(":")[0])
        if file.suffix == ".py" and not is_file(file):
            raise UsageError(f"There is no file {shown(str(file))} with a method in it.", "Write it as file.py:Class.")
        return name
    if name in METHODS or name in TRANSFERS:
        return METHODS.get(name) or TRANSFERS[name]
    from importlib.metadata import entry_points  # late: it reads every installed package's list

    plugins = {point.name: point.value for point in entry_points(group="sslcli.methods")}
    if name in plugins:
        return plugins[name]
    if name.endswith(".py"):
        raise UsageError(f"'{shown(name)}' names a file, not a method.", f"Name the class in it: {name}:Class.")
    raise UsageError(f"There is no method '{shown(name)}'.", did_you_mean(name, [*METHODS, *plugins]))


def load(path: str) -> Any:
    """Import the object named by `module:Name` or `file.py:Name`.

    Raises:
        UsageError: the module, the file or the name does not exist.
    """
    module_name, _, name = path.rpartition(":")
    try:
        if module_name.endswith(".py"):
            module = _module_from_file(Path(module_name))
        else:
            module = importlib.import_module(module_name)
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise UsageError(f"Cannot load '{path}': {error}.", "Write it as module:Class or file.py:Class.") from error
    except Exception as error:
        if module_name.startswith("ssl_cli."):
            raise
        what = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"'{path}' fails when it is imported: {what}.", "Correct the file; --debug shows where."
        ) from error
    if not hasattr(module, name):
        near = closest(name, vars(module))
        raise UsageError(
            f"There is no '{name}' in {module_name}.", f"Did you mean '{near}'?" if near else "Name a class in it."
        )
    return getattr(module, name)


def _module_from_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # leaves no __pycache__ in a user's folder
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module
