"""Measure the images per second of a whole run against its bounds, and its memory against the plan, as a stage.

`python -m tests.gpu_evidence.throughput --out DIR --seconds S section.key=value...`

First `sslcli bench step` of the same settings: what bounds a step, from this machine's measured bandwidth. Then as many
epochs of `sslcli pretrain` as fit: loading, augmentation, everything. The first epoch, in which images are read or
drawn and kernels built, does not count.
"""

import argparse
import gc
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ssl_cli import memory
from ssl_cli.bench.measure import bench
from ssl_cli.config.sources import settle
from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import resolve_device
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.events import Advised, Event, Measured, Planned, Stepped

FEWEST_EPOCHS = 3
FOR_THE_RUN = 0.6
"""Share of the seconds that the counted epochs may take."""


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("settings", nargs="+")
    asked = parser.parse_args(words)
    settings = settle({}, asked.settings).settings
    device = resolve_device(settings.hardware.device)
    events = list(bench(settings, "step"))
    (step,) = [event for event in events if isinstance(event, Measured) and event.name == "step"]
    (advised,) = [event for event in events if isinstance(event, Advised)]
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    events = run(with_epochs(settings, asked.out, step.rate, asked.seconds))
    sys.stdout.write(json.dumps(result(step, advised, events, memory.peak(device))))
    return 0


def with_epochs(settings: Settings, out: Path, rate: float, seconds: float) -> Settings:
    """The run that fits: as many epochs as the seconds hold at this rate, and an end in any case."""
    epochs = max(FEWEST_EPOCHS, int(FOR_THE_RUN * seconds * rate / settings.data.images))
    changed = {"out": str(out), "max_time": seconds, "evaluate": False, "monitor": False, "log_every": 1}
    return settings.model_copy(
        update={
            "run": settings.run.model_copy(update=changed),
            "schedule": settings.schedule.model_copy(update={"epochs": epochs}),
        }
    )


def run(settings: Settings) -> list[Event]:
    """All that a run tells, each thing on a line to standard error too."""
    events = []
    for event in pretrain(settings, origins={}, resume=False, overwrite=True):
        events.append(event)
        sys.stderr.write(f"{event}\n")
    return events


def result(step: Measured, advised: Advised, events: Sequence[Event], peak: int) -> dict[str, Any]:
    """What the stage tells."""
    (planned,) = [event for event in events if isinstance(event, Planned)]
    steps = [event for event in events if isinstance(event, Stepped)]
    rates = [event.rate for event in steps if event.epoch > 1][1:] or [event.rate for event in steps]
    found = median_rate(rates)
    median = found["median"]
    return {
        "run": dict(advised.run),
        "images_per_second": found,
        "step": {"rate": step.rate, "bounds": dict(step.bounds), "plain": step.reference},
        "share_of_byte_bound": median / step.bounds["memory"],
        "step_share_of_byte_bound": step.rate / step.bounds["memory"],
        "data_wait": statistics.median(event.data_wait for event in steps),
        "peak_memory": {"planned": planned.expected["peak_memory"], "actual": peak},
        "planned_images_per_second": planned.expected.get("rate"),
    }


def median_rate(rates: Sequence[float]) -> dict[str, Any]:
    """Median and quartiles of rates; nulls where there are none."""
    if len(rates) < 2:
        rates = [*rates, *rates]
    low, median, high = statistics.quantiles(rates, n=4, method="inclusive") if rates else (None, None, None)
    return {"median": median, "quartiles": [low, high], "n": len(rates)}


if __name__ == "__main__":
    sys.exit(main())
