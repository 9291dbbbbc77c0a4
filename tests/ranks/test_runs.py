"""Runs of the command as two ranks: they end together, and the error names the rank that caused it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ssl_cli import checkpoint
from ssl_cli.nn.resnet import resnet18
from tests import processes
from tests.ranks.processes import free_port

SMALL = [
    "--batch", "32", "--image-size", "16", "--width", "0.125", "--precision", "fp32", "--set", "data.images=256",
    "--set", "model.bn_group=16", "--set", "run.evaluate=false", "--set", "run.monitor=false",
    "--set", "run.log_every=1", "--set", "run.checkpoint_every=4", "--set", "hardware.memory_format=contiguous",
    "--compile", "off",
]  # fmt: skip
FAILING = """
import os
from ssl_cli.errors import DataError
from ssl_cli.methods.simclr import SimCLR


class Failing(SimCLR):
    def loss(self, z, targets, batch):
        if os.environ.get("RANK") == "1" and batch.step == 3:
            raise DataError("The moon is out.", "Wait for the sun.")
        return super().loss(z, targets, batch)
"""
SHORT = """
import os
import torch
from torch._subclasses.fake_tensor import FakeTensor
from ssl_cli.methods.simclr import SimCLR


class Short(SimCLR):
    calls = 0

    def forward(self, x):
        if torch.is_grad_enabled() and not isinstance(x, FakeTensor) and os.environ.get("RANK") == "{rank}":
            self.calls += 1
            if self.calls > 10 and len(x) > 16:
                raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(x)
