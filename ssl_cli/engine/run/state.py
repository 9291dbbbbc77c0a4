"""Training state: from a run in memory to what a checkpoint holds, and back."""

from typing import Any

from torch.optim import Optimizer

from ssl_cli.config.tree import Settings
from ssl_cli.engine.plan.plan import Resolved
from ssl_cli.errors import CheckpointError
from ssl_cli.objective import Objective


def capture_state(
    settings: Settings, resolved: Resolved, objective: Objective, optimiser: Optimizer, step: int, steps_per_epoch: int
) -> dict[str, Any]:
    """Return all that `restore_state` needs after `step` steps, as tensors and primitives."""
    return {
        "settings": settings.model_dump(mode="json"),
        "resolved": resolved.as_dict(),
        "objective": objective.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "epoch": step // steps_per_epoch,
        "cursor": step % steps_per_epoch,
        # random numbers are a hash of seed, epoch, image, view and slot: there is no generator state to save
        "rng": {"seed": settings.run.seed},
    }


def restore_state(state: dict[str, Any], objective: Objective, optimiser: Optimizer) -> int:
    """Load a checkpoint into the objective and the optimiser; return the number of steps it has taken.

    Raises:
        CheckpointError: its tensors do not fit the settings.
    """
    try:
        objective.load_state_dict(state["objective"])
        optimiser.load_state_dict(state["optimiser"])
    except (RuntimeError, ValueError, KeyError) as error:
        what = str(error).splitlines()[0]
        raise CheckpointError(f"The checkpoint does not fit its own settings: {what}") from error
    return int(state["step"])
