"""Collect the images of DATA, which is one place or several: folders, lists and archives, without torch."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ssl_cli.config.image_list import STDIN, is_list
from ssl_cli.data import archive, listed
from ssl_cli.data.layout import TEST, TRAIN, VAL, Layout
from ssl_cli.data.part import Folder, Part, numbered, top_folders
from ssl_cli.data.search import archives_in, find_images, layout_of, require_images
from ssl_cli.errors import DataError
from ssl_cli.names import expanded, is_folder, shown


@dataclass(frozen=True)
class _Place:
    """One of the places that DATA names.

    Attributes:
        name: as it was given.
        path: None for stdin.
        layout: of a folder.
        whole: all of it is of the split, by the archive's name.
    """

    name: str
    path: Path | None
    layout: Layout | None = None
    whole: bool = False

    def root(self, split: str) -> Path | None:
        """Return the folder of a split's images; None: it has none."""
        if self.path is None or self.layout is None:
            return None
        below = self.layout.train if split == TRAIN else self.layout.test
        return None if below is None else self.path / below

    def top(self, split: str) -> Path | None:
        """Return the real path of the folder of a split's images, of the list or of the archive; None: it has none."""
        path = self.root(split) if self.layout else self.path
        return None if path is None else Path(os.path.realpath(path))

    @property
    def note(self) -> str:
        """What was gone through and not used."""
        return "; ".join(self.layout.notes) if self.layout else ""

    @property
    def kind(self) -> str:
        """`folder`, `list` or `archive`."""
        return "folder" if self.layout else "list" if self.path is None or is_list(self.name) else "archive"


def training_parts(places: Sequence[str]) -> list[Part]:
    """Collect the training images of places.

    Raises:
        DataError: there is no such place, or no image in it.
    """
    return _parts(places, TRAIN)


def test_parts(places: Sequence[str]) -> list[Part]:
    """Collect the test images that places have of their own; none where no place has any; errors as above."""
    return _parts(places, TEST)


def given_parts(place: str) -> list[Part]:
    """Collect the images of a place that is given as test images: its own test images, or all; errors as above."""
    return test_parts([place]) or training_parts([place])


def folder_part(root: Path, note: str = "") -> Part:
    """Collect the images below a folder; the label of one is the first folder below it.

    Raises:
        DataError: not a folder, or no image in it.
    """
    found = find_images(root)
    notes = tuple(filter(None, [note, found.passed.note()]))
    labels = top_folders(found.names, os.sep)
    return Part(str(root), found.names, Folder(str(root)), labels, notes=notes, skipped=tuple(found.skipped))


def plain_folder(place: str) -> tuple[Path, str] | None:
    """Return the folder of the training images and what was gone through; None: the place is a list or archives.

    Raises:
        DataError: there is no such place, or a folder whose splits are not clear.
    """
    found = _resolved([place], TRAIN)
    root = found[0].root(TRAIN) if len(found) == 1 else None
    return None if root is None else (root, found[0].note)


def require_places(places: Sequence[str]) -> None:
    """Refuse places that `training_parts` would refuse, as far as the first images of each show it.

    Raises:
        DataError: there is no such place, or no image in it.
    """
    for place in _resolved(places, TRAIN):
        if (root := place.root(TRAIN)) is not None:
            require_images(root)
        elif place.kind == "list":
            listed.require(place.path)
        elif place.path is not None:
            archive.parts(place.path, TRAIN)


def refuse_overlap(places: Sequence[str], test: str) -> None:
    """Refuse a folder of test images that are training images: it is a folder of DATA, lies in one, or holds one.

    Raises:
        DataError: it is; or there is no such place.
    """
    own = [place.top(TEST) or place.top(TRAIN) for place in _resolved([test], TEST)]
    for place in _resolved(places, TRAIN):
        if any(_meet(place.top(TRAIN), other) for other in own):
            what = f"The test images, {shown(test)}, are among the training images, {shown(place.name)}."
            raise DataError(what, "Give others, or leave --test-data out: a fifth of each class is held out then.")


