"""Paths that are not UTF-8, and names in Unicode in an ASCII locale: they work wherever a path is written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ssl_cli.augment.sheet import png
from ssl_cli.cli import main
from ssl_cli.names import decode_paths, encode_paths

LATIN = b"caf\xe9"
"""A name in Latin-1: no valid UTF-8."""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SMALL = [
    "--epochs", "1", "--batch", "8", "--image-size", "8", "--width", "0.0625", "--device", "cpu", "--precision", "fp32",
    "--set", "hardware.memory_format=channels_last", "--set", "run.evaluate=false", "--set", "run.monitor=false",
]  # fmt: skip


@pytest.mark.parametrize("name", [LATIN, "café".encode(), b"plain", b"\xff\xfe\x01"])
def test_a_path_in_a_table_is_valid_unicode_and_comes_back(name: bytes) -> None:
    table = {"data": {"source": os.fsdecode(name), "size": 8}, "parts": [os.fsdecode(name), None]}
    encoded = encode_paths(table)
    json.dumps(encoded, ensure_ascii=False).encode()
    assert decode_paths(encoded) == table


def test_a_name_that_is_valid_unicode_is_written_as_it_is() -> None:
    assert encode_paths("café/日本") == "café/日本"
    assert encode_paths(os.fsdecode(LATIN)) == "caf\0e9"


def photos(folder: bytes) -> None:
    for label in (b"a", b"b"):
        os.makedirs(os.path.join(folder, LATIN + label))  # noqa: PTH103, PTH118
        for k in range(8):
            with open(os.path.join(folder, LATIN + label, b"%d\xe9.png" % k), "wb") as file:  # noqa: PTH118, PTH123
                file.write(png(torch.randint(256, (3, 9, 9), dtype=torch.uint8)))


def sslcli(cwd: Path, *words: str, locale: dict[str, str]) -> str:
    """Run the command in a process of its own; what it printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CI": "true", "HOME": str(cwd), **locale}
    found = subprocess.run(
        [sys.executable, "-m", "ssl_cli", *words], cwd=cwd, env=environment, capture_output=True, check=False
    )
    assert found.returncode == 0, found.stderr.decode()
    return found.stdout.decode()


def test_a_run_on_a_folder_that_is_not_utf8_is_trained_resumed_and_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = os.fsdecode(LATIN)
    photos(LATIN + b" photos")
    assert main(["pretrain", f"{name} photos", "--out", f"{name} run", *SMALL]) == 0
    assert main(["pretrain", "--resume", "--out", f"{name} run", "--epochs", "2"]) == 0
    capsys.readouterr()
    assert main(["knn-eval", f"{name} run", "--json", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["bank"] > 0
    folder = Path(f"{name} run")
    assert "caf\\u0000e9 photos" in (folder / "settings.toml").read_text(encoding="utf-8")
    assert json.loads((folder / "status.json").read_text())["state"] == "finished"
    assert (folder / "checkpoints" / "step_00000004.pt").is_file()
    assert len(list((folder / "eval").iterdir())) == 2  # of its settings, and the newest


@pytest.mark.slow
def test_a_run_in_an_ascii_locale_is_resumed_there_and_evaluated_in_another(tmp_path: Path) -> None:
    photos(os.path.join(os.fsencode(tmp_path), "café photos".encode()))  # noqa: PTH118
    sslcli(tmp_path, "pretrain", "café photos", "--out", "café run", *SMALL, locale=ASCII)
    sslcli(tmp_path, "pretrain", "--resume", "--out", "café run", "--epochs", "2", locale=ASCII)
    assert "café photos" in (tmp_path / "café run" / "settings.toml").read_text(encoding="utf-8")
    for locale in (ASCII, {}):
        printed = sslcli(tmp_path, "knn-eval", "café run", "--json", "--device", "cpu", locale=locale)
        assert json.loads(printed)["bank"] > 0
