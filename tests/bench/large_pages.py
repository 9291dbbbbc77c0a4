"""Compare ways to get huge pages, and none: `python -m tests.bench.large_pages [TURNS]`.

SimCLR and MoCo v2 on the embedded images at `--batch 256`, and SimCLR's cached step of 2,048. The arms take turns, each
run in its own process; every ratio is of two runs of the same turn.
"""

import statistics
import sys

from tests.bench.command import pretrained

RUNS = {
    "SimCLR, batch 256": ["--batch", "256", "--set", "data.images=2048"],
    "MoCo v2, batch 256": ["--method", "moco-v2", "--batch", "256", "--set", "data.images=2048"],
    "SimCLR, batch 2048, cached": ["--batch", "2048", "--set", "data.images=2048", "--set", "hardware.mode=cached"],
}
OFF = {"THP_MEM_ALLOC_ENABLE": "0", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}
ARMS = {
    "none": OFF,
    "THP_MEM_ALLOC_ENABLE": {**OFF, "THP_MEM_ALLOC_ENABLE": "1"},
    "GLIBC_TUNABLES": {**OFF, "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
}


def rate(words: list[str], environment: dict[str, str]) -> float:
    """Images a second of a run of two epochs."""
    fixed = ["--epochs", "2", "--set", "run.evaluate=false", "--set", "run.monitor=false"]
    found = pretrained([*words, *fixed], environment)
    return float(found["plan_against_fact"]["rate"]["actual"])


def main(turns: int) -> None:
    """Print a row for each run: the median rate without huge pages, and each other arm's ratio to it."""
    print(f"| run | {' | '.join(ARMS)} (ratio: median, least, most) |\n|---|{'---|' * len(ARMS)}")
    for name, words in RUNS.items():
        rates = [{arm: rate(words, environment) for arm, environment in ARMS.items()} for _ in range(turns)]
        cells = [f"{statistics.median(each['none'] for each in rates):,.0f}/s"]
        for arm in list(ARMS)[1:]:
            ratios = [each[arm] / each["none"] for each in rates]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 5)
