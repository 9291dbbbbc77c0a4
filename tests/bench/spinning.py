"""Compare how long OpenMP's threads spin, alone and with a busy program: `python -m tests.bench.spinning [TURNS]`.

A SimCLR step of 256 embedded images. The arms take turns, each run in its own process; the busy program is a loop of
one thread. Prints seconds a step: the median of all turns, and its ratio to the step of the default, alone.
"""

import contextlib
import statistics
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.command import pretrained

RUN = ["--batch", "256", "--epochs", "2", "--set", "data.images=1536", "--set", "run.evaluate=false",
       "--set", "run.monitor=false", "--precision", "fp32"]  # fmt: skip
DEFAULT = "as the plan chooses"
ARMS = {
    DEFAULT: {},
    **{count: {"GOMP_SPINCOUNT": count} for count in ("0", "1000", "10000", "100000", "300000")},
}


@contextlib.contextmanager
def busy_program(wanted: bool) -> Iterator[None]:
    """Keep one thread of another process busy."""
    if not wanted:
        yield
        return
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            yield
        finally:
            busy.kill()


def step_seconds(environment: dict[str, str]) -> float:
    """Return the seconds of a step of one run."""
    return 256 / float(pretrained(RUN, environment)["plan_against_fact"]["rate"]["actual"])


def main(turns: int) -> None:
    """Print a row for each arm."""
    found: dict[tuple[str, bool], list[float]] = {}
    for _ in range(turns):
        for arm, environment in ARMS.items():
            for busy in (False, True):
                with busy_program(busy):
                    found.setdefault((arm, busy), []).append(step_seconds(environment))
    quiet = statistics.median(found[DEFAULT, False])
    print("| spinning | alone | ratio | busy | ratio |\n|---|---|---|---|---|")
    for arm in ARMS:
        alone, beside = (statistics.median(found[arm, busy]) for busy in (False, True))
        print(f"| {arm} | {alone:.2f} s | {alone / quiet:.2f} | {beside:.2f} s | {beside / quiet:.2f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 3)
