"""A training told in events, for the displays."""

import math

from ssl_cli.events import (
    Choice,
    Evaluated,
    Event,
    Finished,
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


def stepped(step: int, *, loss: float | None = None, chance: float | None = 6.24) -> Stepped:
    """A log event two seconds a step into the run."""
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
        numbers={"contrastive_top1": 0.61, "alignment": 0.3},
    )


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
        Planned(choices=(Choice(name="method", value="simclr", reason="recipe shapes"),)),
        Started(out=out, steps=steps, time=START),
        *(stepped(step) for step in range(4, steps + 1, 4)),
        Skipped(path=f"{out}/bad.jpg", reason="truncated"),
        Warned(message="The queue is capped.", hint="Pass --set method.queue=512."),
        Saved(path=f"{out}/checkpoints/step_00000448.pt", time=START + 2.0 * steps),
        quality or knn(),
        Finished(steps=steps, seconds=178.0, peak_memory=1_100_000_000),
    ]


def stopped(code: int = 75) -> list[Event]:
    """A run that was asked to stop."""
    return [*training()[:20], Stopped(exit_code=code, reason="SIGTERM was received")]
