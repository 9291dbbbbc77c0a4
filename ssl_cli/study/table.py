"""The studies: a table of arms each, an arm being a method with a few settings of its own. No torch is imported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from ssl_cli.errors import UsageError
from ssl_cli.names import shown
from ssl_cli.registry import METHODS, did_you_mean
from ssl_cli.study.arm import Arm, Given
from ssl_cli.study.budget import starts
from ssl_cli.study.simclr_v2 import simclr_v2

QUARTER = 0.25
OPERATIONS = ("crop", "cutout", "jitter", "sobel", "noise", "blur", "rotate")
"""Those of SimCLR's figure 5, in its order; `jitter` is its colour distortion, with gray."""
WHOLE = {"augment.crop.scale": (1.0, 1.0), "augment.crop.ratio": (1.0, 1.0)}
"""No random crop: the largest centred square."""
SUITED, IMAGES = 32, [1 << bits for bits in range(1, 21)]
"""A batch, and numbers of images, of which the largest is enough for all arms of a study."""
ALONE = "-"
"""Stands in the name of an arm between two operations."""


@dataclass(frozen=True)
class Study:
    """A study: what it asks, its arms, and what they have in common.

    Attributes:
        name: of the command line.
        asks: its question in a few words.
        equal: what is divided among the arms in proportion to their shares.
        methods: those that it takes by default; the first one's recipe gives the network.
        arms: makes them; the first one is that which the others are compared with.
        choice: methods that it can take.
        steps: of a run at least.
        is_cost: whether it measures memory and time alone, and no quality.
    """

    name: str
    asks: str
    equal: Literal["time", "epochs"]
    methods: tuple[str, ...]
    arms: Callable[[Given], list[Arm]]
    choice: tuple[str, ...] = ()
    steps: int = 20
    is_cost: bool = False


def rivalry(given: Given) -> list[Arm]:
    """Make arms of each method at the batch that suits it and at four times that, in a quarter of the time and in all.

    Memory is equal for all, since it is the same budget, whatever the batch. A batch suits the time of a run too, so
    names do not say it: an arm's name is the same in any time.
    """
    arms = []
    for method in given.methods:
        batch = given.batches[method]
        for times, size in _distinct({"1x": batch, "4x": max(min(4 * batch, given.largest), batch)}).items():
            name, settings = f"{method}-{times}", {"run.batch": size}
            arms += [Arm(name, method, settings), Arm(f"{name}-quarter", method, settings, share=QUARTER)]
    return arms


