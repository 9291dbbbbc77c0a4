"""What an operation did to one image, for programs and for people."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor


class Drawn(NamedTuple):
    """Parameters in JSON's types, and the same in a few words."""

    value: Any
    words: str


def number(x: Tensor) -> float:
    """A scalar without the noise of its float32 digits."""
    return round(x.item(), 6)
