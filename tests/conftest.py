"""What makes the tests quick: one torch thread for each test process, and the activations of a network counted once."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

# Set before torch is imported, since more threads would compete with the other test processes for the cores; the
# processes that tests start inherit it.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def pytest_collection_finish() -> None:
    """Set one thread here too, where torch was imported before this file; remember what plans count."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if cost := sys.modules.get("ssl_cli.engine.plan.cost"):
        cost.count_activations = remembered(cost.count_activations)  # type: ignore[attr-defined]


def remembered(count: Callable[..., Any]) -> Callable[..., Any]:
    """Call `count` once for objectives of the same classes, layers and shapes: it takes half of a tiny run."""
    found: dict[Any, Any] = {}

    @functools.wraps(count)
    def counted(objective: Any, *args: Any, **options: Any) -> Any:
        classes = tuple(type(module) for module in objective.modules())
        state = (*objective.named_parameters(), *objective.named_buffers())
        shapes = tuple((name, value.shape, value.requires_grad) for name, value in state)
        key = (classes, repr(objective), shapes, args, tuple(options.items()))
        if key not in found:
            found[key] = count(objective, *args, **options)
        return found[key]

    return counted
