"""Weights of a run that another one starts from: read by path, and refused where they have changed."""

from collections.abc import Mapping

from torch import nn

from ssl_cli import checkpoint
from ssl_cli.errors import CheckpointError
from ssl_cli.names import shown


def load_into(parts: Mapping[str, nn.Module], file: str, sha256: str) -> None:
    """Load modules by their names in a checkpoint's objective, weights and statistics; what is left there is dropped.

    Raises:
        CheckpointError: as `checkpoint.reopen`; or a module is not in it, or has other shapes.
    """
    weights = checkpoint.load(*checkpoint.reopen(file, sha256))["objective"]
    for name, module in parts.items():
        ours = {key: weights[f"{name}.{key}"] for key in module.state_dict() if f"{name}.{key}" in weights}
        try:
            module.load_state_dict(ours)
        except RuntimeError as error:
            words = " ".join(str(error).split())[:300]
            raise CheckpointError(f"The {name} in {shown(file)} is another than its settings say.", words) from error
