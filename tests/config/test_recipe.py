"""Recipes: each cites every value, fits the tree, and says what the papers say; the family suits the images."""

import re
from pathlib import Path

import pytest
from PIL import Image

from ssl_cli.config import recipe
from ssl_cli.config.layer import flatten
from ssl_cli.config.methods import method_settings
from ssl_cli.config.recipe import family_of, median_side, recipe_layer
from ssl_cli.config.sources import settle
from ssl_cli.errors import UsageError
from ssl_cli.registry import FAMILIES, METHODS

FOLDER = Path(recipe.__file__).parents[1] / "recipes"
FILES = sorted(FOLDER.glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_value_cites_its_source(path: Path) -> None:
    for line in path.read_text(encoding="utf-8").splitlines():
        if re.match(r"\w+ = ", line) and line != f'name = "{path.stem.rpartition(".")[0]}"':
            assert re.search(r"#\s*\S.{3,}$", line), f"{path.name}: no source for {line}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_fits_the_tree(path: Path) -> None:
    method, _, family = path.stem.rpartition(".")
    settings = settle({"method": {"name": method}, "run": {"recipe": family}}, env={}, user_file=Path("none")).settings
    assert settings.method.name == method
    assert settings.run.recipe == family
    assert settings.model.bn_group == (32 if method == "moco-v2" else 512)


def test_every_method_has_every_family() -> None:
    assert {path.stem for path in FILES} == {f"{method}.{family}" for method in METHODS for family in FAMILIES}


@pytest.mark.parametrize("method", METHODS)
def test_shapes_fit_a_machine_without_a_gpu(method: str) -> None:
    flat = flatten(recipe_layer(method, "shapes"), method_settings(method))
    assert (flat["model.backbone"], flat["model.width"], flat["data.size"]) == ("resnet18", 0.25, 32)


def test_operations_without_a_place_in_the_order_are_not_set() -> None:
    for path in FILES:
        table = recipe_layer(*path.stem.rsplit(".", 1)).table["augment"]
        assert set(table) - {"order"} == set(table["order"]), path.name


def test_a_recipe_that_is_missing_lists_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "FAMILIES", (*FAMILIES, "moon"))
    with pytest.raises(UsageError, match=r"simclr\.moon") as caught:
        recipe_layer("simclr", "moon")
    assert "moco-v2.cifar" in caught.value.hint


def test_a_file_is_a_recipe_and_may_name_its_method(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[method]\nname = "moco-v2"\nqueue = 64\n', encoding="utf-8")
    settled = settle({"run": {"recipe": str(path)}}, env={}, cwd=tmp_path, user_file=tmp_path / "none")
    assert settled.settings.method.model_dump()["queue"] == 64
    assert settled.origins["method.queue"] == f"recipe {path}"


@pytest.mark.parametrize(
    ("source", "size", "family"),
    [
        (None, None, "shapes"),
        (None, 96, "shapes"),
        ("shapes", None, "shapes"),
        ("cifar10", None, "cifar"),
        ("CIFAR100:train", None, "cifar"),
        ("svhn:extra", None, "cifar"),
        ("stl10", None, "imagenet"),
        ("stl10", 64, "cifar"),
        ("cifar10", 224, "imagenet"),
        ("no/such/folder", None, "imagenet"),
        ("cifar10", "nonsense", "imagenet"),
    ],
)
def test_the_family_by_name_and_size(source: str | None, size: object, family: str) -> None:
    assert family_of(source, size) == family


@pytest.mark.parametrize(("side", "family"), [(32, "cifar"), (64, "cifar"), (65, "imagenet")])
def test_the_family_by_the_images(tmp_path: Path, side: int, family: str) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for number in range(3):
        Image.new("RGB", (side + 40, side)).save(tmp_path / "a" / "b" / f"{number}.PNG")
    (tmp_path / "a" / "0.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    assert family_of(str(tmp_path), None) == family


def test_only_a_few_headers_are_read(tmp_path: Path) -> None:
    for number in range(40):
        Image.new("L", (8, 8 if number < recipe._PEEKED else 900)).save(tmp_path / f"{number:02}.png")
    assert median_side(tmp_path) == 8
    assert len(list(recipe._some_images(tmp_path))) == recipe._PEEKED


def test_a_folder_without_images_has_no_side(tmp_path: Path) -> None:
    assert median_side(tmp_path) is None
