"""`torch.compile` of an objective's networks.

The backbone and its momentum copies are compiled in place, so that the names in a checkpoint stay. Forward passes with
and without gradient and each size of a micro-batch are graphs of their own. Evaluation is not compiled: its batch
sizes differ.

With `graphs`, kernels are also recorded as CUDA graphs, which saves launch time where steps are short. Their outputs
lie in memory that the next replay overwrites, so every step is marked (`mark_step_begin`).
"""

import sys
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from ssl_cli.objective import Objective

TORCH_MODES: dict[str, str | None] = {"on": None, "graphs": "reduce-overhead"}


def networks(objective: Objective) -> list[nn.Module]:
    """Return the backbone and the modules of the same type and shapes: its momentum copies."""
    shapes = [p.shape for p in objective.backbone.parameters()]
    same_type = (module for module in objective.modules() if type(module) is type(objective.backbone))
    return [module for module in same_type if [p.shape for p in module.parameters()] == shapes]


def set_compile(objective: Objective, mode: str) -> None:
    """Compile the networks in this mode from their next forward pass on; `off` runs them eagerly."""
    for network in networks(objective):
        network._compiled_call_impl = None
        if mode != "off":
            network.compile(dynamic=False, mode=TORCH_MODES[mode])


def disable_compile(objective: Objective) -> None:
    """Run the networks eagerly from now on, and free the memory of their graphs."""
    set_compile(objective, "off")
    torch.compiler.reset()


def mark_step_begin(mode: str) -> None:
    """Mark the outputs of the step before as no longer needed, so that CUDA graphs may overwrite them."""
    if mode == "graphs":
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def eager() -> AbstractContextManager[None]:
    """Return a context in which nothing is compiled, and compiled networks run eagerly."""
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import would take seconds
        return nullcontext()
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]


def is_compiler_error(error: BaseException) -> bool:
    """Return whether an exception was raised by TorchDynamo, Inductor, Triton or a CUDA graph, not by the user's code.

    Exceptions of their own types are; so are all others raised below a frame of Inductor or Triton, such as those of
    a compiler process or of the capture of a graph: compiled code calls no Python of the user's.
    """
    compilers = ("torch._dynamo", "torch._inductor", "triton")
    if any(kind.__module__.startswith(compilers) for kind in type(error).__mro__):
        return True
    frame = error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__")).startswith(compilers[1:]):
            return True
        frame = frame.tb_next
    return False
