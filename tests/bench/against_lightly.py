"""kNN after equal epochs, and time to equal kNN, beside LightlySSL's parts: python -m tests.bench.against_lightly.

Run by hand, never by the test suite, with LightlySSL on the path, one process at a time:

    python -m tests.bench.against_lightly DATA RESULTS.jsonl --method simclr --seeds 0 1 2

DATA holds `train/` and `val/`, both of training images, a folder for each class. The arms take turns, seed by seed:
LightlySSL's parts in a plain loop (`tests.bench.lightly_loop`), and sslcli's `own` recipe, with views of full size and
with growing ones. Every run trains a ResNet-18 of width 0.25 at batch 256 from pixels of 32; quality is kNN (k 200,
T 0.1) on h, the images of `train/` as the bank and all of `val/` as queries. RESULTS gains one JSON line for each run;
what it holds already is not run again.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.bench.command import answered

Arm = Callable[[Path, int, int], dict[str, Any]]
LIGHTLY: Mapping[str, Mapping[str, list[str]]] = {
    "simclr": {
        "adamw": ["--optimiser", "adamw", "--lr", "3e-3", "--temperature", "0.2"],
        "sgd": ["--optimiser", "sgd", "--lr", "0.12", "--weight-decay", "5e-4", "--temperature", "0.5"],
    },
    "moco-v2": {
        "adamw": ["--method", "moco", "--optimiser", "adamw", "--lr", "1e-3", "--temperature", "0.2"],
        "sgd": ["--method", "moco", "--optimiser", "sgd", "--lr", "0.12", "--weight-decay", "5e-4"],
    },
}
"""LightlySSL's optimisers: AdamW, and the SGD of its CIFAR-10 benchmark, whose rate is 0.06 for 128 images."""
VIEWS: Mapping[str, str] = {"full": "schedule.resolution=[1,1]", "growing": "schedule.resolution=[0.5,0.8]"}


def lightly(method: str, optimiser: str) -> Arm:
    """Return the arm that trains with LightlySSL's parts."""

    def run(data: Path, epochs: int, seed: int) -> dict[str, Any]:
        words = [str(data / "train"), str(data / "val"), "--epochs", str(epochs), "--seed", str(seed)]
        words += ["--queries", "1000", *LIGHTLY[method][optimiser]]
        command = [sys.executable, "-m", "tests.bench.lightly_loop", *words]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        return {key: found[key] for key in ("knn", "untrained", "seconds", "images_per_second")}

    return run


def ours(method: str, views: str) -> Arm:
    """Return the arm that runs `sslcli pretrain`."""

    def run(data: Path, epochs: int, seed: int) -> dict[str, Any]:
        words = [str(data), "--method", method, "--backbone", "resnet18", "--width", "0.25", "--image-size", "32"]
        words += ["--batch", "256", "--epochs", str(epochs), "--seed", str(seed)]
        words += ["--set", "run.monitor=false", "--set", "run.evaluate=false", "--set", VIEWS[views]]
        with tempfile.TemporaryDirectory() as folder:
            trained = succeeded(["pretrain", *words, "--out", str(Path(folder) / "run")])
            found = succeeded(["knn-eval", str(Path(folder) / "run"), "--k", "200", "--baselines"])
        return {
            "knn": found["top1"],
            "untrained": found["baselines"]["untrained"],
            "seconds": trained["seconds"],
            "images_per_second": trained["plan_against_fact"]["rate"]["actual"],
        }

    return run


def succeeded(words: Sequence[str]) -> dict[str, Any]:
    """Return what `sslcli WORDS` found; exit with its sentence where it failed."""
    found = answered(words)
    if "error" in found:
        raise SystemExit(found["error"]["message"])
    return found


def main() -> None:
    """Run what RESULTS does not hold yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--method", choices=sorted(LIGHTLY), default="simclr")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", default=["lightly-adamw", "full", "growing"])
    asked = parser.parse_args()
    arms = {f"lightly-{name}": lightly(asked.method, name) for name in LIGHTLY[asked.method]}
    arms |= {name: ours(asked.method, name) for name in VIEWS}
    done = asked.results.read_text().splitlines() if asked.results.exists() else []
    held = {tuple(json.loads(line)[key] for key in ("method", "arm", "epochs", "seed")) for line in done}
    for seed in asked.seeds:
        for arm in asked.arms:
            if (asked.method, arm, asked.epochs, seed) in held:
                continue
            found = arms[arm](asked.data, asked.epochs, seed)
            line = json.dumps({"method": asked.method, "arm": arm, "epochs": asked.epochs, "seed": seed, **found})
            with asked.results.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
