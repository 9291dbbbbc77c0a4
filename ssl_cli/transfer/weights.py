"""Weights of a run that another one starts from, or is taught by: read by path, and refused where they have changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ssl_cli import checkpoint, disk
from ssl_cli.errors import CheckpointError
from ssl_cli.names import is_file, shown


def read_state(file: str, sha256: str) -> dict[str, Any]:
    """Read a checkpoint.

    Raises:
        CheckpointError: it is gone, damaged, or its sha256 is another.
    """
    path = Path(file)
    if not is_file(path):
        hint = "Restore it, or start another run with another --out."
        raise CheckpointError(f"The checkpoint that this run starts from is gone: {shown(file)}.", hint)
    state = checkpoint.load(path)
    if disk.sha256(path) != sha256:
        hint = "Restore that file, or start another run with another --out."
        raise CheckpointError(f"{shown(file)} is not the checkpoint that this run started from.", hint)
    return state


def load_into(parts: Mapping[str, nn.Module], file: str, sha256: str) -> None:
    """Load modules by their names in a checkpoint's objective, weights and statistics; what is left there is dropped.

    Raises:
        CheckpointError: as `read_state`; or a module is not in it, or has other shapes.
    """
    weights = read_state(file, sha256)["objective"]
    for name, module in parts.items():
        ours = {key: weights[f"{name}.{key}"] for key in module.state_dict() if f"{name}.{key}" in weights}
        try:
            module.load_state_dict(ours)
        except RuntimeError as error:
            words = " ".join(str(error).split())[:300]
            raise CheckpointError(f"The {name} in {shown(file)} is another than its settings say.", words) from error
