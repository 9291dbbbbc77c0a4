"""`config show` prints what settles, as a file that settles to the same; a file of `config init` changes nothing."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from ssl_cli.cli import main
from ssl_cli.config.listing import PLANNED
from ssl_cli.config.sources import settle
from ssl_cli.config.toml_file import flatten, parse_toml

FLAGS = ["--method", "moco-v2", "--batch", "96", "--set", "optim.lr=0.125", "--gentle"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["config", *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [[], FLAGS, ["--method", "simclr-v2", "--recipe", "imagenet"], ["--recipe", "own"]])
def test_what_is_shown_settles_to_the_same(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(printed(capsys, "show", *words, "--json"))["settings"]
    for more in ([], ["--origin"]):
        text = printed(capsys, "show", *words, *more)
        (tmp_path / "all.toml").write_text(text, encoding="utf-8")
        values = dict(flatten(settle({}, config=tmp_path / "all.toml").settings.model_dump(mode="json")))
        assert values == {key: entry["value"] for key, entry in document.items()}
        assert parse_toml(text)


def test_each_value_has_the_origin_that_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sslcli.toml").write_text("[optim]\n\nweight_decay = 0.5\nmomentum = 0.8\n", encoding="utf-8")
    (tmp_path / "more.toml").write_text("[run]\nkeep = 7\n", encoding="utf-8")
    monkeypatch.setenv("SSLCLI_RUN__LOG_EVERY", "5")
    monkeypatch.setenv("SSLCLI_OPTIM__MOMENTUM", "0.7")
    words = ["show", *FLAGS, "--config", "more.toml"]
    found = json.loads(printed(capsys, *words, "--json"))["settings"]
    wanted = {
        "method.name": ("moco-v2", "--method"),
        "run.batch": (96, "--batch"),
        "optim.lr": (0.125, "--set"),
        "augment.flip.p": (0.0, "--gentle"),
        "run.log_every": (5, "SSLCLI_RUN__LOG_EVERY"),
        "optim.momentum": (0.7, "SSLCLI_OPTIM__MOMENTUM"),
        "run.keep": (7, "line 2 of more.toml"),
        "optim.weight_decay": (0.5, "line 3 of sslcli.toml"),
        "method.symmetric": (True, "recipe moco-v2.shapes"),
        "run.seed": (0, "default"),
        "run.max_time": (None, "default"),
    }
    assert {key: (found[key]["value"], found[key]["origin"]) for key in wanted} == wanted
    text = printed(capsys, *words, "--origin")
    for key, (value, origin) in wanted.items():
        name = key.partition(".")[2]
        setting = f"# {name} is not set" if value is None else rf"{re.escape(name)} = \S+"
        assert re.search(rf"^{setting} +# {re.escape(origin)}$", text, re.MULTILINE), key


def test_what_the_plan_chooses_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["show", "--recipe", "own", "--width", "0.5"]
    found = json.loads(printed(capsys, *words, "--json"))["settings"]
    assert found["schedule.epochs"]["planned"]
    assert not found["model.width"]["planned"]
    assert re.search("^epochs = .*; the plan chooses it", printed(capsys, *words, "--origin"), re.MULTILINE)


def uncommented(text: str) -> str:
    """The file with every setting in it set."""
    lines = [re.sub(r"^# (?=\[\w+\]$|[\w.]+ = )", "", line) for line in text.splitlines()]
    return "\n".join(lines)


def test_a_new_file_changes_nothing_and_names_every_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = settle({})
    assert "every setting is a comment" in printed(capsys, "init")
    text = (tmp_path / "sslcli.toml").read_text(encoding="utf-8")
    assert settle({}).settings == before.settings
    assert settle({}).origins == before.origins
    named = dict(flatten(parse_toml(uncommented(text))))
    values = dict(flatten(before.settings.model_dump(mode="json")))
    assert named == {key: value for key, value in values.items() if value is not None}
    for key in values.keys() - named.keys():
        assert f"\n# {key.partition('.')[2]} =\n" in text
    (tmp_path / "sslcli.toml").write_text(uncommented(text), encoding="utf-8")
    assert settle({}).settings == before.settings
    assert "#   decode threads; default: one per processor" in text


def test_a_new_file_sets_what_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSLCLI_RUN__LOG_EVERY", "5")
    document = json.loads(printed(capsys, "init", "--method", "moco-v2", "--batch", "96", "--json"))
    assert document["set"] == ["method.name", "run.batch"]
    found = parse_toml((tmp_path / "sslcli.toml").read_text(encoding="utf-8"))
    assert found == {"method": {"name": "moco-v2"}, "run": {"batch": 96}}


def test_a_file_that_is_there_stays_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sslcli.toml").write_text("no [TOML", encoding="utf-8")
    assert main(["config", "init"]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "sslcli.toml").read_text(encoding="utf-8") == "no [TOML"
    printed(capsys, "init", "--force")
    assert parse_toml((tmp_path / "sslcli.toml").read_text(encoding="utf-8")) == {}
    (tmp_path / "gone.toml").symlink_to(tmp_path / "nowhere")
    assert main(["config", "init", "-o", "gone.toml"]) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["shwo"], "Did you mean"),
        (["show", "--force"], "are for sslcli config init"),
        (["init", "--origin"], "is for sslcli config show"),
        (["init", "-o", "."], "is a folder"),
        (["init", "-o", "x.txt"], "would not be a TOML file"),
        (["init", "-o", "no/x.toml"], "There is no folder no"),
        (["show", "--set", "optim.x=1"], "no setting 'optim.x'"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", *words]) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_value_that_the_plan_chooses_is_marked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    assert main(["config", "show", str(tmp_path), "--width", "0.5"]) == 0
    marked = {line.split(" = ")[0] for line in capsys.readouterr().out.splitlines() if PLANNED in line}
    assert {"batch", "epochs", "size"} <= marked
    assert "width" not in marked
