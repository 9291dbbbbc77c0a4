"""Steps with large pages against steps without: `python -m tests.bench.large_pages`, in turns, each in its own process.

SimCLR and MoCo v2 on the embedded images at `--batch 256`, and SimCLR's cached step of 2,048.
"""

import statistics

from ssl_cli.large_pages import VALUE, VARIABLE
from tests.bench.command import pretrained

TURNS = 5
RUNS = {
    "SimCLR, batch 256": ["--batch", "256", "--set", "data.images=2048"],
    "MoCo v2, batch 256": ["--method", "moco-v2", "--batch", "256", "--set", "data.images=2048"],
    "SimCLR, batch 2048, cached": ["--batch", "2048", "--set", "data.images=2048", "--set", "hardware.mode=cached"],
}


def rate(words: list[str], tunables: str) -> float:
    """Images a second of a run of two epochs."""
    fixed = ["--epochs", "2", "--precision", "bf16", "--set", "run.evaluate=false", "--set", "run.monitor=false"]
    found = pretrained([*words, *fixed], {VARIABLE: tunables})
    return float(found["plan_against_fact"]["rate"]["actual"])


def main() -> None:
    """Print a row of a table for each run."""
    print("| run | with | without | ratio (least, most) |\n|---|---|---|---|")
    for name, words in RUNS.items():
        pairs = [(rate(words, VALUE), rate(words, "glibc.malloc.hugetlb=0")) for _ in range(TURNS)]
        ratios = [one / other for one, other in pairs]
        most, plain = (statistics.median(side) for side in zip(*pairs, strict=True))
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
        print(f"| {name} | {most:,.0f}/s | {plain:,.0f}/s | {spread} |", flush=True)


if __name__ == "__main__":
    main()
