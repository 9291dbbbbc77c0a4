"""`torch.compile` of the networks: where it is possible, and the rule of `--compile auto`.

The backbone and its momentum copies are compiled in place, so that the names in a checkpoint stay. Forward passes with
and without gradient and each size of a micro-batch are graphs of their own. Evaluation is not compiled: its batch
sizes differ.

With `graphs`, kernels are also recorded as CUDA graphs, which saves launch time where steps are short. Their outputs
lie in memory that the next replay overwrites, so every step is marked (`mark_step_begin`).
"""

import shutil
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch._inductor import config as inductor

from ssl_cli.config.units import format_seconds
from ssl_cli.objective import Objective

LONG_RUN = 1800.0
"""Seconds of a run from which on `auto` compiles: compiling takes a minute or so."""
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
    return torch.compiler.set_stance("force_eager")  # type: ignore[no-any-return]


def allowed(
    mode: str, *, checkpointing: bool = False, undivided: bool = True, world_size: int = 1, split_groups: bool = False
) -> str:
    """Return what is left of a run's compile mode where its batch is divided otherwise or it has more ranks.

    Args:
        mode: of the run.
        checkpointing: whether activations are checkpointed.
        undivided: whether all rows of a step are one micro-batch.
        world_size: number of ranks.
        split_groups: whether BatchNorm groups have rows on several ranks.
    """
    if checkpointing or split_groups or (mode == "graphs" and not undivided):
        return "off"
    return "on" if mode == "graphs" and world_size > 1 else mode


def choose(
    asked: str, device: str, *, checkpointing: bool, undivided: bool, world_size: int, split_groups: bool,
    seconds: float | None,
) -> tuple[str, str]:  # fmt: skip
    """Choose the compile mode of a run of `seconds`, None where unknown, and say why; see `allowed`.

    `auto` compiles runs of half an hour and more on a single CUDA device.
    """
    if asked == "off":
        return "off", "given"
    found = device != "cpu" or any(name and shutil.which(name) for name in inductor.cpp.cxx)
    graphs, auto, long = asked == "graphs", asked == "auto", format_seconds(LONG_RUN)
    obstacles = (
        (checkpointing, "activation checkpointing runs parts of the network one by one"),
        (split_groups, "BatchNorm layers wait for other ranks"),
        (device not in ("cpu", "cuda"), "not on this device"),
        (not found, "there is no C++ compiler here"),
        (graphs and device != "cuda", "CUDA graphs need a CUDA device"),
        (graphs and world_size > 1, "CUDA graphs need a single process"),
        (graphs and not undivided, "CUDA graphs need all rows of a step in one micro-batch, and this batch is divided"),
        (
            auto and (device != "cuda" or world_size > 1),
            "auto compiles on a single CUDA device; --compile on, here too",
        ),
        (auto and seconds is None, "the time of the run is not known; --compile on compiles it"),
        (auto and (seconds or 0) < LONG_RUN, f"takes longer than it saves; auto compiles runs of {long} and more"),
    )
    for applies, reason in obstacles:
        if applies:
            return "off", reason
    return ("on", f"a run of {long} or more") if asked == "auto" else (asked, "given")


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
