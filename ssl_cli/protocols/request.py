"""What `knn-eval` and `linear-eval` can be asked for: the published protocols, with their sources; without torch."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ssl_cli.errors import UsageError
from ssl_cli.names import is_folder, shown
from ssl_cli.registry import did_you_mean

MOST = 16
"""Values of k, and of the temperature, in one pass."""
LARGEST_K = 10**9
SMALLEST_TEMPERATURE = 1e-6
Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class KnnProtocol:
    """Settings of a published kNN evaluation, and where they stand."""

    k: int
    temperature: float
    feature: str
    source: str

    def matches(self, ks: Sequence[int], temperatures: Sequence[float], feature: str) -> bool:
        """Return whether a result of this feature, by the first k and temperature, is one of the protocol."""
        return ([*ks[:1]], temperatures[0], feature) == ([self.k], self.temperature, self.feature)


KNN: Mapping[str, KnnProtocol] = {
    "instdisc": KnnProtocol(
        200, 0.07, "z", "InstDisc, arXiv 1805.01978, section 3.4; zhirongw/lemniscate.pytorch, test.py"
    ),
    "moco": KnnProtocol(200, 0.1, "z", "MoCo's CIFAR-10 notebook; facebookresearch/moco, colab-notebook branch"),
    "dino": KnnProtocol(20, 0.07, "h", "DINO, arXiv 2104.14294, section 3; facebookresearch/dino, eval_knn.py"),
}
LBFGS, MOCO, SIMCLR, FAST = "lbfgs", "moco", "simclr", "fast"
LINEAR: Mapping[str, str] = {
    LBFGS: "lbfgs: logistic regression on frozen h, L-BFGS, no augmentation (after SimCLR, appendix B.8)",
    MOCO: "moco: SGD on frozen h of crops and flips, lr 30, steps at 60 and 80 of 100 epochs (MoCo, main_lincls.py)",
    SIMCLR: "simclr: SGD with Nesterov momentum on frozen h of crops and flips, lr 0.1 x batch / 256, cosine, "
    "90 epochs (SimCLR, appendix B.6)",
    FAST: "fast: a grid of rates and penalties in one batched problem, on frozen h of a few augmented passes",
}
"""Protocols of `linear-eval`, each with what is done and where it stands."""
BY_SGD = (MOCO, SIMCLR)
"""Those that encode new views in each epoch."""


def is_onnx(run: str) -> bool:
    """Return whether RUN is an exported file, by its name."""
    return run.lower().endswith(".onnx") and not is_folder(Path(run))


def integers(texts: Sequence[str]) -> tuple[int, ...]:
    """Read values of k: of each text one, or several with commas between.

    Raises:
        ValueError: one is no whole number from 1 on, or there are too many.
    """
    return _numbers(texts, int, 1, LARGEST_K, "a whole number from 1 on")


def temperatures(texts: Sequence[str]) -> tuple[float, ...]:
    """Read temperatures, as `integers`.

    Raises:
        ValueError: one is not a finite number above 0, or there are too many.
    """
    return _numbers(texts, float, SMALLEST_TEMPERATURE, math.inf, f"a number from {SMALLEST_TEMPERATURE:g} on")


def _numbers(
    texts: Sequence[str], kind: Callable[[str], Number], least: float, most: float, what: str
) -> tuple[Number, ...]:
    found = list[Number]()
    for word in (part.strip() for text in texts for part in text.split(",")):
        try:
            value = kind(word)
        except ValueError as error:
            raise ValueError(f"'{shown(word)}' is not {what}.") from error
        if not math.isfinite(value):
            raise ValueError(f"{shown(word)} is not a finite number.")
        if not least <= value <= most:
            raise ValueError(f"{shown(word)} is not {what}.")
        found.append(value)
    chosen = tuple(dict.fromkeys(found))
    if len(chosen) > MOST:
        raise ValueError(f"{len(chosen)} values, and at most {MOST} are measured in one pass.")
    return chosen


def require(kind: str, name: str, known: Sequence[str]) -> None:
    """Refuse a name that is not known.

    Raises:
        UsageError: it is not.
    """
    if name not in known:
        raise UsageError(f"There is no {kind} '{shown(name)}'.", did_you_mean(name, known))


def require_suited(run: str, data: object, feature: str, *, baselines: bool, method: str | None) -> None:
    """Refuse of an exported file what only a run can give.

    Raises:
        UsageError: no images are given, z or baselines are asked for, or a method is named.
    """
    if not is_onnx(run):
        return
    name = shown(Path(run).name)
    if not data:
        raise UsageError(f"{name} does not say which images it was trained on.", f"Give them: {name} DATA.")
    if feature != "h":
        raise UsageError(f"{name} holds the backbone alone, which gives h.", "Give the run for --feature z.")
    if baselines:
        raise UsageError(f"{name} cannot be compared with its network untrained.", "Give the run for --baselines.")
    if method is not None:
        raise UsageError(f"{name} is measured without its method, and none is imported.", "Leave --method out.")
