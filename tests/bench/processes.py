"""Several ranks against one: `python -m tests.bench.processes`, alone.

How far 2 and 3 ranks are from one, on the problems of `tests/ranks/test_equality.py`: the largest difference of any
tensor of a checkpoint after five optimiser steps in float64. And the throughput of one and of two ranks with one thread
each, which take turns.
"""

import statistics

from tests.bench.command import pretrained
from tests.ranks.processes import cases, five_steps, train_as_ranks

TURNS = 5
RUN = [
    "--batch", "512", "--epochs", "2", "--set", "data.images=4096", "--set", "run.evaluate=false",
    "--set", "run.monitor=false", "--set", "model.bn_group=128",
]  # fmt: skip


def rate(method: str, processes: int) -> float:
    """Images per second of a short run of the recipe `shapes`."""
    words = ["--method", method, *RUN, "--devices", str(processes)]
    pairs = pretrained(words, {"OMP_NUM_THREADS": "1"})["plan_against_fact"]
    return float(pairs["rate"]["actual"])


def main() -> None:
    """Print both tables."""
    by_size = {size: train_as_ranks(size, cases()) for size in (2, 3)}
    print("| method | BatchNorm | way | 2 processes | 3 processes |\n|---|---|---|---|---|")
    for case in cases():
        alone = five_steps(*case)
        cells = []
        for each in by_size.values():
            apart = [
                (found[case][name] - value).double().nan_to_num() for found in each for name, value in alone.items()
            ]
            cells.append(f"{max(float(difference.abs().max()) for difference in apart):.0e}")
        print(f"| {' | '.join((*case, *cells))} |")
    print("\n| method | one process | two | ratio (least, most) |\n|---|---|---|---|", flush=True)
    for method in ("simclr", "moco-v2"):
        turns = [(rate(method, 1), rate(method, 2)) for _ in range(TURNS)]
        one, two = (statistics.median(turn[k] for turn in turns) for k in (0, 1))
        ratios = sorted(b / a for a, b in turns)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}, {ratios[-1]:.2f})"
        print(f"| {method} | {one:,.0f} images/s | {two:,.0f} images/s | {spread} |", flush=True)


if __name__ == "__main__":
    main()
