"""`sslcli methods`: what it lists is what there is, and a recipe it shows can be trained with."""

import json
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from ssl_cli.cli import main
from ssl_cli.commands import methods
from ssl_cli.config.recipe import families, recipe_file
from ssl_cli.config.tree import ModelSettings
from ssl_cli.nn.backbone import build_backbone
from ssl_cli.registry import BACKBONE_LIBRARIES, BACKBONES, FAMILIES, METHODS
from tests.cli.test_surface import probe


def test_each_thing_there_is_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    out, err = capsys.readouterr()
    first = [line.split()[0] for line in out.splitlines() if line.startswith("  ")]
    assert first == [*METHODS, *BACKBONES, *(f"{library}:NAME" for library in BACKBONE_LIBRARIES), *FAMILIES]
    assert "  moco-v1     arXiv 1911.05722  own, shapes, cifar, imagenet  a query meets its key" in out
    assert "  invaspread  arXiv 1904.03436  own, shapes, cifar, stl10 " in out
    assert (err, "\x1b" in out, any(line != line.rstrip() for line in out.splitlines())) == ("", False, False)


def test_every_method_has_a_paper_and_a_sentence() -> None:
    assert methods.PAPERS.keys() == METHODS.keys()
    assert methods.SUITED.keys() == set(FAMILIES)
    for method, (paper, sentence) in methods.PAPERS.items():
        assert any(paper in recipe_file(method, family).text for family in families(method)), method
        assert len(sentence) < 90


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_are_as_large_as_it_says(name: str) -> None:
    import torch

    with torch.device("meta"):
        net, features = build_backbone(ModelSettings(backbone=name), 224)
    parameters = sum(p.numel() for p in net.parameters())
    assert methods.SIZES.keys() == BACKBONES.keys()
    assert methods.SIZES[name] == (features, round(parameters / 1e6, 1))


def test_the_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["command"]) == (1, "methods")
    assert [method["name"] for method in document["methods"]] == list(METHODS)
    assert document["methods"][0]["paper"] == "1805.01978"
    assert {method["name"]: method["families"] for method in document["methods"]}["invaspread"][-1] == "stl10"
    assert document["backbones"][2] == {"name": "resnet50", "features": 2048, "parameters": 23_500_000}
    assert [family["name"] for family in document["families"]] == list(FAMILIES)


@pytest.mark.parametrize(("method", "family"), [(m, f) for m in METHODS for f in (None, *families(m))])
def test_a_recipe_is_shown_as_a_file_that_is_one(
    method: str, family: str | None, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["methods", method, *(["--recipe", family] if family else [])]
    assert main(words) == 0
    text = capsys.readouterr().out
    recipe = recipe_file(method, family or families(method)[-1])
    assert text.endswith(recipe.text)
    assert tomllib.loads(text) == tomllib.loads(recipe.text)
    command = text.splitlines()[0]
    assert command.startswith("# sslcli pretrain ")
    assert command.endswith(f"--method {method} --recipe {recipe.name.rpartition('.')[2]}")
    assert ("DATA" in command) == (family != "shapes")


def test_the_largest_family_is_shown_where_none_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    for method, family in {"moco-v2": "imagenet", "invaspread": "stl10"}.items():
        assert main(["methods", method, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["recipe"] == family


def test_the_document_of_a_recipe_has_each_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "instdisc", "--recipe", "cifar", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["method"]["name"] == "instdisc"
    noise = document["settings"]["method.noise"]
    assert noise["value"] == 0
    assert "--nce-k 0" in noise["source"]
    assert document["settings"]["schedule.milestones"]["value"] == [120, 160]
    assert all(setting["source"] for key, setting in document["settings"].items() if key != "method.name")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["moco-v3"], "Did you mean 'moco-v2'?"),
        (["simklr"], "Did you mean 'simclr'?"),
        (["moco-v2", "--recipe", "imagnet"], "Did you mean 'imagenet'?"),
        (["moco-v2", "--recipe", "stl10"], "moco-v2 has own, shapes, cifar, imagenet: try --recipe imagenet"),
        (["--recipe", "cifar"], "sslcli methods moco-v2 --recipe cifar"),
        (["nowhere.py:Mine"], "Write it as file.py:Class."),
    ],
)
def test_wrong_words(words: list[str], hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert hint in err
    assert main(["methods", *words, "--json"]) == 2
    assert hint in json.loads(capsys.readouterr().out)["error"]["hint"]


def test_a_method_of_one_s_own_starts_from_simclr_s(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    assert main(["methods", f"{tmp_path}/mine.py:Mine", "--recipe", "shapes"]) == 0
    text = capsys.readouterr().out
    assert "starts from SimCLR's recipe" in text
    assert text.endswith(recipe_file("simclr", "shapes").text)
    assert main(["methods", f"{tmp_path}/mine.py:Mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["method"]["paper"] is None


def test_methods_of_other_packages_are_listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    point = EntryPoint("barlow", "elsewhere:Barlow", "sslcli.methods")
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: (point,))
    assert main(["methods"]) == 0
    assert "\n  barlow      " in capsys.readouterr().out


def test_nothing_heavy_is_imported() -> None:
    probe(["methods", "methods --json", "methods moco-v2", "methods moco-v2 --json"], 0)
