"""NT-Xent of many images: `python -m tests.bench.nt_xent [N ...]`, forward and backward, D 128, temperature 0.1.

Each arm has processes of its own, whose memory is the peak beyond what stood before; the arms take turns and the
fastest repeat of a turn counts, the median over turns is told. LightlySSL's loss is an arm where it is installed. What
would need more memory than is free is left out. Gradients are held against float64 on 512 rows.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from ssl_cli.engine import memory
from ssl_cli.losses.nt_xent import nt_xent
from ssl_cli.losses.nt_xent_tiled import nt_xent_tiled, own_gradient, own_log_sum_exp, row_log_sum_exp

DIM, TEMPERATURE = 128, 0.1
TURNS = 3
SAMPLED = 512
COPIES = {"dense": 3.3, "LightlySSL": 4.6}
"""Matrices of M x M that these hold at once, and a little."""


def arms() -> dict[str, Callable[[Tensor], Tensor]]:
    """Losses of rows `(2N,D)`, first views first."""
    found: dict[str, Callable[[Tensor], Tensor]] = {
        "tiled": lambda z: nt_xent_tiled(z, TEMPERATURE),
        "tiled, bf16 products": lambda z: nt_xent_tiled(z, TEMPERATURE, products=torch.bfloat16),
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


def alone(name: str, images: int) -> dict[str, float]:
    """One turn of an arm in this process: seconds, bytes, relative error of the gradient."""
    z, loss = rows(images).requires_grad_(), arms()[name]

    def once() -> float:
        z.grad = None
        began = time.perf_counter()
        loss(z).backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - began

    if images <= 4096:
        once()
    taken = memory.taken_by(once, torch.device("cpu"))
    seconds = min(once() for _ in range(3 if images <= 4096 else 1))
    assert z.grad is not None
    own = torch.arange(0, 2 * images, max(2 * images // SAMPLED, 1))[:SAMPLED]
    unit = z.detach().double()[own]
    # along the sphere: LightlySSL's gradient has no other part, for it makes its rows unit ones itself
    found, exact = (g - (g * unit).sum(1, keepdim=True) * unit for g in (z.grad[own].double(), _exact(z.detach(), own)))
    error = float((found - exact).norm() / exact.norm())
    return {"seconds": seconds, "taken": float(taken or 0), "error": error}


def _exact(z: Tensor, own: Tensor) -> Tensor:
    """The gradient of some rows in float64, rows against all; of the others' log-sum-exps float32 has enough digits."""
    log_sum_exp, wide = row_log_sum_exp(z, TEMPERATURE).double(), z.double()
    log_sum_exp[own] = own_log_sum_exp(wide, own, TEMPERATURE)
    return own_gradient(wide, own, log_sum_exp, TEMPERATURE)


def main() -> None:
    """Print a table for each number of images."""
    parser = argparse.ArgumentParser()
    parser.add_argument("images", nargs="*", type=int, default=[1024, 4096, 16384, 65536])
    parser.add_argument("--alone")
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(alone(asked.alone, asked.images[0])))
        return
    for images in asked.images:
        turns: dict[str, list[dict[str, float]]] = {}
        for _ in range(TURNS if images <= 16384 else 1):
            for name in arms():
                if COPIES.get(name, 0) * 4 * (2 * images) ** 2 > memory.available():
                    continue
                words = [sys.executable, "-m", "tests.bench.nt_xent", str(images), "--alone", name]
                done = subprocess.run(words, check=True, capture_output=True, text=True)
                turns.setdefault(name, []).append(json.loads(done.stdout))
        print(f"\n| N = {images:,} | seconds (least, most) | memory | error of the gradient |\n|---|---|---|---|")
        for name, found in turns.items():
            times = [one["seconds"] for one in found]
            taken, error = (statistics.median(one[key] for one in found) for key in ("taken", "error"))
            spread = f"{statistics.median(times):.3g} ({min(times):.3g}, {max(times):.3g})"
            print(f"| {name} | {spread} | {taken / 1e6:,.0f} MB | {error:.0e} |", flush=True)


if __name__ == "__main__":
    main()
