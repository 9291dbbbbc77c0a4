"""No network, no telemetry: with sockets refused and an empty HOME every command works, and leaves HOME empty."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_cli.cli import app, main
from tests.engine.toy_run import toy_settings, write_run

WATCH = """
import atexit, os, socket, sys

FOUND = []
HERE = {"localhost", "127.0.0.1", "::1", "::", "0.0.0.0", None, "", socket.gethostname()}
ALLOWED = HERE if os.environ["LOCAL"] else set()

def hook(event, args):
    if event in {"socket.connect", "socket.sendto", "socket.sendmsg"}:
        to = args[1][0] if isinstance(args[1], tuple) else None  # else a socket of this machine, by its path
        refused = isinstance(args[1], tuple) and to not in ALLOWED
    elif event in {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"}:
        refused = args[0] not in ALLOWED
    else:
        return
    if refused:
        FOUND.append(f"{event} {args!r}")
        raise PermissionError(f"refused: {event}")

def report():
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            name = os.readlink(f"/proc/self/fd/{number}")
        except OSError:
            continue
        if name.startswith("socket:") and not os.environ["LOCAL"] or os.path.realpath(os.environ["HOME"]) in name:
            FOUND.append(name)
    with open(os.environ["WATCHED"], "a") as file:
        file.writelines(f"{line}\\n" for line in FOUND)

sys.addaudithook(hook)
atexit.register(report)
"""
"""A sitecustomize: Python's own connections by an audit hook, those of native code by open files at exit."""
SMALL = ["--batch", "16", "--image-size", "8", "--width", "0.0625"]
TRAIN = ["--out", "new", "--epochs", "1", *SMALL, "--set", "data.images=32"]
TUNE = ["--labels", "2-per-class", "--out", "tuned", "--epochs", "1", "--batch", "8"]
ROAD = ["--time", "60s", "--set", "model.width=0.0625", "--set", "data.size=8", "--set", "data.images=64"]
COMMANDS = {
    "export": [["run", "-o", "encoder.onnx"]],
    "data": [["check", "--set", "data.images=32", "--set", "data.size=8"]],
    "methods": [[], ["simclr", "--json"]],
    "doctor": [["--out", "new"]],
    "config": [["show", "--origin"], ["init"]],
    "pretrain": [TRAIN, [*TRAIN, "--dry-run"]],
    "finetune": [["run", *TUNE]],
    "distill": [["tuned", "--out", "student", "--epochs", "1", "--batch", "8"]],
    "pipeline": [["--labels", "2-per-class", "--out", "road", *ROAD], ["--labels", "10%", "--dry-run"]],
    "study": [["list"], ["simclr-head", "--time", "10m", "--dry-run", *ROAD[2:]]],
    "knn-eval": [["run", "--device", "cpu", "--baselines"]],
    "linear-eval": [["run", "--device", "cpu"]],
    "inspect-augs": [["--images", "1", "--views", "1"]],
    "bench": [["loss", *SMALL]],
    "runs": [["."], ["compare", "run", "--plot", "curves.png"]],
    "watch": [["run"]],
    "embed": [["run", "-o", "vectors.npy"]],
    "neighbors": [["run", "shapes:train[0]", "--sheet", "sheet.png"]],
    "map": [["run", "-o", "map.html"], ["run", "-o", "map.png"]],
}
LINES = [[name, *words] for name, lines in COMMANDS.items() for words in lines]
QUICK = {"methods", "runs"}
UNSHARE = ["unshare", "--user", "--net", "--map-root-user"]


def test_every_command_is_tried() -> None:
    assert COMMANDS.keys() == {known.name for known in app.registered_commands}


def quiet(place: Path, words: list[str], *, local: bool = False) -> None:
    """Run the command with sockets refused, but for those of this machine if `local`, and with an empty HOME."""
    home, watched, hooks = place / "home", place / "watched.txt", place / "hooks"
    for folder in (home, hooks):
        folder.mkdir()
    (hooks / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    if words[0] in {"runs", "watch"}:  # of a run that trained, with its files
        assert main(["pretrain", *TRAIN, "--out", str(place / "run"), "--device", "cpu", "--precision", "fp32"]) == 0
    else:
        write_run(place / "run", toy_settings(images=64))
    if words[0] == "distill":
        assert main(["finetune", str(place / "run"), *TUNE, "--out", str(place / "tuned")]) == 0
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_", "SSLCLI_"))
    }
    path = os.pathsep.join(filter(None, [str(hooks), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    environment |= {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "CACHE", "DATA", "STATE")}
    environment |= {"HOME": str(home), "WATCHED": str(watched), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [*(() if local else isolated()), sys.executable, "-m", "ssl_cli", *words],
        cwd=place,
        env={**environment, "LOCAL": "1" if local else ""},
        capture_output=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr.decode()
    assert watched.read_text(encoding="utf-8") == ""
    assert list(home.rglob("*")) == []


def isolated() -> list[str]:
    """Return how to start a process that has no network, which refuses native code too; empty where none can be."""
    if not shutil.which("unshare") or subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode:
        return []
    return UNSHARE


@pytest.mark.parametrize(
    "words",
    [line if line[0] in QUICK else pytest.param(line, marks=pytest.mark.slow) for line in LINES],
    ids=lambda words: " ".join(words)[:40],
)
def test_home_stays_empty_and_nothing_is_sent(tmp_path: Path, words: list[str]) -> None:
    quiet(tmp_path, words)


@pytest.mark.slow
def test_two_ranks_connect_to_this_machine_alone(tmp_path: Path) -> None:
    quiet(tmp_path, ["pretrain", *TRAIN, "--devices", "2", "--device", "cpu"], local=True)


def test_a_connection_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    program = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    watched = tmp_path / "watched.txt"
    environment = {"HOME": str(tmp_path / "home"), "WATCHED": str(watched), "PYTHONPATH": str(tmp_path), "LOCAL": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=False)
    assert b"refused: socket." in done.stderr
    assert "192.0.2.1" in watched.read_text(encoding="utf-8")
