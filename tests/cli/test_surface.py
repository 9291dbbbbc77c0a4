"""The surface answers without the heavy libraries, and its help is short and worked through."""

import re
import subprocess
import sys

import pytest

from ssl_cli.cli import main
from ssl_cli.errors import EXIT_CODES, SHORT_CODES

COMMANDS = [
    *("pretrain", "finetune", "distill", "pipeline", "data", "methods", "config", "inspect-augs"),
    *("knn-eval", "linear-eval", "bench", "doctor", "runs", "watch", "study", "export", "embed", "neighbors", "map"),
]
HEAVY = ("torch", "torchvision", "numpy", "PIL", "onnx", "onnxruntime", "onnxscript", "sklearn", "umap", "safetensors")
SETTINGS = ("pydantic_settings",)  # imported where settings are settled, not before
PROBE = """
import sys
from ssl_cli.cli import main
for line in LINES:
    code = main(line.split())
    heavy = sorted({name.partition(".")[0] for name in sys.modules} & set(HEAVY))
    if heavy or code != EXPECTED:
        sys.exit(f"{line}: code {code}, imported {heavy}")
"""


def probe(lines: list[str], expected: int, heavy: tuple[str, ...] = HEAVY) -> None:
    """Run command lines in one new process; none may import anything heavy."""
    program = f"LINES, HEAVY, EXPECTED = {lines!r}, {heavy!r}, {expected}\n{PROBE}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_help_imports_neither_torch_nor_pydantic_settings() -> None:
    probe(["", "--help", "--version", *(f"{command} --help" for command in COMMANDS), "methods"], 0, HEAVY + SETTINGS)


def test_a_wrong_word_ends_before_anything_heavy() -> None:
    probe(["pretrian", "bench setp"], 2, HEAVY + SETTINGS)
    probe(["pretrain --set x=1", "pretrain --method x"], 2)


def test_every_surface_module_imports_nothing_heavy() -> None:
    program = (
        "import sys, pkgutil, importlib, ssl_cli.cli, ssl_cli.errors, ssl_cli.events, ssl_cli.registry\n"
        "for name in ('commands', 'ui', 'config'):\n"
        "    package = importlib.import_module(f'ssl_cli.{name}')\n"
        "    for module in pkgutil.iter_modules(package.__path__, f'{package.__name__}.'):\n"
        "        importlib.import_module(module.name)\n"
        f"sys.exit(str(sorted(set(sys.modules) & {set(HEAVY)!r}) or ''))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr.strip() == ""


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_short_and_worked_through(
    command: str, width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert len(re.findall(r"^│ \*?\s*--\w", text, re.MULTILINE)) <= 25
    assert "Examples" in text
    assert text.count(f"  sslcli {command}") >= 2
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_first_page_shows_the_order_of_work(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^│ ([a-z]+(?:-[a-z]+)?)  ", text, re.MULTILINE) == COMMANDS
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    ending = " ".join(text.split())
    assert "--debug" in ending
    assert "SSLCLI_DEBUG=1" in ending
    assert ", ".join(f"{code} {meaning}" for code, meaning in SHORT_CODES.items()) in ending


def test_every_exit_code_has_a_short_name() -> None:
    assert SHORT_CODES.keys() == EXIT_CODES.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_speak_of_types_of_flags(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([command, "--help"])
    text = capsys.readouterr().out
    assert "<bool>" not in text
    assert "--debug" not in text  # named once, by `sslcli --help`


def test_flags_without_a_typed_default_say_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    main(["pretrain", "--help"])
    assert capsys.readouterr().out.count("(default:") >= 15


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert re.match(r"sslcli \d+\.\d+\.\d+", capsys.readouterr().out)
