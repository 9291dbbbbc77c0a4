"""Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): blocks keep their inputs only and are recomputed.

A block is recomputed in the same precision, with the same dropout and the same BatchNorm groups, so the gradient is the
same. BatchNorm's moments are collected in the first forward pass only.
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
def checkpointed(net: nn.Module, sizes: Sequence[int], *, across_ranks: bool = False) -> Iterator[None]:
    """Checkpoint the activations of each block of `net` within the context, where a gradient is recorded.

    Args:
        net: network, or a module that contains some.
        sizes: rows of each BatchNorm group.
        across_ranks: as in `grouped`.

    Note: replaces `ResNet.run`, and `forward` of other networks' blocks, until the context ends.
    """

    def run(block: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return block(*args, **kwargs)
        contexts = partial(_contexts, net, tuple(sizes), across_ranks)
        return checkpoint(block, *args, use_reentrant=False, context_fn=contexts, **kwargs)

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
    """Yield the blocks of a network that is not a `ResNet`: the members of its sequences, and sequences of layers."""
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


def _contexts(net: nn.Module, sizes: tuple[int, ...], across_ranks: bool) -> tuple[Any, Any]:
    """Return the contexts of a block's forward pass and of its recomputation."""
    return nullcontext(), grouped(net, sizes, across_ranks=across_ranks)
