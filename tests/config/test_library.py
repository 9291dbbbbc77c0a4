"""Backbones of other libraries: a recipe's settings of its own network are left out, a user's are refused."""

from pathlib import Path
from typing import Any

import pytest

from ssl_cli.config.sources import Settled, settle
from ssl_cli.config.tree import SHAPING, ModelSettings, Settings
from ssl_cli.errors import UsageError

NAME = "torchvision:swin_t"


def settled(tmp_path: Path, *sets: str, flags: dict[str, Any] | None = None, config: Path | None = None) -> Settled:
    user, names = tmp_path / "none", {"model.width": "--width", "model.backbone": "--backbone"}
    return settle(flags or {}, sets, config, env={}, cwd=tmp_path, user_file=user, flag_names=names)


def shape(model: ModelSettings) -> tuple[Any, ...]:
    return tuple(getattr(model, name) for name in SHAPING)


@pytest.mark.parametrize("family", ["shapes", "cifar", "imagenet"])
def test_the_recipes_own_network_is_left_out(tmp_path: Path, family: str) -> None:
    ours = settled(tmp_path, f"run.recipe={family}")
    theirs = settled(tmp_path, f"run.recipe={family}", flags={"model": {"backbone": NAME}})
    assert shape(ours.settings.model) != shape(ModelSettings())
    assert shape(theirs.settings.model) == shape(ModelSettings())
    assert {theirs.origins[f"model.{name}"] for name in SHAPING} == {"default"}
    assert theirs.settings.model.bn_group == ours.settings.model.bn_group  # its maths stays
    assert theirs.settings.model.title == NAME
    assert Settings.model_validate(theirs.settings.model_dump(mode="json")) == theirs.settings


@pytest.mark.parametrize("given", ["width=0.5", "stem=cifar", "zero_init=true", "sk=true", "init=default"])
def test_what_a_user_says_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(UsageError, match=given.partition("=")[0]) as caught:
        settled(tmp_path, f"model.{given}", flags={"model": {"backbone": NAME}})
    assert caught.value.code == 2


def test_a_flag_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"width cannot be set for {NAME}"):
        settled(tmp_path, flags={"model": {"backbone": NAME, "width": 0.5}})
    settled(tmp_path, flags={"model": {"backbone": NAME, "width": 1.0}})  # what it is anyway


def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(f"[model]\nbackbone = '{NAME}'\nwidth = 0.5\n", encoding="utf-8")
    with pytest.raises(UsageError, match="width cannot be set"):
        settled(tmp_path, f"run.recipe={recipe}")


def test_views_that_grow_are_for_our_own_networks(tmp_path: Path) -> None:
    settled(tmp_path, "schedule.resolution=[0.5,0.8]", flags={"model": {"backbone": "resnet18"}})
    settled(tmp_path, "schedule.resolution=[1,1]", flags={"model": {"backbone": NAME}})
    with pytest.raises(UsageError, match="views of one size"):
        settled(tmp_path, "schedule.resolution=[0.5,0.8]", flags={"model": {"backbone": NAME}})


@pytest.mark.parametrize("name", ["torchvision", "torchvision:", "timm", "tim:resnet18", "torchvison:resnet18"])
def test_half_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="there is no backbone") as caught:
        settled(tmp_path, flags={"model": {"backbone": name}})
    assert caught.value.hint
