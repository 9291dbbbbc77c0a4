"""The settings of a run with other images, to evaluate it on."""

from collections.abc import Mapping
from typing import Any

from ssl_cli.config.tree import Settings


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
        changed |= {"source": data, "test": None, "limit": None}
    if test_data is not None:
        changed["test"] = test_data
    if limit is not None:
        changed["limit"] = limit
    return settings.model_copy(update={"data": settings.data.model_copy(update=changed)})