def _distinct(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return sizes by name, without those that equal an earlier one."""
    return {name: size for k, (name, size) in enumerate(sizes.items()) if size not in [*sizes.values()][:k]}


MLP, LINEAR = (
    {"method.head_layers": 2, "method.temperature": 0.2},
    {"method.head_layers": 1, "method.temperature": 0.07},
)
STEPS = (0.6, 0.8)
"""MoCo's: at epochs 120 and 160 of 200."""


def moco_v2_ablation(given: Given) -> list[Arm]:
    """Make MoCo v1 and the rows (a) to (e) of MoCo v2's table 1: head, augmentation, cosine schedule, more epochs.

    The temperature is the best of each head in MoCo v2's section 3.1. The optimiser is the recipe's.
    """
    v1 = {
        "augment.order": ("crop", "gray", "jitter", "flip", *given.ending), "augment.jitter.p": 1.0,
        "augment.jitter.hue": 0.4, **_colours(0.4),
    }  # fmt: skip
    v2 = {
        "augment.order": ("crop", "jitter", "gray", "blur", "flip", *given.ending), "augment.jitter.p": 0.8,
        "augment.jitter.hue": 0.1, **_colours(0.4),
    }  # fmt: skip
    return [
        Arm("v1", "moco-v2", LINEAR | v1, decays=STEPS),
        Arm("a-mlp", "moco-v2", MLP | v1, decays=STEPS),
        Arm("b-aug", "moco-v2", LINEAR | v2, decays=STEPS),
        Arm("c-mlp-aug", "moco-v2", MLP | v2, decays=STEPS),
        Arm("d-mlp-aug-cos", "moco-v2", MLP | v2 | {"schedule.kind": "cosine"}),
        Arm("e-4x-epochs", "moco-v2", MLP | v2 | {"schedule.kind": "cosine"}, share=4.0),
    ]


def _colours(strength: float) -> dict[str, float]:
    each = {f"augment.jitter.{name}": strength for name in ("brightness", "contrast", "saturation")}
    return {**each, "augment.jitter.strength": 1.0}


def temperature(given: Given) -> list[Arm]:
    """Make arms of the temperatures of each paper's sweep, that of its best one first."""
    swept = {"moco-v2": (0.2, 0.07, 0.1, 0.3, 0.4, 0.5), "simclr": (0.1, 0.05, 0.5, 1.0)}
    return [
        Arm(f"{method}-t{value:g}", method, {"method.temperature": value})
        for method in given.methods
        for value in swept[method]
    ]


def simclr_head(given: Given) -> list[Arm]:
    """Make arms of SimCLR's projector: two layers, one, none, and other dimensions of z."""
    layers = {"mlp-128": 2, "linear-128": 1, "none": 0}
    arms = [Arm(name, "simclr", {"method.head_layers": count}) for name, count in layers.items()]
    return arms + [
        Arm(f"mlp-{size}", "simclr", {"method.head_layers": 2, "method.head_dim": size}) for size in (32, 512)
    ]


def simclr_batch(given: Given) -> list[Arm]:
    """Make arms of SimCLR's batch, a quarter, once and four times that which suits, with all epochs and half."""
    batch = given.batches["simclr"]
    times = {"1x": batch, "quarter": batch // 4, "4x": 4 * batch}
    sizes = _distinct({name: max(min(size, given.largest), 8) for name, size in times.items()})
    return [
        Arm(f"batch-{name}{'-half-epochs' * (share < 1)}", "simclr", {"run.batch": size}, share=share)
        for share in (1.0, 0.5)
        for name, size in sizes.items()
    ]


def moco_dictionary(given: Given) -> list[Arm]:
    """Make arms of MoCo's dictionary: its size, its encoder's momentum, and the mechanisms of MoCo's figure 2.

    End to end is SimCLR with MoCo's batch and temperature: the batch is the dictionary. The memory bank is InstDisc.
    """
    batch, half = given.batches["moco-v2"], given.images // 2
    rows = {"queue": 1024, "queue-batch": batch, "queue-4x-batch": 4 * batch, "queue-4096": 4096}
    sizes = _distinct({name: max(min(size, half), 1) for name, size in rows.items()})
    same = {"run.batch": batch}
    base = {**same, "method.queue": sizes["queue"], "method.ema": 0.99}
    arms = [Arm(name, "moco-v2", {**base, "method.queue": size}) for name, size in sizes.items()]
    arms += [Arm(f"momentum-{ema:g}", "moco-v2", {**base, "method.ema": ema}) for ema in (0.0, 0.9, 0.999)]
    end_to_end = {**same, "method.temperature": 0.2}
    return [*arms, Arm("end-to-end", "simclr", end_to_end), Arm("bank", "instdisc", same)]


def augmentations(given: Given) -> list[Arm]:
    """Make arms of SimCLR's figure 5: each operation alone, and each pair, on one branch; both only crop, or nothing.

    An operation is always applied. Without the random crop both branches start from the whole image.
    """
    pairs = [("crop", "jitter"), *((name,) for name in OPERATIONS), *combinations(OPERATIONS, 2)]
    return [Arm(ALONE.join(names), "simclr", _composed(names, given.ending)) for names in dict.fromkeys(pairs)]


def _composed(names: Sequence[str], ending: tuple[str, ...]) -> dict[str, Any]:
    used = [name for name in names if name != "crop"]
    order = [part for name in used for part in ((name, "gray") if name == "jitter" else (name,))]
    always = {f"augment.{name}.p": 1.0 for name in used}
    branches = {"augment.order": ("crop", *order, *ending), "augment.second": ("crop", *ending)}
    return {**branches, **always, **({} if "crop" in names else WHOLE)}


def cost(given: Given) -> list[Arm]:
    """Make arms of MoCo v2's table 3: MoCo, and end to end (SimCLR), at a large batch in each memory mode.

    The large batch is 4,096, or all images if they are fewer.
    """
    large = min(LARGE, 1 << max(given.images, 2).bit_length() - 1)
    small = min(SMALL, large)
    same = {"run.batch": small, "hardware.mode": "direct"}
    modes = ("direct", "tail-keep", "cached")
    arms = [Arm(f"moco-b{small}", "moco-v2", same), Arm(f"end-to-end-b{small}", "simclr", same)]
    return arms + [
        Arm(f"end-to-end-b{large}-{mode}", "simclr", {"run.batch": large, "hardware.mode": mode}) for mode in modes
    ]


PRETRAINING = tuple(METHODS)
SMALL, LARGE = 256, 4096
"""Batches of MoCo v2's table 3."""
STUDIES = {
    study.name: study
    for study in (
        Study(
            "rivalry", "MoCo v2 against SimCLR in the same time and memory", "time", ("moco-v2", "simclr"), rivalry,
            PRETRAINING,
        ),
        Study(
            "moco-v2-ablation", "what each change from MoCo v1 to v2 gives: head, views, cosine, epochs", "epochs",
            ("moco-v2",), moco_v2_ablation,
        ),
        Study("simclr-head", "whether a projector helps, and its size", "epochs", ("simclr",), simclr_head),
        Study("simclr-batch", "whether large batches help, or more epochs", "epochs", ("simclr",), simclr_batch),
        Study(
            "moco-dictionary", "size and momentum of the dictionary; end to end, bank or queue", "epochs",
            ("moco-v2", "simclr", "instdisc"), moco_dictionary,
        ),
        Study(
            "temperature", "which temperature suits these images", "epochs", ("moco-v2",), temperature,
            ("moco-v2", "simclr"),
        ),
        Study(
            "cost", "memory and time of MoCo and of end to end, small and large (no quality)", "epochs",
            ("moco-v2", "simclr"), cost, steps=2, is_cost=True,
        ),
        Study("augmentations", "which operations, alone and in pairs, help", "epochs", ("simclr",), augmentations),
        Study(
            "simclr-v2", "what 1 %, 10 % and all labels give: head, layer, size, distillation", "epochs",
            ("simclr-v2",), simclr_v2,
        ),
    )
}  # fmt: skip


def study_named(name: str) -> Study:
    """Return a study.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in STUDIES:
        raise UsageError(f"There is no study '{shown(name)}'.", did_you_mean(name, [*STUDIES, "list", "show"]))
    return STUDIES[name]


def methods_of(study: Study, asked: str | None) -> tuple[str, ...]:
    """Return the methods of a study: those asked for, separated by commas, in their order, or else its own.

    Raises:
        UsageError: one that the study cannot take, or fewer than two of a rivalry.
    """
    if asked is None:
        return study.methods
    names = tuple(dict.fromkeys(name.strip() for name in asked.split(",")))
    if not study.choice:
        raise UsageError(f"The study {study.name} has its own methods.", "Leave --methods out.")
    for name in names:
        if name not in study.choice:
            raise UsageError(f"--methods: {study.name} cannot take '{shown(name)}'.", did_you_mean(name, study.choice))
    if study.arms is rivalry and len(names) < 2:
        raise UsageError("--methods: a rivalry needs two methods at least.", f"Such as {','.join(study.methods)}.")
    return names


def require_arms(study: Study, methods: tuple[str, ...], asked: str | None) -> None:
    """Refuse arms that the study has for no number of images.

    Raises:
        UsageError: there is no such arm.
    """
    for images in IMAGES:  # the most last, whose error names all arms
        try:
            chosen(study.arms(Given(images, methods, dict.fromkeys(methods, SUITED), width=1.0)), asked)
        except UsageError:
            if images == IMAGES[-1]:
                raise
        else:
            return


def chosen(arms: Sequence[Arm], asked: str | None) -> list[Arm]:
    """Return the arms that are asked for, separated by commas, in the order of the table; None: all.

    A name is an arm's, or a method's for all arms of it. With an arm comes the one whose run it starts from.

    Raises:
        UsageError: there is no such arm.
    """
    if asked is None:
        return list(arms)
    names, known = set[str](), [arm.name for arm in arms]
    for name in (word.strip() for word in asked.split(",")):
        found = [name] if name in known else [arm.name for arm in arms if arm.method == name]
        if not found:
            raise UsageError(f"--arms: there is no arm '{shown(name)}'.", f"This study has {', '.join(known)}.")
        names |= {*found}
    start = {arm.name: arm.start for arm in arms}
    wanted = {part for name in names for part in (name, *starts(name, start))}
    return [arm for arm in arms if arm.name in wanted]
