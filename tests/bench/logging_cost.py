"""What it costs to tell: `python -m tests.bench.logging_cost`, runs with and without log lines in turn, alone."""

import statistics
import tempfile
from pathlib import Path

from ssl_cli.config.sources import settle
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.events import Finished

ROUNDS = 7
COMMON = ["data.images=8192", "schedule.epochs=1", "run.evaluate=false", "run.monitor=false", "hardware.precision=bf16"]


def seconds(log_every: int) -> float:
    """Of a training of 32 steps, its last step logged in any case."""
    with tempfile.TemporaryDirectory() as folder:
        sets = [*COMMON, f"run.log_every={log_every}", f"run.out={Path(folder) / 'run'}"]
        settled = settle({}, [*sets, "hardware.memory_format=channels_last"])
        events = list(pretrain(settled.settings, origins=settled.origins, resume=False, overwrite=False))
    return next(event.seconds for event in events if isinstance(event, Finished))


def main() -> None:
    """Print the medians and the median of the paired differences."""
    pairs = [(seconds(10), seconds(10_000)) for _ in range(ROUNDS)]
    on, off = ([pair[k] for pair in pairs] for k in (0, 1))
    paired = sorted(a / b - 1 for a, b in pairs)
    low, middle, high = (100 * share for share in (paired[0], statistics.median(paired), paired[-1]))
    print(f"log_every 10: {statistics.median(on):.2f} s, none: {statistics.median(off):.2f} s, {ROUNDS} pairs")
    print(f"paired: median {middle:+.2f} %, from {low:+.2f} to {high:+.2f} %")


if __name__ == "__main__":
    main()
