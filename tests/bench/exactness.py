"""How far each way of dividing a batch is from the plain step: `python -m tests.bench.exactness`.

Of the problems of `tests/engine/test_backward.py`: the largest difference of any tensor of a checkpoint after five
optimiser steps in float64; and in float32 the distance to the float64 run as a share of the plain float32 step's.
"""

import warnings

import torch
from torch import Tensor

from tests.engine.test_gradient import LARGE, METHODS, WAYS, Way, distance, train


def main() -> None:
    """Print a table."""
    warnings.simplefilter("ignore")
    single = {"cached": Way(32, 0), "tail-keep": Way(32, 2), "checkpointed, cached": Way(32, 0, True)}
    print(f"| | {' | '.join(WAYS)} | {' | '.join(f'float32: {name}' for name in single)} |")
    print("|---" * (1 + len(WAYS) + len(single)) + "|")
    for method in METHODS:
        plain, _ = train(method, None)
        cells = [f"{_largest(train(method, way)[0], plain):.0e}" for way in WAYS.values()]
        exact, _ = train(method, None, LARGE)
        base = distance(train(method, None, LARGE, dtype=torch.float32)[0], exact)
        for way in single.values():
            cells.append(f"{distance(train(method, way, LARGE, dtype=torch.float32)[0], exact) / base:.2f}")
        print(f"| {method.__name__} | {' | '.join(cells)} |", flush=True)


def _largest(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> float:
    return max(float((found[name] - value).nan_to_num().abs().max()) for name, value in wanted.items())


if __name__ == "__main__":
    main()
