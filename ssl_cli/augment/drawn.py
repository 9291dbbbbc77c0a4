"""What an operation drew for one image, as JSON and in words."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Drawn(NamedTuple):
    """Hold the parameters in JSON's types, and the same in a few words."""

    value: Any
    words: str


def number(x: Tensor) -> float:
    """Return a scalar rounded to six decimals, which hides float32's rounding."""
    return round(x.item(), 6)
