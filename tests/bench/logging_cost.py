"""What logging costs: `python -m tests.bench.logging_cost`: the share of a run's time that its log lines take.

Measured within one run, by the clock around all that a log step does in addition to training (numbers of z and
their transfer, events, files): on a machine whose speed changes from minute to minute, runs with and without log lines
differ by tens of percent for other reasons.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ssl_cli.config.sources import settle
from ssl_cli.engine import train
from ssl_cli.engine.metrics import Metrics
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.events import Finished, Stepped

COMMON = ["data.images=8192", "schedule.epochs=2", "run.evaluate=false", "run.monitor=false", "run.log_every=10"]


class Clock:
    """Adds up the time within calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def within(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, its time counted; if it makes a generator, the time within that."""

        def timed(*args: Any, **named: Any) -> Any:
            began = time.perf_counter()
            made = call(*args, **named)
            if isinstance(made, Iterator):
                made = iter(list(made))
            self.seconds += time.perf_counter() - began
            return made

        return timed


def main() -> None:
    """Print the share."""
    clock = Clock()
    for owner, name in ((train, "observe"), (Metrics, "report"), (RunFolder, "record")):
        setattr(owner, name, clock.within(getattr(owner, name)))
    with tempfile.TemporaryDirectory() as folder:
        settled = settle({}, [*COMMON, f"run.out={Path(folder) / 'run'}"])
        events = list(pretrain(settled.settings, origins=settled.origins, resume=False, overwrite=False))
    total = next(event.seconds for event in events if isinstance(event, Finished))
    lines = sum(isinstance(event, Stepped) for event in events)
    percent = 100 * clock.seconds / total
    print(f"{lines} log lines in {total:.1f} s of training took {clock.seconds:.3f} s: {percent:.2f} %")


if __name__ == "__main__":
    main()
