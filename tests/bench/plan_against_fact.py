"""The plan against the fact, twelve runs, alone: `python -m tests.bench.plan_against_fact PHOTOS CIFAR`."""

import argparse

from tests.bench.command import pretrained

SHAPES = ["--set", "data.images=8192"]
LARGE = [*SHAPES, "--batch", "4096", "--epochs", "2"]


def runs(photos: str, cifar: str) -> dict[str, list[str]]:
    """Command lines by what they are."""
    large = ["--recipe", "shapes"]
    return {
        "SimCLR, shapes, direct": [*SHAPES, "--epochs", "3"],
        "SimCLR, shapes, batch 2048, cached": [*SHAPES, "--batch", "2048", "--epochs", "3"],
        "MoCo v2, shapes": [*SHAPES, "--method", "moco-v2", "--epochs", "2"],
        "SimCLR, CIFAR-10, width 0.5, LARS": [
            cifar, "--recipe", "cifar", "--set", "data.limit=400", "--width", "0.5", "--epochs", "3", "--batch", "256",
        ],
        "SimCLR, photographs, ResNet-50 at 128 px": [
            photos, *large, "--backbone", "resnet50", "--width", "0.5", "--image-size", "128", "--batch", "32",
            "--epochs", "4",
        ],
        "MoCo v2, photographs, ResNet-18 at 224 px": [
            photos, *large, "--method", "moco-v2", "--width", "1", "--image-size", "224", "--batch", "32",
            "--epochs", "3",
        ],
        "SimCLR, shapes, batch 4096, direct": [*LARGE, "--set", "hardware.mode=direct", "--memory", "8GB"],
        "SimCLR, shapes, batch 4096, tail-keep": [*LARGE, "--set", "hardware.mode=tail-keep", "--memory", "3GB"],
        "SimCLR, shapes, batch 4096, cached": [*LARGE, "--set", "hardware.mode=cached"],
        "SimCLR, shapes, batch 4096, one BatchNorm group": [*LARGE, "--set", "model.bn_group=global"],
        "InstDisc, shapes": [*SHAPES, "--method", "instdisc", "--epochs", "3"],
        "SimCLR v2 with memory, shapes": [
            *SHAPES, "--method", "simclr-v2", "--set", "method.memory=2048", "--epochs", "2",
        ],
    }  # fmt: skip


def main() -> None:
    """Run each and print a row of a table for it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("photos")
    parser.add_argument("cifar")
    asked = parser.parse_args()
    print("| run | time | memory | images/s | checkpoint |\n|---|---|---|---|---|", flush=True)
    for name, words in runs(asked.photos, asked.cifar).items():
        document = pretrained([*words, "--set", "run.evaluate=false"])
        if "error" in document:
            print(f"| {name} | {document['error']['message']} |", flush=True)
            continue
        pairs = document["plan_against_fact"]
        cells = [_cell(pairs[key], scale) for key, scale in COLUMNS.items() if key in pairs]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


COLUMNS = {"seconds": (1.0, "s"), "peak_memory": (1e9, "GB"), "rate": (1.0, "/s"), "checkpoint": (1e6, "MB")}


def _cell(pair: dict[str, float], scale: tuple[float, str]) -> str:
    expected, actual = pair["expected"] / scale[0], pair["actual"] / scale[0]
    return f"{expected:.3g} -> {actual:.3g} {scale[1]} ({100 * (actual / expected - 1):+.0f} %)"


if __name__ == "__main__":
    main()
