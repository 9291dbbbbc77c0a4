"""The images that settings name: others to evaluate on, and their folders as absolute paths."""

from collections.abc import Mapping
from typing import Any

from ssl_cli.config.tree import Settings
from ssl_cli.names import expanded


def with_data(
    settings: Settings,
    data: str | None,
    test_data: str | None,
    limit: int | None,
    machine: Mapping[str, Any] | None = None,
) -> Settings:
    """Replace the images of the settings; a test folder belongs to its data, and is replaced with it."""
    changed: dict[str, Any] = {"download": False, **(machine or {})}
    if data is not None:
        changed |= {"source": data, "test": None, "limit": None, "classes": ()}
        changed |= {"labels": None, "labels_sha256": None}
    if test_data is not None:
        changed["test"] = test_data
    if limit is not None:
        changed["limit"] = limit
    return settings.model_copy(update={"data": settings.data.model_copy(update=changed)})


def with_absolute_paths(settings: Settings) -> Settings:
    """Return the settings with absolute paths of images and weights: the run is evaluated and resumed from anywhere."""
    data = settings.data
    named = {name: expanded(value) for name in ("source", "test", "folder") if (value := getattr(data, name))}
    made = {"folder"} if data.download else set()  # by the download
    found = {name: str(path.absolute()) for name, path in named.items() if name in made or path.exists()}
    model, start = settings.model, settings.model.init_from
    model = model if start is None else model.model_copy(update={"init_from": str(expanded(start).absolute())})
    return settings.model_copy(update={"data": data.model_copy(update=found), "model": model})
