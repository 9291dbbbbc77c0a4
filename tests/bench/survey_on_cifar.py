"""The six methods and two ablations on a folder of CIFAR-10: `python -m tests.bench.survey_on_cifar DATA WHAT`.

WHAT is `methods`, `moco` (rows a to d of MoCo v2's table 1) or `head` (SimCLR's head of 0, 1 and 2 layers). All runs
share a ResNet-18 of width 0.25, AdamW and a number of epochs; everything else is the method's recipe `cifar`. The
quality is kNN (k 200, T 0.1) on h. One line of a table each; ablations end with what can be told apart: a difference
larger than twice its standard error over seeds.
"""

import argparse
import statistics
from collections.abc import Mapping, Sequence

from tests.bench.command import pretrained

SEEDS = 3
COMMON = [
    "optim.name=adamw", "optim.lr_rule=none", "optim.base_lr=1e-3", "optim.weight_decay=1e-4", "schedule.warmup=1",
    "data.limit=1000", "run.monitor=false",
]  # fmt: skip
SCALED: Mapping[str, Sequence[str]] = {
    "instdisc": [],
    "invaspread": [],
    "moco-v1": ["method.queue=1024"],
    "moco-v2": ["method.queue=1024"],
    "simclr": ["method.temperature=0.2"],
    "simclr-v2": ["method.temperature=0.2"],
}
STEPPED = ["schedule.kind=step", "schedule.milestones=[4,5]", "schedule.gamma=0.1"]
PLAIN = ["augment.jitter.p=1.0", "augment.jitter.hue=0.4", "augment.crop.scale=[0.2,1.0]"]
STRONGER = [
    "augment.jitter.p=0.8", "augment.jitter.hue=0.1", "augment.crop.scale=[0.2,1.0]",
    'augment.order=["crop","flip","jitter","gray","blur","normalize"]',
]  # fmt: skip
MOCO = ["method.queue=1024", "method.temperature=0.2"]
ROWS: Mapping[str, Sequence[str]] = {
    "(a) MLP": ["method.head_layers=2", *PLAIN, *STEPPED, *MOCO],
    "(b) aug+": ["method.head_layers=1", *STRONGER, *STEPPED, *MOCO],
    "(c) MLP, aug+": ["method.head_layers=2", *STRONGER, *STEPPED, *MOCO],
    "(d) MLP, aug+, cos": ["method.head_layers=2", *STRONGER, "schedule.kind=cosine", *MOCO],
}
HEADS: Mapping[str, Sequence[str]] = {
    f"head of {layers} layers": [f"method.head_layers={layers}", "method.temperature=0.2"] for layers in (0, 1, 2)
}


def train(data: str, method: str, sets: Sequence[str], epochs: int, seed: int) -> tuple[float, float, float]:
    """kNN accuracy, that of the untrained network, and seconds of training."""
    words = [data, "--method", method, "--recipe", "cifar", "--width", "0.25", "--batch", "128"]
    words += ["--epochs", str(epochs), "--seed", str(seed)]
    words += [word for one in (*COMMON, *sets) for word in ("--set", one)]
    found = pretrained(words)
    if "error" in found:
        raise SystemExit(f"{method}: {found['error']['message']}")
    return found["knn"]["top1"], found["knn"]["baselines"]["untrained"], found["seconds"]


def methods(data: str, epochs: int) -> None:
    """A row of a table for each."""
    print("| method | training | kNN | untrained |\n|---|---|---|---|", flush=True)
    for method, sets in SCALED.items():
        top1, untrained, seconds = train(data, method, sets, epochs, seed=0)
        print(f"| `{method}` | {seconds:.0f} s | {100 * top1:.1f} % | {100 * untrained:.1f} % |", flush=True)


def ablation(data: str, method: str, rows: Mapping[str, Sequence[str]], epochs: int) -> None:
    """A row of a table for each, and which pairs differ by more than their spread."""
    print("| | kNN by seed | mean | spread |\n|---|---|---|---|", flush=True)
    found: dict[str, list[float]] = {}
    for name, sets in rows.items():
        found[name] = [100 * train(data, method, sets, epochs, seed)[0] for seed in range(SEEDS)]
        each = ", ".join(f"{top1:.1f}" for top1 in found[name])
        mean, spread = statistics.mean(found[name]), statistics.stdev(found[name])
        print(f"| {name} | {each} | {mean:.1f} % | {spread:.1f} |", flush=True)
    names = list(found)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            difference = statistics.mean(found[other]) - statistics.mean(found[one])
            error = sum(statistics.variance(found[name]) / SEEDS for name in (one, other)) ** 0.5
            verdict = "" if abs(difference) > 2 * error else ": not distinguishable"
            print(f"{other} - {one}: {difference:+.1f}, standard error {error:.1f}{verdict}", flush=True)


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("what", choices=["methods", "moco", "head"])
    parser.add_argument("--epochs", type=int, default=10)
    asked = parser.parse_args()
    if asked.what == "methods":
        methods(asked.data, asked.epochs)
    elif asked.what == "moco":
        ablation(asked.data, "moco-v2", ROWS, asked.epochs)
    else:
        ablation(asked.data, "simclr", HEADS, asked.epochs)


if __name__ == "__main__":
    main()