def _meet(one: Path | None, other: Path | None) -> bool:
    if one is None or other is None or not (is_folder(one) and is_folder(other)):
        return one is not None and one == other
    return one.is_relative_to(other) or other.is_relative_to(one)


def _refuse_repeated(places: Sequence[_Place], split: str) -> None:
    """Refuse a place that is given twice, or a folder in another one.

    Raises:
        DataError: there is one.
    """
    seen, twice = dict[Path, str](), "so that its images would be there twice"
    for place in places:
        if (top := place.top(split)) is None:
            continue
        if top in seen:
            raise DataError(f"{shown(place.name)} is given more than once, {twice}.", "Give it once.")
        seen[top] = place.name
    for top, name in seen.items():
        above = next((seen[folder] for folder in top.parents if folder in seen), None) if is_folder(top) else None
        if above is not None:
            what = f"{shown(name)} lies in {shown(above)}, {twice}."
            raise DataError(what, f"Leave {shown(name)} out: folders are read at any depth.")


def _resolved(places: Sequence[str], split: str) -> list[_Place]:
    """Look what each place is; a folder that holds archives and no image stands for those.

    Of archives, those of the split are returned, where their names say so, as that of `train-0001.tar`.
    """
    found = list[_Place]()
    for name in places:
        path = expanded(name)
        if is_list(name):
            found.append(_Place(name, None if name == STDIN else path))
        elif archive.is_archive(path):
            found.append(_Place(name, path))
        else:
            layout = layout_of(path)
            shards = _shards(path, layout)
            found += [_Place(shard, Path(shard)) for shard in shards] or [_Place(name, path, layout)]
    _refuse_repeated(found, split)
    splits = [archive.split_in(place.name) if place.kind == "archive" else None for place in found]
    if TRAIN not in splits:
        return found
    wanted = TRAIN if split == TRAIN else TEST if TEST in splits else VAL
    return [replace(place, whole=of == wanted) for place, of in zip(found, splits, strict=True) if of in (wanted, None)]


def _shards(folder: Path, layout: Layout) -> list[str]:
    """Return the archives in a folder, or its wrapping folder, that holds no image; none where it has splits."""
    if layout.test is not None or layout.train != layout.through:
        return []
    found = archives_in(folder / layout.train, archive.ENDINGS)
    try:
        if found:
            require_images(folder / layout.train)
    except DataError:
        return found
    return []


def _parts(places: Sequence[str], split: str) -> list[Part]:
    found = list[tuple[str, Part]]()
    for place in _resolved(places, split):
        if place.kind == "folder":
            root = place.root(split)
            splits = place.layout.splits if place.layout else ()
            parts = [] if root is None else [replace(folder_part(root, place.note), splits=splits)]
        elif place.kind == "list":
            parts = listed.parts(place.path, split)
        else:
            assert place.path is not None
            parts = archive.parts(place.path, TRAIN if place.whole else split)
            if place.whole and (whole := archive.split_in(place.name)):
                parts = [replace(part, splits=(whole,)) for part in parts]
        found += [(place.name, part) for part in parts]
    return _named(found) if len(found) > 1 else [part for _, part in found]


def _named(found: Sequence[tuple[str, Part]]) -> list[Part]:
    """Give each part the name of its place as a prefix, with as many of the folders above as make it unique.

    Where no part has labels, each of several folders is a class.
    """
    paths = [Path(os.path.abspath(expanded(place))) for place, _ in found]  # noqa: PTH100
    depth, deepest = 1, max(len(path.parts) for path in paths)
    while depth < deepest and len({path.parts[-depth:] for path in paths}) < len({*paths}):
        depth += 1
    names = ["/".join(part for part in path.parts[-depth:] if part != os.sep) for path in paths]
    parts = [replace(part, prefix=name) for (_, part), name in zip(found, names, strict=True)]
    if any(part.labels.names or not isinstance(part.storage, Folder) for part in parts):
        return parts
    return [replace(part, labels=numbered([part.prefix] * len(part))) for part in parts]
