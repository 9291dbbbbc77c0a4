"""Settings of the augmentation: two orders, ranges, and what is said where they are refused."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ssl_cli.config.augment import AugmentSettings
from ssl_cli.config.sources import settle
from ssl_cli.errors import UsageError
from ssl_cli.registry import OPS


def settled(tmp_path: Path, *sets: str) -> AugmentSettings:
    return settle({}, sets, env={}, cwd=tmp_path, user_file=tmp_path / "none").settings.augment


def test_every_operation_has_its_table() -> None:
    assert set(AugmentSettings.model_fields) == {"order", "second", *OPS}


def test_without_a_second_order_there_is_one(tmp_path: Path) -> None:
    assert settled(tmp_path).second is None


def test_the_composition_study_by_settings_alone(tmp_path: Path) -> None:
    augment = settled(
        tmp_path,
        "augment.order=['crop','sobel','noise']",
        "augment.second=['crop']",
        "augment.crop.scale=[1,1]",
        "augment.crop.ratio=[1,1]",
        "augment.noise.sigma=[0.1,0.2]",
        "augment.sobel.p=1",
    )
    assert (augment.order, augment.second) == (("crop", "sobel", "noise"), ("crop",))
    assert (augment.crop.scale, augment.crop.ratio) == ((1, 1), (1, 1))
    assert (augment.noise.sigma, augment.sobel.p) == ((0.1, 0.2), 1)
    assert AugmentSettings.model_validate_json(augment.model_dump_json()) == augment


@pytest.mark.parametrize(
    ("sets", "message", "hint"),
    [
        (["augment.second=['crop','sobbel']"], "no operation 'sobbel'", "Did you mean 'sobel'?"),
        (["augment.second=['flip']"], "the first operation must be 'crop'", ""),
        (["augment.second=[]"], "the first operation must be 'crop'", ""),
        (["augment.second=['crop','flip','flip']"], "an operation stands twice", ""),
        (["augment.second=['crop','normalize','flip']"], "'normalize' must be the last", ""),
        (["augment.second=['crop','normalize']"], "in both 'order' and 'second', or in neither", ""),
        (["augment.order=['crop','normalize']", "augment.second=['crop']"], "in both 'order' and 'second'", ""),
        (["augment.cutout.size=[0.5,1.5]"], "a range of fractions ends at 1", ""),
        (["augment.cutout.size=[0,0.5]"], "a range is two positive numbers", ""),
        (["augment.cutout.fill=2"], "less than or equal to 1", ""),
        (["augment.noise.sigma=[0.2,0.1]"], "the smaller one first", ""),
        (["augment.solarize.threshold=1.5"], "less than or equal to 1", ""),
        (["augment.rotate.p=-1"], "greater than or equal to 0", ""),
    ],
)
def test_what_is_said_of_the_impossible(tmp_path: Path, sets: list[str], message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        settled(tmp_path, *sets)
    assert sets[-1].partition("=")[0] in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("values", [{"order": ("crop", "warp"), "second": ("crop",)}, {"second": ("crop", "warp")}])
def test_a_wrong_name_in_either_order_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="no operation 'warp'"):
        AugmentSettings.model_validate(values)
