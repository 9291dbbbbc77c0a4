"""NT-Xent of many images: `python -m tests.bench.nt_xent [N ...]`, forward and backward, D 128, temperature 0.1.

Each arm has processes of its own, whose memory is the peak beyond what stood before; the arms take turns and the
fastest repeat of a turn counts, the median over turns is told. LightlySSL's loss is an arm where it is installed. What
would need more memory than is free is left out. Gradients are held against float64 on 512 rows, found once.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ssl_cli import memory
from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.losses.nt_xent_tiled import local_gradient, log_sum_exp, nt_xent_tiled

DIM, TEMPERATURE = 128, 0.1
TURNS = 3
SAMPLED = 512
COPIES = {"dense": 3.3, "LightlySSL": 4.6}
"""Matrices of M x M that these hold at once, and a little."""


def arms() -> dict[str, Callable[[Tensor], Tensor]]:
    """Losses of rows `(2N,D)`, first views first."""
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "tiled": lambda z: nt_xent_tiled(z, TEMPERATURE),
        "dense": lambda z: nt_xent(z, TEMPERATURE),
    }
    if importlib.util.find_spec("lightly"):
        from lightly.loss import NTXentLoss

        lightly = NTXentLoss(temperature=TEMPERATURE)
        found["LightlySSL"] = lambda z: lightly(*z.chunk(2))
    return found


def rows(images: int) -> Tensor:
    """Pairs of unit rows that lie near each other."""
    torch.manual_seed(0)
    first = torch.randn(images, DIM)
    both = torch.cat([first, first + 0.5 * torch.randn(images, DIM)])
    return torch.nn.functional.normalize(both, dim=1)


def alone(name: str, images: int, exact: Path) -> dict[str, float]:
    """One turn of an arm in this process: seconds, bytes, relative error of the gradient."""
    z, loss = rows(images).requires_grad_(), arms()[name]

    def once() -> float:
        z.grad = None
        began = time.perf_counter()
        loss(z).backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - began

    if images <= 4096:
        once()
    taken = memory.peak_during(once, torch.device("cpu"))
    seconds = min(once() for _ in range(3 if images <= 4096 else 1))
    assert z.grad is not None
    unit, found = (x.detach()[sampled(images)].double() for x in (z, z.grad))
    # along the sphere: LightlySSL's gradient has no other part, for it makes its rows unit ones itself
    wanted = torch.load(exact, weights_only=True)
    found, wanted = (g - (g * unit).sum(1, keepdim=True) * unit for g in (found, wanted))
    return {"seconds": seconds, "taken": float(taken or 0), "error": float((found - wanted).norm() / wanted.norm())}


def sampled(images: int) -> Tensor:
    """Rows whose gradients are looked at."""
    return torch.arange(0, 2 * images, max(2 * images // SAMPLED, 1))[:SAMPLED]


def exact_gradient(images: int) -> Tensor:
    """Theirs in float64, in little memory."""
    z = rows(images).double()
    return local_gradient(z, sampled(images), log_sum_exp(z, TEMPERATURE), TEMPERATURE)


def all_turns(images: int) -> dict[str, list[dict[str, float]]]:
    """What each arm found in each of its turns."""
    turns: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        exact = str(Path(folder) / "exact.pt")
        torch.save(exact_gradient(images), exact)
        for _ in range(TURNS if images <= 16384 else 1):
            for name in arms():
                if COPIES.get(name, 0) * 4 * (2 * images) ** 2 > memory.available():
                    continue
                words = [sys.executable, "-m", "tests.bench.nt_xent", str(images), "--alone", name, exact]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                turns.setdefault(name, []).append(json.loads(done.stdout))
    return turns


def main() -> None:
    """Print a table for each number of images."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="*", type=int, default=[1024, 4096, 16384, 65536])
    parser.add_argument("--alone", nargs=2, help="what this command says to the processes of its arms")
    asked = parser.parse_args()
    if asked.alone:
        name, exact = asked.alone
        print(json.dumps(alone(name, asked.images[0], Path(exact))))
        return
    for images in asked.images:
        turns = all_turns(images)
        print(f"\n| N = {images:,} | seconds (least, most) | memory | error of the gradient |\n|---|---|---|---|")
        for name, found in turns.items():
            times = [one["seconds"] for one in found]
            taken, error = (statistics.median(one[key] for one in found) for key in ("taken", "error"))
            spread = f"{statistics.median(times):.3g} ({min(times):.3g}, {max(times):.3g})"
            print(f"| {name} | {spread} | {taken / 1e6:,.0f} MB | {error:.0e} |", flush=True)


if __name__ == "__main__":
    main()
