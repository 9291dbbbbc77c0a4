"""`inspect-augs`: what it takes, what it refuses before anything is read, and where its words go."""

import json
from pathlib import Path

import pytest

from ssl_cli.cli import main
from ssl_cli.commands.inspect_augs import complete_op
from ssl_cli.config.tree import Settings
from ssl_cli.events import Evaluated, Pictured, Skipped, Tile
from tests.cli.engine import FakeEngine


def settings(engine: FakeEngine) -> Settings:
    found = engine.calls[-1][1][0]
    assert isinstance(found, Settings)
    return found


def test_without_a_word(engine: FakeEngine) -> None:
    assert main(["inspect-augs"]) == 0
    name, args, given = engine.calls[-1]
    assert (name, args[1:], given) == ("augmentation_sheet", (Path("augmentations.png"), 8, 6), {"op": None})
    assert settings(engine).run.recipe == "shapes"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["cifar10", "--download"],
        ["photos/", "--method", "moco-v2"],
        ["photos/", "--recipe", "cifar", "--seed", "7"],
        ["--image-size", "48", "--set", "augment.jitter.strength=2", "--config", "more.toml"],
    ],
    ids=" ".join,
)
def test_the_same_words_settle_as_for_pretraining(engine: FakeEngine, words: list[str]) -> None:
    Path("sslcli.toml").write_text("[augment.crop]\nscale = [0.3, 0.9]\n", encoding="utf-8")
    Path("more.toml").write_text("[augment.flip]\np = 0.1\n", encoding="utf-8")
    assert main(["pretrain", *words]) == 0
    trained = settings(engine)
    assert main(["inspect-augs", *words]) == 0
    assert settings(engine) == trained
    assert trained.augment.crop.scale == (0.3, 0.9)


def test_its_own_flags(engine: FakeEngine) -> None:
    assert main(["inspect-augs", "--images", "2", "--views", "5", "--op", "blur", "-o", "x/y.PNG"]) == 0
    _, args, given = engine.calls[-1]
    assert (args[1:], given) == ((Path("x/y.PNG"), 2, 5), {"op": "blur"})


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ("-o sheet.jpg", "sheet.jpg would not be a PNG.", ".png"),
        ("-o sheet", "sheet would not be a PNG.", ".png"),
        ("-o folder", "folder is a folder.", "folder/augmentations.png"),
        ("-o folder.png", "folder.png is a folder.", "folder.png/augmentations.png"),
        ("--op bluur", "There is no operation 'bluur'.", "Did you mean 'blur'?"),
        ("--op normalize", "'normalize' has no strength", "crop"),
        ("--op xyz", "There is no operation 'xyz'.", "crop"),
        ("--images 0", "", ""),
        ("--views 65", "", ""),
    ],
)
def test_what_is_refused_at_once(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], words: str, message: str, hint: str
) -> None:
    Path("folder").mkdir()
    Path("folder.png").mkdir()
    assert main(["inspect-augs", *words.split(), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert message in error["message"]
    assert hint in error["hint"]
    assert engine.calls == []


def test_json_has_every_view_and_no_picture(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"image": "a\x1b.jpg", "views": [{"crop": {"top": 0}, "flip": True}]}]
    engine.answers["augmentation_sheet"] = lambda: [
        Pictured(name="a", tiles=(Tile(title="original", width=1, height=1, rgb=b"abc"),)),
        Skipped(path="b.jpg", reason="truncated"),
        Evaluated(name="sheet", result={"path": "s.png", "images": 1, "views": 1, "order": ["crop"], "rows": rows}),
    ]
    assert main(["inspect-augs", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["rows"] == rows
    assert "\x1b" not in out + err
    assert "▀" not in out + err
    assert "b.jpg" in err


def test_help_has_panels_and_examples(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["inspect-augs", "--help"]) == 0
    text = capsys.readouterr().out
    for panel in ("Picture", "Data", "Training", "Settings", "Output"):
        assert f"─ {panel} ─" in text
    assert text.count("  sslcli inspect-augs") >= 3
    assert "augmentations.png" in text


def test_completion_knows_operations() -> None:
    assert complete_op("g") == ["gray"]
    assert "crop" in complete_op("")