"""


def start(out: Path, *extra: str, devices: int = 2) -> subprocess.Popen[str]:
    ranks = ["--devices", str(devices)] if devices > 1 else []
    return processes.start("pretrain", "shapes", "--resume", "--out", str(out), *SMALL, *extra, *ranks)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, stderr = process.communicate(timeout=300)
    return process.returncode, stderr


def status(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "status.json").read_text())
    return found


def rank(launcher: subprocess.Popen[str], number: int) -> psutil.Process:
    children = psutil.Process(launcher.pid).children()
    return next(child for child in children if child.environ().get("RANK") == str(number))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "moco-v2", "instdisc", "invaspread", "simclr-v2"])
def test_every_method_plans_and_trains_on_two_ranks(tmp_path: Path, method: str) -> None:
    code, stderr = ended(start(tmp_path / "run", "--epochs", "1", "--method", method))
    assert code == 0, stderr
    assert status(tmp_path / "run")["state"] == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["simclr", "moco-v2"])
def test_as_many_groups_as_ranks(tmp_path: Path, method: str) -> None:
    """Each rank has rows of one view alone."""
    code, stderr = ended(start(tmp_path / "run", "--epochs", "1", "--method", method, "--set", "model.bn_group=32"))
    assert code == 0, stderr


@pytest.mark.slow
def test_two_ranks_train_as_one_process_which_resumes_their_run(tmp_path: Path) -> None:
    gentle = ["--set", "optim.name=sgd", "--lr", "0.002"]  # larger steps make much of the last digits of a float32
    assert ended(start(tmp_path / "two", "--epochs", "1", *gentle))[0] == 0
    assert ended(start(tmp_path / "one", "--epochs", "1", *gentle, devices=1))[0] == 0
    two, one = (checkpoint.load(checkpoint.locate(str(tmp_path / name))[0])["objective"] for name in ("two", "one"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-4, rtol=1e-3, msg=name)
    lines = [json.loads(line) for line in (tmp_path / "two" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["event"] == "stepped"] == list(range(1, 9))
    code, _ = ended(start(tmp_path / "two", "--epochs", "2", devices=1))
    assert (code, status(tmp_path / "two")["state"]) == (0, "finished")
    assert checkpoint.load(checkpoint.locate(str(tmp_path / "two"))[0])["step"] == 16


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_rank_ends_the_run(tmp_path: Path, number: int) -> None:
    out = tmp_path / "run"
    process = start(out, "--epochs", "300")
    assert processes.wait(process, lambda: processes.steps_logged(out) >= 6)
    ranks = psutil.Process(process.pid).children()
    rank(process, number).kill()
    code, stderr = ended(process)
    assert code == 75
    assert f"Rank {number} of 2" in stderr
    assert "SIGKILL" in stderr
    assert "Traceback" not in stderr
    assert (status(out)["state"], status(out)["exit_code"]) == ("failed", 75)
    assert not any(other.is_running() for other in ranks)
    assert status(out)["reason"] == f"Rank {number} of 2 (from 0) was ended by SIGKILL."


@pytest.mark.slow
def test_a_run_whose_launcher_is_killed_is_stopped_and_can_be_resumed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, "--epochs", "300")
    assert processes.wait(process, lambda: processes.steps_logged(out) >= 6)
    ranks = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(ranks, timeout=120)[1]
    assert (status(out)["state"], status(out)["exit_code"]) == ("stopped", 75)
    process = start(out)
    assert processes.wait(process, lambda: processes.steps_logged(out) >= 12)
    process.send_signal(signal.SIGTERM)
    code, stderr = ended(process)
    assert code == 75
    assert "SIGTERM was received" in stderr
    assert status(out)["state"] == "stopped"


@pytest.mark.slow
def test_a_rank_that_fails_is_named_with_its_error(tmp_path: Path) -> None:
    method = tmp_path / "mine.py"
    method.write_text(FAILING)
    out = tmp_path / "run"
    code, stderr = ended(start(out, "--epochs", "1", "--method", f"{method}:Failing"))
    assert code == 3
    assert stderr.count("error: Rank 1 failed: The moon is out.") == 1
    assert "Wait for the sun." in stderr
    assert status(out)["reason"] == "Rank 1 failed: The moon is out."
    assert status(out)["exit_code"] == 3


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_out_of_memory_on_one_rank_makes_the_resumed_micro_batches_smaller(tmp_path: Path, number: int) -> None:
    method, out = tmp_path / "mine.py", tmp_path / "run"
    method.write_text(SHORT.replace("{rank}", str(number)))
    extra = ["--epochs", "3", "--method", f"{method}:Short", "--set", "optim.name=sgd", "--lr", "0.002"]
    code, stderr = ended(start(out, *extra))
    assert code == 5
    assert ("error: Rank 1 failed: Out of memory in" if number else "error: Out of memory in") in stderr
    assert "Resume from the last checkpoint with --resume" in stderr
    assert status(out)["exit_code"] == 5
    assert ("Rank 1 failed: Out of memory" if number else "Out of memory") in status(out)["reason"]
    code, stderr = ended(start(out, *extra))
    assert code == 0, stderr
    assert "The run continues with micro-batches of 16 rows. The batch is unchanged." in stderr
    assert status(out)["state"] == "finished"
    steps: dict[int, list[float]] = {}
    for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()):
        if line["event"] == "stepped":
            steps.setdefault(line["step"], []).append(line["loss"])
    assert list(steps) == list(range(1, 25))
    for losses in steps.values():  # those after the last checkpoint are there twice
        assert losses == pytest.approx(losses[:1] * len(losses), rel=1e-4)


@pytest.mark.slow
def test_a_file_that_either_rank_cannot_read_is_listed_once(tmp_path: Path) -> None:
    for number in range(64):
        Image.new("RGB", (16, 16), (4 * number, 90, 30)).save(tmp_path / f"{number}.png")
    for name in ("bad.png", "worse.png"):
        (tmp_path / name).write_bytes(b"no picture")
    words = ["--recipe", "shapes", "--epochs", "2", "--set", "data.threads=1"]
    out = tmp_path / "run"
    line = ["-m", "ssl_cli", "pretrain", str(tmp_path), "--devices", "2", "--out", str(out), *SMALL, *words]
    process = subprocess.Popen([sys.executable, *line], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert process.wait(timeout=300) == 0
    lines = [json.loads(line) for line in (out / "bad_images.jsonl").read_text().splitlines()]
    assert sorted(Path(line["path"]).name for line in lines) == ["bad.png", "worse.png"]


@pytest.mark.slow
def test_a_plan_for_several_ranks(tmp_path: Path) -> None:
    line = ["pretrain", "--dry-run", "--devices", "4", *SMALL]
    done = subprocess.run([sys.executable, "-m", "ssl_cli", *line], capture_output=True, text=True, check=True)
    words = " ".join(done.stdout.split())
    assert "1 of 4 BatchNorm groups each" in words
    assert "BatchNorm 16 rows a group 4 equal groups" in words
    line = ["pretrain", "--dry-run", "--devices", "2", "--batch", "64", "--image-size", "16"]
    done = subprocess.run([sys.executable, "-m", "ssl_cli", *line], capture_output=True, text=True, check=True)
    assert "128 rows a group one group, as in the paper" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_the_example_of_two_nodes(tmp_path: Path) -> None:
    """Both of them on this machine."""
    port, out = str(free_port()), tmp_path / "run"
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1",
        "PORT": port, "OUT": str(out),
    }  # fmt: skip
    nodes = [
        subprocess.Popen(
            ["sh", "examples/two_nodes.sh", str(node), "127.0.0.1", "shapes", *SMALL, "--epochs", "1"], env=environment
        )
        for node in range(2)
    ]
    assert [node.wait(timeout=300) for node in nodes] == [0, 0]
    assert status(out)["state"] == "finished"


def test_the_slurm_example_is_a_script_that_bash_reads() -> None:
    assert subprocess.run(["bash", "-n", "examples/slurm.sbatch"], check=False).returncode == 0


HASHING = """
import os
from pathlib import Path
from ssl_cli.methods.moco import MoCo
from ssl_cli.nn.evaluating import fingerprint


