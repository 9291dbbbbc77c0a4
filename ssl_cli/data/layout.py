"""How images lie in folders, on disk or in an archive: wrapping folders, splits and classes."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ssl_cli.errors import DataError
from ssl_cli.names import shown

TRAIN, VAL, TEST = "train", "val", "test"
SPLITS = {
    "train": TRAIN, "training": TRAIN, "trainval": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "dev": VAL,
    "eval": VAL, "test": TEST, "testing": TEST,
}  # fmt: skip
"""The usual names of splits, in any case."""
_AROUND = {"", "set", "data", "dataset", "split", "image", "images", "img", "imgs"}
"""Words around them in the names of folders, such as `training_set` and `imgs_train`."""
_BETWEEN = re.compile(r"[\s_.-]+|(?<=[a-z])(?=\d{4}$)")
_WORDS = re.compile(r"\d+|[A-Z]?[^\W\d_A-Z]+|[A-Z]+")
_DEEPEST, _NAMED = 16, 3

Look = Callable[[str], tuple[Sequence[str], bool]]
"""Return the folders in a folder, which is named relative to the root with `/` (empty: the root), and whether an image
lies in it."""


@dataclass(frozen=True)
class Layout:
    """Where the images lie, by folders relative to the root; empty: the root itself.

    Attributes:
        train: of the training images.
        test: of the test images; None: there are none of their own.
        through: the wrapping folder that was gone through.
        splits: names of the folders of all splits there are.
        unused: folders next to them, which are of no split; `.`: images next to them.
        mixed: a class that holds splits of its own, all of which are used.
    """

    train: str = ""
    test: str | None = None
    through: str = ""
    splits: tuple[str, ...] = field(default=(), compare=False)
    unused: tuple[str, ...] = field(default=(), compare=False)
    mixed: str = field(default="", compare=False)

    @property
    def notes(self) -> tuple[str, ...]:
        """Phrases on what was gone through, and on folders of no split."""
        notes: tuple[str, ...] = (f"gone through {shown(self.through)}/",) if self.through else ()
        notes += (f"{shown(self.mixed)}/ has splits of its own, all of which are used",) if self.mixed else ()
        names = ", ".join(f"{shown(name)}/" for name in self.unused[:_NAMED]) + ", ..." * (len(self.unused) > _NAMED)
        return (*notes, f"of no split, so not used: {names}") if names else notes


def split_of(name: str) -> str | None:
    """Return `train`, `val` or `test` for a usual name of a split in any case; None for any other.

    Words around it and a year count as well: `training_set`, `Test-Images`, `trainset`, `val2017`.
    """
    name = name.lower()
    if name in SPLITS:
        return SPLITS[name]
    words = [word.removesuffix("set") for word in _BETWEEN.split(name) if not (word.isdigit() and len(word) == 4)]
    found = [SPLITS[word] for word in words if word in SPLITS]
    return found[0] if len(found) == 1 and {*words} - {*SPLITS} <= _AROUND else None


def find_layout(look: Look, where: str) -> Layout:
    """Find splits and classes; a folder that holds one folder and no image is gone through, unless that is a class.

    Args:
        look: lists a folder.
        where: the root, for messages.

    Raises:
        DataError: there are test images and no training images, or two folders for one split.
    """
    below = ""
    for _ in range(_DEEPEST):
        folders, images = look(below)
        splits = _splits(folders, lambda name, below=below: look(_join(below, name)), where)  # type: ignore[misc]
        if splits is not None:
            train, test, *others = splits
            found = tuple(name for name in (train, test, *others) if name)
            others = [name for name in folders if split_of(name) is None and name not in found]
            unused = ["."] * images + [name for name in others if any(look(_join(below, name)))]
            inner, depth = _within(look, _join(below, train), _DEEPEST)
            tested = _within(look, _join(below, test), depth)[0] if test else None
            return Layout(inner, tested, below, found, tuple(unused))
        if not (inner := _within(look, below, 1)[0].removeprefix(below)):
            break
        below = _join(below, inner.strip("/"))
    return Layout(below, None, below, mixed=_mixed(look, below))


def _within(look: Look, below: str, deepest: int) -> tuple[str, int]:
    """Go down while a folder holds one folder and no image, unless that is a class; return how often, too."""
    for depth in range(deepest):
        folders, images = look(below)
        if images or len(folders) != 1:
            return below, depth
        within, images = look(_join(below, folders[0]))
        if images or not within:  # it is a class
            return below, depth
        below = _join(below, folders[0])
    return below, deepest


def _mixed(look: Look, below: str) -> str:
    """Return the first folder if it holds splits of its own; empty: it does not."""
    first = next(iter(look(below)[0]), "")
    found = {split_of(name) for name in look(_join(below, first))[0]} if first else set[str | None]()
    return first if TRAIN in found and found & {VAL, TEST} else ""


def _splits(
    folders: Sequence[str], look: Callable[[str], tuple[Sequence[str], bool]], where: str
) -> tuple[str, ...] | None:
    """Return the folders of training images, of test images (empty: none) and of others; None: they are no splits."""
    found: dict[str, list[str]] = {}
    for name in folders:
        if (split := split_of(name)) is not None:
            found.setdefault(split, []).append(name)
    found = found if TRAIN in found else _alike(folders) or found
    if TRAIN not in found:
        if len(found) == 2 and sum(map(len, found.values())) == len(folders):
            both = " and ".join(f"{shown(name)}/" for names in found.values() for name in names)
            what = f"{shown(where)} holds {both}, and no folder of training images."
            raise DataError(what, "Give the folder of the training images, and --test-data for the others.")
        return None
    if len(found) == 1 and len(folders) > len(found[TRAIN]) and not look(found[TRAIN][0])[0]:
        return None  # a class of that name among others
    for split, names in found.items():
        if len(names) > 1:
            both = " and ".join(f"{shown(name)}/" for name in names)
            what = f"{shown(where)} holds {both}: which are the {'training' if split == TRAIN else split} images?"
            raise DataError(what, "Rename one, or give the folder itself, and --test-data for the test images.")
    tests = found.get(TEST) or found.get(VAL) or [""]
    others = [name for names in found.values() for name in names if name not in (found[TRAIN][0], tests[0])]
    return found[TRAIN][0], tests[0], *others


def _alike(folders: Sequence[str]) -> dict[str, list[str]]:
    """Return by split the folders whose names differ in it alone, such as `seg_train` and `seg_test`; empty: none."""
    of: dict[tuple[str, ...], dict[str, list[str]]] = {}
    for name in folders:
        words = [word.lower() for word in _WORDS.findall(name)]
        places = [place for place, word in enumerate(words) if word in SPLITS]
        if len(places) == 1:
            rest = (*words[: places[0]], "", *words[places[0] + 1 :])
            of.setdefault(rest, {}).setdefault(SPLITS[words[places[0]]], []).append(name)
    found: dict[str, list[str]] = {}
    for splits in of.values():
        for split, names in splits.items() if TRAIN in splits and len(splits) > 1 else ():
            found.setdefault(split, []).extend(names)
    return found


def _join(*parts: str) -> str:
    return "/".join(part for part in parts if part)
