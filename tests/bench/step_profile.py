"""Profile steps by kind of operation: `python -m tests.bench.step_profile [METHOD ...]`, as planned for this machine.

Steps (targets, forward, backward, loss, optimiser, state) and augmentation under torch's profiler, by the CPU time of
each operation itself.
"""

import sys

from torch.profiler import ProfilerActivity, profile

from tests.bench.auto_choices import build

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
    """Return the kind of an operation."""
    return next((label for label, words in KINDS.items() if any(word in name for word in words)), "other")


def profiled(method: str, batch: int) -> dict[str, float]:
    """Return shares of the CPU time by kind of operation, with all operations of augmentation as one kind."""
    run = build(method, batch)
    run.step()
    with profile(activities=[ProfilerActivity.CPU]) as steps:
        for _ in range(STEPS):
            run.step()
    with profile(activities=[ProfilerActivity.CPU]) as views:
        for _ in range(STEPS):
            run.augment(run.batch)
    found = {"views": float(sum(event.self_cpu_time_total for event in views.key_averages()))}
    for event in steps.key_averages():
        found[kind(event.key)] = found.get(kind(event.key), 0.0) + event.self_cpu_time_total
    total = sum(found.values())
    return {name: time / total for name, time in sorted(found.items(), key=lambda item: -item[1])}


def main() -> None:
    """Print a line for each method."""
    for method in sys.argv[1:] or ["simclr", "moco-v2"]:
        shares = profiled(method, 128 if method.startswith("moco") else 256)
        print(f"{method}: " + ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.items()), flush=True)


if __name__ == "__main__":
    main()