class Hashing(MoCo):
    def targets(self, views, batch):
        place = Path(os.environ["HASHES"], os.environ.get("RANK", "0"))
        if not place.exists():
            place.write_text(fingerprint(self))
        return super().targets(views, batch)
"""


@pytest.mark.slow
def test_ranks_start_from_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where rank 1 cannot read the file: rank 0 broadcasts what it read."""
    monkeypatch.setenv("HASHES", str(tmp_path))
    (tmp_path / "hashing.py").write_text(HASHING)
    torch.manual_seed(3)
    net = resnet18(width=0.125, stem="cifar")
    torch.save({"state_dict": net.state_dict()}, tmp_path / "weights.pth")
    words = ["--method", f"{tmp_path / 'hashing.py'}:Hashing", "--set", "method.queue=32", "--set", "method.ema=0.9"]
    words += ["--set", "method.symmetric=false"]
    code, stderr = ended(start(tmp_path / "run", "--epochs", "1", "--init-from", str(tmp_path / "weights.pth"), *words))
    assert code == 0, stderr
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text()


@pytest.mark.slow
def test_two_ranks_fine_tune_as_one_process(tmp_path: Path) -> None:
    """Rank 0 alone reads the run that training starts from."""
    assert ended(start(tmp_path / "run", "--epochs", "1", "--method", "simclr-v2", devices=1))[0] == 0
    words = ["finetune", str(tmp_path / "run"), "--labels", "100%", "--epochs", "1", "--batch", "32", "--lr", "0.002"]
    words += ["--device", "cpu", "--precision", "fp32", "--set", "model.bn_group=16", "--set", "run.evaluate=false"]
    words += ["--set", "hardware.memory_format=contiguous", "--compile", "off"]
    found = {}
    for devices in ("1", "2"):
        line = [sys.executable, "-m", "ssl_cli", *words, "--out", str(tmp_path / devices), "--devices", devices]
        done = subprocess.run(
            line, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done.stderr
        found[devices] = checkpoint.load(checkpoint.locate(str(tmp_path / devices))[0])["objective"]
    for name, value in found["1"].items():
        torch.testing.assert_close(found["2"][name], value, atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_two_ranks_write_a_cache_on_disk_once_and_compute_what_one_process_does(tmp_path: Path) -> None:
    photos, cache = tmp_path / "photos", tmp_path / "cache"
    draw = np.random.default_rng(0)
    for k in range(64):
        path = photos / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(path)

    def trained(name: str, ranks: int, how: str) -> dict[str, torch.Tensor]:
        sets = ["--epochs", "1", "--set", f"data.cache={how}", "--set", f"data.cache_folder={cache}"]
        devices = ["--devices", str(ranks)] if ranks > 1 else []
        code, words = ended(
            processes.start("pretrain", str(photos), "--out", str(tmp_path / name), *SMALL, *sets, *devices)
        )
        assert code == 0, words
        found: dict[str, torch.Tensor] = checkpoint.load(*checkpoint.locate(str(tmp_path / name)))["objective"]
        return found

    def written() -> list[tuple[str, int]]:
        return [(path.name, path.stat().st_size) for path in sorted(cache.glob("images-*/*.pixels"))]

    wanted, decoded = trained("one", 1, "none"), trained("decoded", 2, "none")
    first, parts = trained("first", 2, "disk"), written()
    assert [name for name, _ in parts] == ["000001.pixels", "000002.pixels"]
    assert sum(size for _, size in parts) == 64 * 20 * 24 * 3  # each image once
    second = trained("second", 2, "disk")
    assert written() == parts
    assert wanted.keys() == first.keys() == decoded.keys() == second.keys()
    for key in wanted:
        assert torch.equal(first[key], decoded[key]), key
        assert torch.equal(first[key], second[key]), key
        assert torch.allclose(first[key].double(), wanted[key].double(), rtol=1e-3, atol=1e-5), key
