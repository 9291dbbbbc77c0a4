"""What is asked of an export: every wrong word is one sentence, said before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_cli.cli import main
from ssl_cli.commands.export import complete_input
from ssl_cli.errors import ResourceError, UsageError
from ssl_cli.formats.request import INPUTS, OPSETS, check
from tests.cli.engine import FakeEngine

FILE = Path("encoder.onnx")


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("kind", INPUTS)
def test_what_can_be_written(opset: int, kind: str) -> None:
    check(Path("new/folder/ENCODER.ONNX"), opset, kind)


WRONG = [
    (["--opset", "17"], "Opset 17", "18 to 23"),
    (["--opset", "24"], "Opset 24", "18 to 23"),
    (["--input", "uint8"], "'uint8'", "Did you mean 'uint8-nhwc'?"),
    (["--input", "float-nhwc"], "'float-nhwc'", "Did you mean 'float-nchw'?"),
    (["--input", "zzz"], "'zzz'", "float-nchw, uint8-nhwc"),
    (["-o", "."], "is a folder", "-o encoder.onnx"),
    (["-o", "encoder.pt"], "does not end in .onnx", "-o encoder.onnx"),
    (["-o", "new/encoder"], "does not end in .onnx", "-o new/encoder.onnx"),
]


@pytest.mark.parametrize(("words", "said", "hint"), WRONG)
def test_a_wrong_word(capsys: pytest.CaptureFixture[str], words: list[str], said: str, hint: str) -> None:
    assert main(["export", "run", "-o", "encoder.onnx", *words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert said in error["message"]
    assert hint in error["hint"]
    assert "\n" not in error["message"]


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="is a file, not a folder"):
        check(tmp_path / "file" / "new" / FILE, 18, INPUTS[0])
    with pytest.raises(ResourceError, match="too long"):
        check(Path("x" * 300 + ".onnx"), 18, INPUTS[0])
    monkeypatch.setattr("os.access", lambda *_: False)  # for root every folder can be written to
    with pytest.raises(ResourceError, match="cannot be written to"):
        check(tmp_path / "new" / FILE, 18, INPUTS[0])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_cli.packages.is_installed", lambda module: module != "onnxscript")
    with pytest.raises(UsageError, match="onnxscript") as caught:
        check(FILE, 18, INPUTS[0])
    assert caught.value.hint == "pip install onnxscript"


def test_the_words_are_judged_without_torch() -> None:
    program = (
        "import sys; from ssl_cli.cli import main; main(['export', 'x', '-o', 'y']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0


def test_the_command_hands_on_every_word(
    engine_of_words: FakeEngine, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Path("runs/x/checkpoints/step_1.pt")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    Path("m.py").touch()
    words = ["export", "runs/x", "-o", "e.onnx", "--input", "uint8-nhwc", "--l2", "--opset", "20", "--method", "m.py:M"]
    assert main(words) == 0
    assert engine_of_words.calls == [
        (
            "export_run",
            ("runs/x", Path("e.onnx")),
            {
                "opset": 20,
                "input_kind": "uint8-nhwc",
                "l2": True,
                "classifier": False,
                "dynamic_size": False,
                "dtype": "float32",
                "method": "m.py:M",
            },
        )
    ]
    assert "e.onnx" in capsys.readouterr().out
    assert main(["export", "runs/x", "-o", "e.onnx"]) == 0
    assert engine_of_words.calls[-1][2] == {
        "opset": 18, "input_kind": "float-nchw", "l2": False, "classifier": False, "dynamic_size": False,
        "dtype": "float32", "method": None,
    }  # fmt: skip


@pytest.fixture
def engine_of_words(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    engine.install(monkeypatch)
    return engine


def test_help_shows_panels_defaults_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    out = capsys.readouterr().out
    assert out.count("sslcli export runs/photos") >= 3
    for word in ("ONNX", "Output", "float-nchw", "uint8-nhwc", "default: 18", "--l2"):
        assert word in out


def test_completion() -> None:
    assert complete_input("u") == ["uint8-nhwc"]
    assert complete_input("") == list(INPUTS)
