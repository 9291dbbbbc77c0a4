"""What a batch of 4,096 costs: `python -m tests.bench.big_batch`, alone: against the direct step of 256 images.

A step here is forward, loss and backward of random views: everything whose cost micro-batches change. The
arms alternate; each arm's memory is the peak of a process of its own, beyond what stood there before its first pass,
and so without images, views and weights.
"""

import argparse
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor

from ssl_cli import memory
from ssl_cli.config.sources import settle
from ssl_cli.engine.build import build_objective
from ssl_cli.engine.gradient import MicroBatched, compute_gradient
from ssl_cli.engine.rows import Shard
from ssl_cli.nn.batchnorm import Moments
from ssl_cli.nn.bn_groups import bn_groups
from ssl_cli.nn.precision import autocast
from ssl_cli.objective import Batch

MICRO = 512
ARMS: dict[str, tuple[int, int, bool]] = {
    "direct, batch 256": (256, 1, False),
    "cached, batch 4096": (4096, 0, False),
    "half of the graphs kept, batch 4096": (4096, 8, False),
    "checkpointed, batch 4096": (4096, 16, True),
    "direct, batch 4096": (4096, 16, False),
}


class Arm:
    """A step of so many images, with so many micro-batches of 512 rows kept."""

    def __init__(self, images: int, kept_graphs: int, checkpointing: bool, width: float) -> None:
        settings = settle({}, [f"model.width={width}"]).settings
        self.images, self.kept_graphs, self.loss_seconds = images, kept_graphs, 0.0
        torch.manual_seed(0)
        self.objective = build_objective(settings, torch.device("cpu"), images).train()
        self.objective.to(memory_format=torch.channels_last)
        x = torch.rand(2 * images, 3, 32, 32).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
        groups = bn_groups(images, 2, MICRO, 0, 0, 1)
        context = autocast(torch.device("cpu"), "bf16")
        self.rows = MicroBatched(
            self.objective, lambda rows: self.objective(x[rows]), Shard((groups,)), MICRO, context, 0, checkpointing
        )
        self.batch = Batch([], torch.zeros(images, dtype=torch.int64), torch.arange(images))

    def _loss(self, z: Tensor) -> Tensor:
        began = time.perf_counter()
        with torch.enable_grad():
            twin = z.detach().requires_grad_()
            self.objective.loss(twin, None, self.batch).backward()  # type: ignore[no-untyped-call]
        self.loss_seconds = time.perf_counter() - began
        assert twin.grad is not None
        return (z * twin.grad).sum()  # the same gradient, its time known

    def step(self) -> tuple[float, float]:
        """Seconds an image of all but the loss, and of the loss."""
        began = time.perf_counter()
        compute_gradient(self.rows, self._loss, Moments(), self.kept_graphs)
        seconds = time.perf_counter() - began
        self.objective.zero_grad(set_to_none=True)
        return (seconds - self.loss_seconds) / self.images, self.loss_seconds / self.images


def taken(name: str, width: float) -> int:
    """Bytes at most of this arm's second step, in a process of its own."""
    words = [sys.executable, "-m", "tests.bench.big_batch", "--alone", name, "--width", str(width)]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--alone")
    asked = parser.parse_args()
    if asked.alone:
        arm = Arm(*ARMS[asked.alone], asked.width)
        print(memory.peak_during(arm.step, torch.device("cpu")))
        return
    arms = {name: Arm(*how, asked.width) for name, how in ARMS.items()}
    for arm in arms.values():
        arm.step()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for _ in range(asked.rounds):
        for name, arm in arms.items():
            steps = [arm.step() for _ in range(max(1, 1024 // arm.images))]
            times[name].append((statistics.median(s[0] for s in steps), statistics.median(s[1] for s in steps)))
    print("| step | an image, without loss | paired ratio (least, most) | loss | memory | ratio |")
    print("|---|---|---|---|---|---|")
    first = next(iter(arms))
    base = taken(first, asked.width)
    for name in arms:
        ratios = sorted(own[0] / other[0] for own, other in zip(times[name], times[first], strict=True))
        image, loss = (statistics.median(pair[k] for pair in times[name]) for k in (0, 1))
        bytes_taken = base if name == first else taken(name, asked.width)
        print(
            f"| {name} | {1e3 * image:.2f} ms | {statistics.median(ratios):.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f}) "
            f"| {1e3 * loss:.2f} ms | {bytes_taken / 1e6:,.0f} MB | {bytes_taken / base:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
