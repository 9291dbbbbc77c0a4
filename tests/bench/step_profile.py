"""Where the time of a step goes: `python -m tests.bench.step_profile [METHOD ...]`, as the plan has it run here.

Whole steps (views, targets, passes, loss, optimiser, state) under torch's profiler; each operation's own processor time
is counted for the kind of work that it is.
"""

import sys

from torch.profiler import ProfilerActivity, profile

from ssl_cli.config.sources import settle
from tests.bench.auto_choices import Arm, planned

STEPS = 4
KINDS = {
    "convolutions": ("conv", "mkldnn"),
    "BatchNorm": ("batch_norm",),
    "ReLU, pooling, additions": ("relu", "threshold", "pool", "add", "mean"),
    "matrix products (head, loss)": ("mm", "linear"),
    "groups and rows (cat, index, copies)": ("cat", "index", "copy", "split", "contiguous", "clone", "empty", "zero"),
    "optimiser and momentum encoder": ("_foreach", "fused", "lerp", "norm"),
}  # fmt: skip


def kind(name: str) -> str:
    """What kind of work an operation is."""
    return next((told for told, words in KINDS.items() if any(word in name for word in words)), "other")


def step(arm: Arm) -> None:
    """One whole step."""
    job, batch = arm.job, arm.batch
    views, batch = job.staging.stage(batch)
    targets = job.targets(views, batch)
    loss, z = job.backward(views, targets, batch)
    if job.update(loss, batch.step):
        job.objective.after_step(z, targets, batch, 0.0)


def profiled(method: str, batch: int) -> dict[str, float]:
    """Shares of the processor's time by kind of work, and of making views among all."""
    settings = settle({"method": {"name": method}, "run": {"batch": batch}}, ["data.images=4096"]).settings
    arm = Arm(settings, planned(settings))
    step(arm)
    with profile(activities=[ProfilerActivity.CPU]) as whole:
        for _ in range(STEPS):
            step(arm)
    with profile(activities=[ProfilerActivity.CPU]) as views:
        for _ in range(STEPS):
            arm.job.staging.stage(arm.batch)
    found: dict[str, float] = {}
    for event in whole.key_averages():
        found[kind(event.key)] = found.get(kind(event.key), 0.0) + event.self_cpu_time_total
    for event in views.key_averages():
        found[kind(event.key)] = found.get(kind(event.key), 0.0) - event.self_cpu_time_total
        found["views"] = found.get("views", 0.0) + event.self_cpu_time_total
    total = sum(found.values())
    return {told: time / total for told, time in sorted(found.items(), key=lambda item: -item[1])}


def main() -> None:
    """Print a line for each method."""
    for method in sys.argv[1:] or ["simclr", "moco-v2"]:
        shares = profiled(method, 128 if method.startswith("moco") else 256)
        print(f"{method}: " + ", ".join(f"{told} {100 * share:.0f} %" for told, share in shares.items()), flush=True)


if __name__ == "__main__":
    main()
