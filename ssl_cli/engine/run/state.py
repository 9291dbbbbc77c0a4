"""Training state: from a run in memory to what a checkpoint holds, and back."""

from typing import Any

from torch.optim import Optimizer

from ssl_cli import tensor_file
from ssl_cli.config.tree import Settings
from ssl_cli.errors import CheckpointError
from ssl_cli.objective import Objective
from ssl_cli.optim.build import checked_state
from ssl_cli.planning.resolved import Resolved


def capture_state(
    settings: Settings, resolved: Resolved, objective: Objective, optimiser: Optimizer, step: int, steps_per_epoch: int
) -> dict[str, Any]:
    """Return all that `restore_state` needs after `step` steps, as tensors and primitives."""
    return {
        "settings": settings.model_dump(mode="json"),
        "resolved": resolved.as_dict(),
        # dense, as they are read: a buffer may be a slice, or expanded
        "objective": {name: tensor_file.dense(tensor) for name, tensor in objective.state_dict().items()},
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
        CheckpointError: its tensors differ in name, dtype or shape from those of the settings; nothing is loaded.
    """
    try:
        tensor_file.require_like(state["objective"], objective.state_dict(), "the objective")
        moments = checked_state(state["optimiser"], optimiser)
    except ValueError as error:
        raise CheckpointError(f"The checkpoint does not fit its own settings: {error}.") from error
    objective.load_state_dict(state["objective"])
    # the options of the groups are those of the settings
    optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
    return int(state["step"])
