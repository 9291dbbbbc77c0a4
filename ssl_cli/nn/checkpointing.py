"""Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): a network keeps what goes into its parts, no more.

When a part's gradient is due it passes once more, in the same precision, with the same dropout and the same BatchNorm
groups, so the gradient is the same. Only what the first pass saw counts as BatchNorm's moments.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ssl_cli.nn.batchnorm import grouped
from ssl_cli.nn.resnet import ResNet


@contextmanager
def checkpointed(net: nn.Module, sizes: Sequence[int], *, spanning: bool = False) -> Iterator[None]:
    """Within the block, rows that pass through `net` with a gradient, in groups of `sizes`, keep only parts' inputs."""

    def run(part: Callable[..., Any], *args: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return part(*args, **named)
        twice = partial(_contexts, net, tuple(sizes), spanning)
        return checkpoint(part, *args, use_reentrant=False, context_fn=twice, **named)

    networks = [module for module in net.modules() if isinstance(module, ResNet)]
    others = list(blocks(net))
    for network in networks:
        network.run = run
    for block in others:
        block.forward = partial(run, block.forward)
    try:
        yield
    finally:
        for network in networks:
            del network.run
        for block in others:
            del block.forward


def blocks(net: nn.Module) -> Iterator[nn.Module]:
    """The parts of a network that is not ours: what stands in its sequences, and sequences of single layers."""
    for child in net.children():
        layers = list(child.children())
        if not layers or isinstance(child, ResNet):
            continue
        sequence = isinstance(child, nn.Sequential)
        single = sequence and not any(True for layer in layers for _ in layer.children())
        if single or (isinstance(net, nn.Sequential | nn.ModuleList) and not sequence):
            yield child
        else:
            yield from blocks(child)


def _contexts(net: nn.Module, sizes: tuple[int, ...], spanning: bool) -> tuple[Any, Any]:
    """Of a part's first pass, and of its second."""
    return nullcontext(), grouped(net, sizes, spanning=spanning)
