"""The exact gradient of a plain function, without autograd and without differences.

An analytic function that takes a step h along the imaginary axis has h times its slope as its imaginary part; nothing
is subtracted, so h may be so small that nothing else is left (Squire and Trapp 1998).
"""

from collections.abc import Callable, Sequence

STEP = 1e-30


def slope(f: Callable[[list[list[complex]]], complex], rows: Sequence[Sequence[float]]) -> list[list[float]]:
    """The derivatives of `f` at `rows` by each of their numbers."""
    moved = [[complex(x) for x in row] for row in rows]
    found = [[0.0] * len(row) for row in rows]
    for i, row in enumerate(rows):
        for d, x in enumerate(row):
            moved[i][d] = complex(x, STEP)
            found[i][d] = f(moved).imag / STEP
            moved[i][d] = complex(x)
    return found
