"""Modules in evaluation mode, and whether they were left as they are."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ssl_cli.nn.compile import eager


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put the modules in evaluation mode within the block, without torch.compile; restore each module's mode after."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        with eager():
            yield
    finally:
        for part, training in before:
            part.training = training


def fingerprint(module: nn.Module) -> str:
    """Compute the sha256 of the names and bytes of all weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
