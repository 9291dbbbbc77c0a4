"""The images that settings name: others to evaluate on, and their folders as absolute paths."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ssl_cli.config.image_list import STDIN, is_list, keep_stdin
from ssl_cli.config.tree import Settings
from ssl_cli.errors import UsageError
from ssl_cli.names import IMAGE_SUFFIXES, expanded, is_folder, is_there, shown


def with_data(
    settings: Settings,
    data: str | tuple[str, ...] | None,
    test_data: str | None,
    limit: int | None,
    machine: Mapping[str, Any] | None = None,
) -> Settings:
    """Replace the images of the settings; a test folder belongs to its data, and is replaced with it."""
    changed: dict[str, Any] = {"download": False, **(machine or {})}
    if data is not None:
        changed |= {"source": data, "test": None, "limit": None, "classes": ()}
        changed |= {"labels": None, "labels_sha256": None, "group_by": changed.get("group_by")}
    if test_data is not None:
        changed["test"] = test_data
    if limit is not None:
        changed["limit"] = limit
    return settings.model_copy(update={"data": settings.data.model_copy(update=changed)})


def same_images(one: Settings, other: Settings) -> bool:
    """Return whether settings name the same images and labels, all of them or as many."""
    return named_images(one) == named_images(other)


def named_images(settings: Settings) -> tuple[object, ...]:
    """Return what names the images and labels in the settings, paths absolute."""
    data = with_absolute_paths(settings).data
    return data.source or "shapes", data.test, data.limit, data.classes, data.labels


def with_absolute_paths(settings: Settings, folder: Path | None = None) -> Settings:
    """Return the settings with absolute paths of images and weights: the run is evaluated and resumed from anywhere.

    Args:
        settings: of the run.
        folder: the run folder, in which a list on stdin is kept.
    """
    data = settings.data
    places = [
        str(keep_stdin(folder)) if folder is not None and place == STDIN and is_list(place) else place
        for place in data.places
    ]
    found: dict[str, Any] = {"source": tuple(map(_absolute, places)) if len(places) > 1 else None}
    if len(places) == 1:
        found["source"] = _absolute(places[0])
    if data.test:
        found["test"] = _absolute(data.test)
    if data.download or is_there(expanded(data.folder)):  # the download makes it
        found["folder"] = str(expanded(data.folder).absolute())
    if data.cache_folder is not None:
        found["cache_folder"] = str(expanded(data.cache_folder).absolute())
    model, start = settings.model, settings.model.init_from
    model = model if start is None else model.model_copy(update={"init_from": str(expanded(start).absolute())})
    return settings.model_copy(update={"data": data.model_copy(update=found), "model": model})


def _absolute(place: str) -> str:
    """Return the absolute path of what is there; a name as it is."""
    path = expanded(place)
    return str(path.absolute()) if is_there(path) else place


def refuse_among_images(output: Path, *folders: str) -> None:
    """Refuse to write what can be read as an image into one of these folders of images or test images.

    Raises:
        UsageError: `output` is below such a folder, and has the ending of an image.
    """
    for name in folders if output.suffix.lower() in IMAGE_SUFFIXES else ():
        folder = expanded(name)
        if is_folder(folder) and output.absolute().resolve().is_relative_to(folder.resolve()):
            what = f"{shown(str(output))} would be among the images of {shown(name)}, and could be read as one of them."
            raise UsageError(what, f"Give a place outside that folder, such as {shown(f'../{output.name}')}.")
