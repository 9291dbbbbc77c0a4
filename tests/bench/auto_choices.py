"""Compare the plan's choices with all others: `python -m tests.bench.auto_choices [METHOD ...] [--compile]`.

An arm is a precision, a memory format, a micro-batch and a compile mode; all arms compute the gradient of one batch in
turns. Reported is the median ratio of an arm's time to that of the plan's own choice in the same turn, so that load on
the machine cancels. The plan is good if the best arm is not a tenth faster.
"""

import itertools
import math
import statistics
import sys
import time

from ssl_cli.bench import run
from ssl_cli.bench.run import Run
from ssl_cli.config.sources import settle

REPEATS = 7
run.STEP_SECONDS = math.inf  # the whole batch, however long it takes


def build(method: str, batch: int, *sets: str) -> Run:
    """Build a run of the recipe `shapes` on the CPU."""
    flags = {"method": {"name": method}, "run": {"batch": batch}, "hardware": {"device": "cpu"}}
    return Run(settle(flags, ["data.images=4096", *sets]).settings, math.inf)


def seconds(arm: Run) -> float:
    """Return the time of one gradient."""
    start = time.perf_counter()
    arm.gradient()
    return time.perf_counter() - start


def compare(method: str, batch: int, compiles: tuple[str, ...]) -> None:
    """Print the arms of one configuration."""
    auto = build(method, batch)
    largest, group = max(auto.resolved.micro_batch, 128), auto.settings.model.bn_group
    least = min(group, 2 * batch) if isinstance(group, int) else 2 * batch
    arms = {"auto": auto}
    for precision, layout, rows, compiled in itertools.product(
        ("fp32", "bf16"), ("channels_last", "contiguous"), sorted({largest, largest // 2}), compiles
    ):
        if rows >= least:
            sets = {"precision": precision, "memory_format": layout, "micro_batch": rows, "compile": compiled}
            name = f"{precision} {layout} {rows} compile {compiled}"
            arms[name] = build(method, batch, *(f"hardware.{key}={value}" for key, value in sets.items()))
    for arm in arms.values():
        seconds(arm)  # compiles kernels
    turns = [{name: seconds(arm) for name, arm in arms.items()} for _ in range(REPEATS)]
    ratios = {name: statistics.median(turn[name] / turn["auto"] for turn in turns) for name in arms if name != "auto"}
    own, best = statistics.median(turn["auto"] for turn in turns), min(ratios, key=ratios.__getitem__)
    chosen = f"{auto.resolved.precision} {auto.resolved.memory_format} {auto.resolved.micro_batch}"
    print(f"{method}, batch {batch}: auto is {chosen}, {own:.3f} s; the best is {best}, {ratios[best]:.2f} x")
    for name, ratio in sorted(ratios.items(), key=lambda item: item[1]):
        print(f"    {ratio:5.2f} x  {name}")


def main() -> None:
    """Print a table for each method named, with `--compile` of compiled arms too."""
    compiles = ("off", "on") if "--compile" in sys.argv else ("off",)
    for method in [name for name in sys.argv[1:] if not name.startswith("--")] or ["simclr", "moco-v2"]:
        compare(method, 128 if method.startswith("moco") else 256, compiles)


if __name__ == "__main__":
    main()
