"""Events of a training, for the displays."""

import math
from collections.abc import Mapping

from ssl_cli.events import (
    Advised,
    Choice,
    Evaluated,
    Event,
    Finished,
    Measured,
    Planned,
    Saved,
    Skipped,
    Started,
    Stepped,
    Stopped,
    Warned,
)

HOSTILE = "runs/a[red]b[/red]\x1b]0;PWN\x07\r\u202ec\udcff"
START = 1000.0


CHOICES = (
    Choice(name="method", value="simclr", reason="recipe shapes"),
    Choice(name="backbone", value="resnet18, width 0.25", reason="0.73 M parameters trained with the head"),
    Choice(name="BatchNorm", value="512 rows a group",
           reason="one group; the paper has all rows in one group: --set model.bn_group=global"),
    Choice(name="mode", value="cached", reason="the batch does not fit at once; exact, each row is computed twice"),
    Choice(name="peak memory", value="1.0 GB", reason="estimate"),
)  # fmt: skip
EXPECTED = {
    "steps": 448, "images": 16384, "parameters": 730_000, "negatives": 510, "rate": 850.0, "seconds": 170.0,
    "peak_memory": 1_000_000_000, "checkpoint": 5_800_000, "disk_free": 9e10,
}  # fmt: skip


def stepped(
    step: int,
    *,
    loss: float | None = None,
    chance: float | None = 6.24,
    numbers: Mapping[str, float] | None = None,
) -> Stepped:
    """A log event two seconds a step into the run."""
    health = {
        "top1": 0.61, "spread": 0.934, "alignment": 0.3, "uniformity": -2.91,
        "effective_rank": 41.23,
    }  # fmt: skip
    return Stepped(
        step=step,
        time=START + 2.0 * step,
        epoch=step / 64,
        loss=1 + 5 * math.exp(-step / 100) if loss is None else loss,
        chance=chance,
        lr=0.003,
        rate=812.0,
        step_seconds=2.0,
        data_wait=0.02,
        memory=1_200_000_000,
        grad_norm=1.234,
        numbers=health if numbers is None else numbers,
    )


def online(step: int, top1: float) -> Evaluated:
    """kNN during training."""
    result = {"top1": top1, "k": 20, "bank": 2048, "queries": 512, "seconds": 1.2}
    return Evaluated(step=step, time=START + 2.0 * step, name="online_knn", result=result)


def knn(top1: float = 0.81, untrained: float | None = 0.17) -> Evaluated:
    """A measurement of quality."""
    baselines = {} if untrained is None else {"pixels": 0.16, "untrained": untrained}
    return Evaluated(
        name="knn",
        result={
            "top1": top1,
            "top5": 0.98,
            "k": 200,
            "temperature": 0.1,
            "feature": "h",
            "bank": 16384,
            "queries": 2048,
            "baselines": baselines,
        },
    )


def training(steps: int = 448, *, out: str = "runs/first", quality: Evaluated | None = None) -> list[Event]:
    """A run from its plan to its end."""
    return [
        Planned(choices=CHOICES, expected=EXPECTED),
        Started(out=out, steps=steps, warmup=32, time=START),
        online(4, 0.17),
        *(stepped(step) for step in range(4, steps + 1, 4)),
        online(64, 0.43),
        online(128, 0.61),
        Skipped(path=f"{out}/bad.jpg", reason="truncated"),
        Warned(message="The queue is capped.", hint="Pass --set method.queue=512."),
        Saved(path=f"{out}/checkpoints/step_00000448.pt", size=5_900_000, time=START + 2.0 * steps),
        quality or knn(),
        Finished(steps=steps, seconds=178.0, peak_memory=1_100_000_000, rate=812.0),
    ]


def stopped(code: int = 75) -> list[Event]:
    """A run that was asked to stop."""
    return [*training()[:20], Stopped(exit_code=code, reason="SIGTERM was received")]


MEASURED = Measured(
    name="step", unit="images/s", rate=1100.0, low=1050.0, high=1120.0, n=7,
    bounds={"matrix bf16": 2200.0, "memory": 5900.0}, reference=320.0, against="plain PyTorch, float32",
)  # fmt: skip


def benchmark() -> list[Event]:
    """A benchmark of two parts."""
    return [
        Measured(name="memory copy", unit="B/s", rate=88.6e9, low=86e9, high=89e9, n=7, machine=True),
        Measured(name="matrix bf16", unit="FLOP/s", rate=1.02e12, low=0.98e12, high=1.1e12, n=7, machine=True),
        MEASURED,
        Measured(
            name="augment", unit="images/s", rate=16_712.4, low=16_580.0, high=17_202.0, n=7,
            bounds={"memory": 4_806_338.0}, reference=1695.1, against=f"torchvision v2, {HOSTILE}",
        ),
        Advised(
            run={
                "method": "simclr", "backbone": "resnet18, width 0.25", "data": HOSTILE, "batch": 256,
                "asked_batch": 4096, "size": 32, "device": "cpu", "device_name": "", "precision": "bf16",
                "memory_format": "channels_last", "mode": "direct", "micro_batch": 512, "threads": 2, "torch": "2.14",
            },
            shares={"network": 0.93, "augmentation": 0.07, "loss": 0.0},
            rate=1023.3,
            bound="Network takes 93 % of the time; step reaches 50 % of what matrix bf16 products "
            "would allow.",
            advice="--set data.cache=ram would help most: about 1.30 times as fast (all images decoded are 3.1 GB).",
            setting="--set data.cache=ram",
            gain=1.3,
            notes=(f"{HOSTILE} has no files",),
        ),
    ]  # fmt: skip
