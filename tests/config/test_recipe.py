"""Recipes: each cites every value, fits the tree, and says what the papers say; the family suits the images."""

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.config import recipe
from ssl_cli.config.recipe import VARIANTS, citations, families, family_of, known_side, read_recipe, variant
from ssl_cli.config.sources import settle
from ssl_cli.config.start import for_finetuning, sources_of
from ssl_cli.config.toml_file import flatten
from ssl_cli.config.tree import Fitted, Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.errors import UsageError
from ssl_cli.optim.schedule import peak_rate, rate
from ssl_cli.registry import FAMILIES, METHODS, TRANSFERS

FOLDER = Path(recipe.__file__).parents[1] / "recipes"
FILES = sorted(FOLDER.glob("*.toml"))


def uncited(text: str) -> set[str]:
    """The values of a recipe that name no source; its method's name needs none."""
    return {key for key, _ in flatten(tomllib.loads(text)) if len(citations(text).get(key, "")) < 4} - {"method.name"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_value_cites_its_source(path: Path) -> None:
    assert uncited(path.read_text(encoding="utf-8")) == set()


def test_a_value_without_a_source_is_found() -> None:
    lines = (FOLDER / "instdisc.cifar.toml").read_text(encoding="utf-8").splitlines()
    cited = [i for i, line in enumerate(lines) if re.match(r"\w+ = .*#", line)]
    found = [uncited("\n".join([*lines[:i], lines[i].partition("#")[0], *lines[i + 1 :]])) for i in cited]
    assert [len(keys) for keys in found] == [1] * len(cited)
    assert len(set().union(*found)) == len(cited) > 25


def settings_of(method: str, family: str, sets: Sequence[str] = ()) -> Settings:
    method, _, pretrained = method.partition(".")
    table = {"method": {"name": method}, "run": {"recipe": family}}
    start = sources_of({"method.pretrained": pretrained} if pretrained else {}) if method in TRANSFERS else None
    return settle(table, sets, env={}, user_file=Path("none"), start=start).settings


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_fits_the_tree(path: Path) -> None:
    method, _, family = path.stem.rpartition(".")
    settings = settings_of(method, family)
    assert settings.method.name == method.partition(".")[0]
    assert settings.run.recipe == family
    groups = {
        "moco-v1.cifar": 64, "moco-v2.cifar": 64, "simclr.cifar": "global", "simclr-v2.cifar": "global"
    }  # fmt: skip
    assert settings.model.bn_group == groups.get(path.stem, 32 if method.startswith("moco") else 512)
    assert (settings.schedule.kind == "step") == bool(settings.schedule.milestones)
    assert all(0 < epoch < settings.schedule.epochs for epoch in settings.schedule.milestones)


def test_every_method_has_its_families() -> None:
    assert {path.stem for path in FILES} == {
        f"{method}.{family}" for method in (*METHODS, *TRANSFERS, *VARIANTS) for family in families(method)
    }
    for method in (*METHODS, *TRANSFERS):
        largest = "stl10" if method == "invaspread" else "imagenet"  # the paper has no ImageNet
        assert families(method) == ["own", "shapes", "cifar", largest]


def test_instdisc_takes_noise_rows_on_imagenet_and_all_rows_on_cifar() -> None:
    for family, noise, temperature, peak in (("imagenet", 4096, 0.07, 0.03), ("cifar", 0, 0.1, 0.03)):
        settings = settings_of("instdisc", family)
        method = settings.method.model_dump()
        assert (method["noise"], method["temperature"], method["bank_momentum"]) == (noise, temperature, 0.5)
        assert (method["proximal"], method["head_layers"], method["head_dim"]) == (0, 1, 128)
        assert peak_rate(settings.optim, settings.run.batch) == pytest.approx(peak)
        jitter = settings.augment.jitter
        assert (jitter.p, jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue) == (1, 0.4, 0.4, 0.4, 0.4)
        rates = [rate_of(settings, epoch) / peak for epoch in (0, 80, 119, 120, 159, 160, 199)]
        assert rates == pytest.approx([1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert settings_of("instdisc", "imagenet").augment.order == ("crop", "gray", "jitter", "flip", "normalize")
    assert settings_of("instdisc", "cifar").augment.order == ("crop", "jitter", "gray", "normalize")


def rate_of(settings: Settings, epoch: int) -> float:
    return rate(settings.schedule, peak_rate(settings.optim, settings.run.batch), epoch * 10, 10)


def test_invaspread_as_published() -> None:
    for family, size in (("cifar", 32), ("stl10", 96)):
        settings = settings_of("invaspread", family)
        assert (settings.data.size, settings.run.batch, settings.model.stem) == (size, 128, "cifar")
        assert (settings.method.temperature, settings.method.head_layers, settings.optim.weight_decay) == (0.1, 1, 5e-4)
        assert settings.augment.order == ("crop", "jitter", "gray", "flip", "normalize")
        rates = [rate_of(settings, epoch) / 0.03 for epoch in (0, 119, 120, 159, 160, 199)]
        assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_simclr_v2_as_published() -> None:
    settings = settings_of("simclr-v2", "imagenet")
    assert peak_rate(settings.optim, settings.run.batch) == pytest.approx(6.4)
    assert (settings.schedule.epochs, settings.schedule.warmup, settings.run.batch) == (800, 40, 4096)
    assert (settings.optim.weight_decay, settings.method.head_layers) == (1e-4, 3)
    assert (settings.model.backbone, settings.model.sk, settings.model.zero_init) == ("resnet50", False, True)
    assert settings.method.model_dump()["memory"] == 0
    assert settings.method.head_batchnorm
    paper = settings_of("simclr-v2", "imagenet", ["method.memory=65536", "model.sk=true"])
    assert (paper.method.model_dump()["memory"], paper.model.sk) == (65536, True)
    cifar = settings_of("simclr-v2", "cifar")
    assert cifar.method.temperature == 0.5
    assert peak_rate(cifar.optim, cifar.run.batch) == pytest.approx(2.0)


def table_of_moco_v2() -> dict[str, list[str]]:
    """The rows of the paper's table as the recipe's head writes them: by name, what to --set."""
    text = (FOLDER / "moco-v2.imagenet.toml").read_text(encoding="utf-8")
    words = {name: given.split() for name, given in re.findall(r"^# ([A-Z]{3,}) +(.*)$", text, re.MULTILINE)}
    rows = {}
    for name, given in re.findall(r"^#   (v1|\([a-e]\)) +[\d.]+ +(.*?)(?: +\+ .*)?$", text, re.MULTILINE):
        named = [] if given == "nothing to set" else given.split(", ")
        rows[name] = [item for word in named for item in words.get(word, [word]) if re.match(r"\w+\.\w.*=", item)]
    return rows


def parts(settings: Settings) -> dict[str, Any]:
    """What the rows of MoCo v2's table differ in, and all else."""
    flat = settings.model_dump()
    method, augment, schedule = flat.pop("method"), flat.pop("augment"), flat.pop("schedule")
    del method["name"], flat["run"]["recipe"], augment["blur"]  # version 1 has no blur, whatever its settings
    head = (method.pop("head_layers"), method.pop("temperature"))
    cosine = (schedule.pop("kind"), schedule.pop("milestones"))
    return {
        "head": head,
        "augment": augment,
        "cosine": cosine,
        "epochs": schedule.pop("epochs"),
        "rest": (flat, method),
    }


def test_the_rows_of_moco_v2_s_table_differ_as_the_paper_says() -> None:
    rows = table_of_moco_v2()
    assert list(rows) == ["v1", "(a)", "(b)", "(c)", "(d)", "(e)"]
    v1, new = parts(settings_of("moco-v1", "imagenet")), parts(settings_of("moco-v2", "imagenet"))
    expected = {  # of MLP, aug+, cos, 800 epochs: table 1
        "v1": "", "(a)": "head", "(b)": "augment", "(c)": "head augment", "(d)": "head augment cosine",
        "(e)": "head augment cosine epochs",
    }  # fmt: skip
    for row, differs in expected.items():
        found = parts(settings_of("moco-v2", "imagenet", rows[row]))
        if row == "(e)":
            assert found.pop("epochs") == 800
            found["epochs"] = new["epochs"] = -1
        for part in ("head", "augment", "cosine", "epochs"):
            assert found[part] == (new if part in differs.split() else v1)[part], (row, part)
        assert found["rest"] == v1["rest"] == new["rest"]
    assert v1["head"] == (1, 0.07)
    assert new["head"] == (2, 0.2)


@pytest.mark.parametrize("row", ["v1", "(a)", "(b)", "(c)", "(d)", "(e)"])
def test_each_row_of_moco_v2_s_table_builds(row: str) -> None:
    small = ["model.width=0.25", "model.backbone=resnet18", "method.queue=64", "data.size=32"]
    settings = settings_of("moco-v2", "imagenet", [*table_of_moco_v2()[row], *small])
    objective = build_objective(settings, torch.device("cpu"))
    linear = [module for module in objective.projector.modules() if isinstance(module, nn.Linear)]  # type: ignore[union-attr]
    assert len(linear) == (1 if row in {"v1", "(b)"} else 2)
    assert len(Pipeline(settings.augment, 32, 0).ops) == (5 if row in {"v1", "(a)"} else 6)


@pytest.mark.parametrize("method", METHODS)
def test_shapes_fit_a_machine_without_a_gpu(method: str) -> None:
    flat = read_recipe(method, "shapes").values
    assert (flat["model.backbone"], flat["model.width"], flat["data.size"]) == ("resnet18", 0.25, 32)


def test_operations_without_a_place_in_the_order_are_not_set() -> None:
    for path in FILES:
        table = tomllib.loads(path.read_text(encoding="utf-8"))["augment"]
        assert set(table) - {"order"} == set(table["order"]), path.name


def test_a_recipe_that_is_missing_lists_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "FAMILIES", (*FAMILIES, "moon"))
    with pytest.raises(UsageError, match=r"simclr\.moon") as caught:
        read_recipe("simclr", "moon")
    assert "simclr has own, shapes, cifar, imagenet: try --recipe imagenet" in caught.value.hint


def test_a_file_is_a_recipe_and_may_name_its_method(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('[method]\nname = "moco-v2"\nqueue = 64\n', encoding="utf-8")
    settled = settle({"run": {"recipe": str(path)}}, env={}, cwd=tmp_path, user_file=tmp_path / "none")
    assert settled.settings.method.model_dump()["queue"] == 64
    assert settled.origins["method.queue"] == f"line 3 of recipe {path}"


@pytest.mark.parametrize(
    ("source", "family"),
    [
        (None, "shapes"),
        ("shapes", "shapes"),
        ("Shapes", "shapes"),
        ("cifar10", "own"),
        ("stl10:unlabeled", "own"),
        ("no/such/folder", "own"),
        (".", "own"),
    ],
)
def test_the_papers_recipes_are_for_whoever_names_them(source: str | None, family: str) -> None:
    assert family_of(source) == family


@pytest.mark.parametrize("method", METHODS)
def test_a_recipe_of_one_s_own_images_leaves_open_what_images_machine_and_time_decide(method: str) -> None:
    own, shapes = settings_of(method, "own"), settings_of(method, "shapes")
    assert own.run.fit == get_args(Fitted)
    assert (own.run.time, own.model.zero_init) == (None, False)
    assert own.augment.order[-1] == "normalize"
    assert own.schedule.kind == "cosine"
    assert shapes.run.fit == ("schedule.epochs", "schedule.warmup")
    assert shapes.run.time == 240
    papers = [settings_of(method, family) for family in families(method) if family not in ("own", "shapes")]
    assert all((settings.run.fit, settings.run.time) == ((), None) for settings in papers)


@pytest.mark.parametrize(
    ("source", "side"), [(None, 32), ("shapes", 32), ("cifar10", 32), ("MNIST:test", 28), ("stl10", 96), ("dtd", None)]
)
def test_the_side_of_a_named_set_is_known(source: str | None, side: float | None) -> None:
    assert known_side(source) == side


def test_fine_tuning_as_published() -> None:
    settings = settings_of("finetune", "imagenet")
    assert settings.run.batch == 1024
    assert peak_rate(settings.optim, 1024) == pytest.approx(0.16)
    assert (settings.optim.name, settings.optim.weight_decay, settings.schedule.warmup) == ("lars", 0, 0)
    assert (settings.schedule.epochs, settings.augment.order) == (30, ("crop", "flip"))
    first = settings_of("finetune.simclr", "imagenet")
    assert (first.run.batch, first.schedule.epochs, first.schedule.warmup) == (4096, 30, 0)
    assert peak_rate(first.optim, 4096) == pytest.approx(0.8)
    assert (first.optim.name, first.optim.nesterov, first.optim.weight_decay) == ("sgd", True, 0)
    assert first.augment.order == ("crop", "flip")


def test_a_run_of_simclr_is_fine_tuned_by_that_paper_s_rules() -> None:
    assert variant("finetune", "simclr", "imagenet") == variant("finetune", "simclr", "cifar") == "finetune.simclr"
    assert variant("finetune", "simclr", "own") == "finetune"  # measured, for both
    assert variant("finetune", "simclr-v2", "imagenet") == variant("finetune", "", "imagenet") == "finetune"
    assert variant("distill", "simclr", "imagenet") == "distill"
    for method, optimiser in {"simclr": "sgd", "simclr-v2": "lars"}.items():
        before = settle({"method": {"name": method}}, env={}, user_file=Path("none")).settings
        values = for_finetuning(before, "10%")
        table = {"method": {"name": "finetune"}, "run": {"recipe": "imagenet"}}
        found = settle(table, env={}, user_file=Path("none"), start=sources_of(values)).settings
        assert (found.optim.name, getattr(found.method, "pretrained", "")) == (optimiser, method)
        assert getattr(found.method, "from_layer", None) == (0 if method == "simclr" else 1)


def test_distillation_as_published() -> None:
    settings = settings_of("distill", "imagenet")
    method = settings.method.model_dump()
    assert (method["temperature"], method["alpha"], settings.schedule.epochs) == (1, 1, 400)
    assert peak_rate(settings.optim, 4096) == pytest.approx(6.4)
    assert (settings.optim.name, settings.optim.weight_decay, settings.augment.order) == (
        "lars",
        1e-4,
        ("crop", "flip"),
    )
