"""An arm of a study, and what arms depend on. No torch is imported."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PRETRAIN, LINEAR = "pretrain", "linear-eval"
"""Commands that an arm stands for; the others are `finetune` and `distill`."""


@dataclass(frozen=True)
class Arm:
    """One arm of a study.

    Attributes:
        name: of its row, and of the folders of its runs.
        method: that it trains; of an arm that starts from another one's run the command that does it.
        settings: by dotted key, those in which it differs from the method's recipe.
        share: fraction of the time or of the epochs of a full arm, which has 1; with a `start` the number of images
            that training sees, as a fraction of those that pretraining sees.
        decays: fractions of its epochs after which the rate is multiplied by 0.1; empty: the recipe's schedule.
        start: the arm whose run of the same seed it starts from; empty: it is pretrained from random weights.
        group: arms that are compared with each other, in words; the first one is that which the others are compared
            with.
    """

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    share: float = 1.0
    decays: tuple[float, ...] = ()
    start: str = ""
    group: str = ""


@dataclass(frozen=True)
class Given:
    """What arms depend on.

    Attributes:
        images: to train on.
        methods: asked for.
        batches: images per step that suit them, for each method.
        ending: the operation that ends every view, such as `normalize`; empty: none.
        width: of the network; None: it has none that can be changed.
    """

    images: int
    methods: tuple[str, ...]
    batches: Mapping[str, int]
    ending: tuple[str, ...] = ()
    width: float | None = None

    @property
    def largest(self) -> int:
        """Return the largest batch of a study: a power of two with four steps an epoch at least."""
        return 1 << max(self.images // 4, 2).bit_length() - 1
