"""No telemetry: no command writes in HOME, opens a connection or looks up a name, onnxruntime's own code included."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.toy_run import toy_settings, write_run

WATCH = """
import atexit, os, sys

FOUND = []

def hook(event, args):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        FOUND.append(f"{event} {args!r}")

def report():
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if name.startswith("socket:") or os.path.realpath(os.environ["HOME"]) in name:
            FOUND.append(name)
    with open(os.environ["WATCHED"], "a") as file:
        file.writelines(f"{line}\\n" for line in FOUND)

sys.addaudithook(hook)
atexit.register(report)
"""
"""A sitecustomize: Python's own connections by an audit hook, those of native code by open files at exit."""
RUN = [
    "pretrain", "--out", "new", "--epochs", "1", "--batch", "16", "--image-size", "8", "--width", "0.0625",
    "--set", "data.images=32",
]  # fmt: skip
EVERY_COMMAND = [
    RUN,
    ["knn-eval", "run", "--device", "cpu"],
    ["linear-eval", "run", "--device", "cpu"],
    ["inspect-augs", "--images", "1", "--views", "1"],
    ["methods"],
    ["bench", "loss", "--batch", "16", "--image-size", "8", "--width", "0.0625"],
]


@pytest.mark.parametrize(
    "words",
    [
        ["export", "run", "-o", "encoder.onnx"],
        *(pytest.param(words, marks=pytest.mark.slow) for words in EVERY_COMMAND),
    ],
    ids=lambda words: words[0],
)
def test_home_stays_empty_and_nothing_is_sent(tmp_path: Path, words: list[str]) -> None:
    home, watched, hooks = tmp_path / "home", tmp_path / "watched.txt", tmp_path / "hooks"
    home.mkdir()
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(WATCH)
    write_run(tmp_path / "run", toy_settings(images=32))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    path = os.pathsep.join(filter(None, [str(hooks), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment |= {"HOME": str(home), "WATCHED": str(watched), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-m", "ssl_cli", *words], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert found.returncode == 0, found.stderr.decode()
    assert watched.read_text() == ""
    assert list(home.rglob("*")) == []
