"""List the stages: on a GPU, and tiny ones of the same code for a rehearsal on a CPU."""

from pathlib import Path

from tests.gpu_evidence.stage import LIMIT, Stage

FIFTY = ("run.recipe=imagenet", "data.size=224", "data.images=8192", "data.cache=ram", "hardware.device=cuda")
"""ResNet-50 at 224 pixels, on embedded images that stay in memory."""
CIFAR = ("run.recipe=cifar", "hardware.device=cuda")
TINY = (
    "run.recipe=shapes", "model.width=0.0625", "data.size=16", "data.images=64", "hardware.device=cpu",
    "hardware.precision=fp32", "hardware.memory_format=channels_last",
)  # fmt: skip
RUNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "simclr-direct": (
        ("method.name=simclr", "run.batch=512", "hardware.mode=direct"),
        ("method.name=simclr", "run.batch=16", "hardware.mode=direct"),
    ),
    "simclr-4096-cached": (
        ("method.name=simclr", "run.batch=4096", "hardware.mode=cached"),
        ("method.name=simclr", "run.batch=32", "hardware.mode=cached", "model.bn_group=8"),
    ),
    "simclr-4096-planned": (
        ("method.name=simclr", "run.batch=4096"),
        ("method.name=simclr", "run.batch=32"),
    ),
    "moco-v2": (
        ("method.name=moco-v2", "run.batch=256"),
        ("method.name=moco-v2", "run.batch=16", "method.queue=32"),
    ),
}
"""The settings of each whole run: on a GPU, and in a rehearsal."""
SMALL: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    f"small-{way}": (
        (
            "method.name=simclr",
            "model.backbone=resnet18",
            "data.images=50000",
            "run.batch=256",
            f"hardware.compile={way}",
        ),
        ("method.name=simclr", "run.batch=16", f"hardware.compile={way}"),
    )
    for way in ("off", "on", "graphs")
}
"""Steps so small, on 32 pixels, that launching kernels takes their time: eager, compiled, and as CUDA graphs."""
SHORT = 120.0
"""Seconds that are many of them; compiling comes on top."""
METHODS = ("simclr", "moco-v2")


def stages(place: Path, *, tiny: bool, data: str | None) -> list[Stage]:
    """All stages in the order of their worth; what they leave behind is in `place`."""
    most = 2.0 if tiny else LIMIT
    common, small = (TINY, TINY) if tiny else (FIFTY, CIFAR)
    files = ("tests/engine/test_cuda.py",) if tiny else ()
    found = [Stage("tests", ("-m", "tests.gpu_evidence.suite", *files), least=60.0)]
    timed = {name: (*common, *ways[tiny]) for name, ways in RUNS.items()}
    timed |= {name: (*small, *ways[tiny]) for name, ways in SMALL.items()}
    for name, own in timed.items():
        words = ("-m", "tests.gpu_evidence.throughput", "--out", str(place / name), *own)
        found.append(Stage(name, words, most=min(most, SHORT) if name in SMALL else most))
    for method in METHODS:
        own = (f"method.name={method}", *(("run.batch=16",) if tiny else ()))
        own += ("method.queue=32",) if tiny and method == "moco-v2" else ()
        source = ("--data", data) if data else ()
        embedded = () if data or tiny else ("data.images=50000",)
        words = (
            "-m",
            "tests.gpu_evidence.cifar",
            "--out",
            str(place / f"cifar-{method}"),
            *source,
            *small,
            *own,
            *embedded,
        )
        found.append(Stage(f"cifar-{method}", words, most=most))
    benches = {"bench-cifar": small, "bench-imagenet": (*common, *(() if tiny else ("run.batch=256",)))}
    for name, own in benches.items():
        images = () if tiny or name == "bench-imagenet" else ("data.images=50000",)
        batch = ("run.batch=16",) if tiny else ()
        found.append(Stage(name, ("-m", "ssl_cli", "bench", "all", "--json", *_set((*own, *images, *batch)))))
    return found


def _set(settings: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for setting in settings for word in ("--set", setting))
