"""The disk is full, limited or gone, at each file of a run: what was saved is whole, and the error names path and size.

On a file system of its own of 8 MB, where user namespaces allow to mount one; else by a limit on the size of a file.
"""

import functools
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_cli import checkpoint
from ssl_cli.errors import ResourceError
from tests.engine.run.test_paths import SMALL
from tests.faults import runs

MOUNTED = "mount -t tmpfs -o size=8m none {disk} && cp -a {out}/. {disk} && {{ {fill}; {command}; code=$?; "\
          "rm -f {disk}/filler; rm -rf {out}; cp -a {disk} {out}; exit $code; }}"  # fmt: skip


@functools.cache
def may_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-Urm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0
    )


def command(*words: str, limit: Callable[[], None] | None = None) -> tuple[int, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "CI": "1"}
    done = subprocess.run([sys.executable, "-m", "ssl_cli", *words], capture_output=True, text=True, env=environment,
                          preexec_fn=limit, timeout=300)  # fmt: skip
    return done.returncode, done.stderr


def limited(size: int) -> Callable[[], None]:
    """Limit the size of a file, as `ulimit -f` does."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    words = [*SMALL, "--set", "data.images=32", "--set", "run.checkpoint_every=2"]
    assert command("pretrain", "--out", str(out), *words)[0] == 0
    return out


@pytest.mark.slow
def test_a_checkpoint_that_is_too_large(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    before = checkpoint.locate(str(out))[0].read_bytes()
    code, stderr = command("pretrain", "--out", str(out), "--resume", "--epochs", "2", limit=limited(len(before) // 2))
    assert code == ResourceError.code, stderr
    assert f"{out}/checkpoints/step_0000000" in stderr
    assert "bytes" in stderr
    assert "Traceback" not in stderr
    assert not list(out.rglob(".*.tmp.*"))
    assert checkpoint.locate(str(out))[0].read_bytes() == before
    assert json.loads((out / "status.json").read_text())["exit_code"] == ResourceError.code
    assert command("pretrain", "--out", str(out), "--resume", "--epochs", "2")[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("words", [["export", "{run}", "-o", "{to}.onnx"], ["inspect-augs", "-o", "{to}.png"]])
def test_an_output_that_is_too_large(words: list[str], finished: Path, tmp_path: Path) -> None:
    to = tmp_path / "output"
    code, stderr = command(*(word.format(run=finished, to=to) for word in words), limit=limited(4096))
    assert code == ResourceError.code, stderr
    assert str(to) in stderr
    assert "bytes" in stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 1, 40, 200, 400])
def test_a_disk_of_8_megabytes(left: int, finished: Path, tmp_path: Path) -> None:
    """With so many kilobytes left, the files of a resume fill it one or the other; a second try finds it empty."""
    if not may_mount():
        pytest.skip("user namespaces do not allow to mount a file system here")
    out, disk = Path(shutil.copytree(finished, tmp_path / "run")), tmp_path / "disk"
    disk.mkdir()
    before = checkpoint.load(checkpoint.locate(str(out))[0])["step"]
    words = f"{sys.executable} -m ssl_cli pretrain --resume --epochs 9 --out {disk}"
    fill = f"head -c 100M /dev/zero > {disk}/filler; truncate -s -{left}K {disk}/filler"
    script = MOUNTED.format(disk=disk, out=out, fill=fill, command=words)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "CI": "1"}
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == ResourceError.code, done.stderr
    assert str(disk) in done.stderr
    assert "Traceback" not in done.stderr
    assert checkpoint.load(checkpoint.locate(str(out))[0])["step"] >= before
    code, stderr = command("pretrain", "--out", str(out), "--resume", "--epochs", "9")
    assert code == 0, stderr
    assert not list(out.rglob(".*.tmp.*"))


@pytest.mark.slow
def test_a_folder_that_is_deleted_while_training(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = runs.start("simclr", out)
    runs.wait_for_steps(process, out, 7)
    shutil.rmtree(out)
    code, stderr = runs.finish(process, timeout=120)
    assert code == ResourceError.code, stderr
    assert str(out) in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    out.chmod(0o555)
    try:
        code, stderr = command("pretrain", "--out", str(out), "--resume", "--epochs", "2")
    finally:
        out.chmod(0o755)
    assert code == ResourceError.code, stderr
    assert str(out) in stderr
