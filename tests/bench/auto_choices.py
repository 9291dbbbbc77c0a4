"""What the plan chooses against every choice by hand: `python -m tests.bench.auto_choices [METHOD ...]`.

Each arm is a precision, a memory format, a micro-batch, eager or compiled; a turn is one step's passes and gradient,
all arms in turn. An arm is told as the median of its ratios to the plan's own choice in the same turn, so that what
else the machine does drops out. The plan is good if the best arm is not a tenth faster.
"""

import dataclasses
import itertools
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from ssl_cli.engine.job import Job

from ssl_cli.config.sources import settle
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.plan import plan
from ssl_cli.engine.plan.compile import set_compile
from ssl_cli.engine.rows import group_sizes, packed
from ssl_cli.objective import Batch

REPEATS = 7
CPU = torch.device("cpu")


class Arm:
    """Steps in one way."""

    def __init__(self, settings: Settings, resolved: plan.Resolved) -> None:
        source = open_pretraining(settings.data, 0)
        objective = build_objective(settings, CPU, len(source))
        groups = group_sizes(settings.run.batch, objective.gradient_views, settings.model.bn_group)
        count = len(list(packed(groups, resolved.micro_batch)))
        self.resolved = dataclasses.replace(resolved, kept_graphs=count, mode="direct")
        self.job = Job(settings, self.resolved, objective, build_loader(settings, objective, source, CPU, 10**9), None)
        self.batch: Batch = next(self.job.loader.batches(0, 1))

    @property
    def name(self) -> str:
        """The choices in words."""
        chosen = self.resolved
        return f"{chosen.precision} {chosen.memory_format} {chosen.micro_batch} compile {chosen.compile}"

    def seconds(self) -> float:
        """Of one step's passes; its gradient is dropped."""
        views, batch = self.job.staging.stage(self.batch)
        began = time.perf_counter()
        targets = self.job.targets(views, batch)
        self.job.backward(views, targets, batch)
        seconds = time.perf_counter() - began
        self.job.moments.clear()
        self.job.optimiser.zero_grad(set_to_none=True)
        return seconds


def planned(settings: Settings) -> plan.Resolved:
    """What `auto` resolves to."""
    source = open_pretraining(settings.data, 0)
    objective = build_objective(settings, CPU, len(source))
    with tempfile.TemporaryDirectory() as folder:
        return plan.make_plan(settings, objective, len(source), source.name, source, Path(folder)).resolved


def compare(method: str, batch: int, compiles: tuple[str, ...]) -> None:
    """Print the arms of one configuration."""
    settings = settle({"method": {"name": method}, "run": {"batch": batch}}, ["data.images=4096"]).settings
    auto = planned(settings)
    largest = max(auto.micro_batch, 128)
    arms = [Arm(settings, auto)]
    for precision, layout, rows, compiled in itertools.product(
        ("fp32", "bf16"), ("channels_last", "contiguous"), sorted({largest, largest // 2}), compiles
    ):
        if rows < min(settings.model.bn_group if isinstance(settings.model.bn_group, int) else batch, 2 * batch):
            continue
        arms.append(Arm(settings, dataclasses.replace(
            auto, precision=precision, memory_format=layout, micro_batch=rows, compile=compiled
        )))  # fmt: skip
    times: list[list[float]] = []
    for arm in arms:
        arm.seconds()  # kernels are built, and graphs
    for _ in range(REPEATS):
        times.append([arm.seconds() for arm in arms])
    ratios = {arm.name: statistics.median(turn[k] / turn[0] for turn in times) for k, arm in enumerate(arms) if k}
    own = statistics.median(turn[0] for turn in times)
    best = min(ratios, key=lambda name: ratios[name])
    print(f"{method}, batch {batch}: auto is {arms[0].name}, {own:.3f} s; the best is {best}, {ratios[best]:.2f} x")
    for name, ratio in sorted(ratios.items(), key=lambda item: item[1]):
        print(f"    {ratio:5.2f} x  {name}")
    for arm in arms:
        set_compile(arm.job.objective, "off")


def main() -> None:
    """Print a table for each method named, with `--compile` of compiled arms too."""
    compiles = ("off", "on") if "--compile" in sys.argv else ("off",)
    for method in [name for name in sys.argv[1:] if not name.startswith("--")] or ["simclr", "moco-v2"]:
        compare(method, 128 if method.startswith("moco") else 256, compiles)


if __name__ == "__main__":
    main()
