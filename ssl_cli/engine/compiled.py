"""`torch.compile` of the networks: whether it is possible here, what it gains, and whether a run is long enough.

The backbone is compiled, and every copy of it that follows it (a momentum encoder), in place, so that names in a
checkpoint stay. Heads, losses and state are small beside it. A pass with a gradient, one without, and each size of a
micro-batch are graphs of their own; BatchNorm's moments leave a graph as its outputs. Evaluation stays eager: its
rows come in other numbers, and each would be compiled.
"""

import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn
from torch._inductor import config as inductor

from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_seconds
from ssl_cli.engine import budget
from ssl_cli.engine.groups import group_sizes, packed
from ssl_cli.engine.probe import noise, pass_seconds
from ssl_cli.engine.share import spans
from ssl_cli.nn.batchnorm import Moments
from ssl_cli.objective import Objective
from ssl_cli.world import world

LEAST = 1800.0
"""Seconds of a run from which on trying is worth while: the trial takes half a minute or so."""
GAIN = 1.03
"""Less is not told from noise."""
PAIRS = 7
PAIRS_SECONDS = 20.0


@dataclass(frozen=True)
class Compilation:
    """Whether to compile, and why."""

    on: bool
    reason: str

    @property
    def value(self) -> str:
        """The choice in a word."""
        return "on" if self.on else "off"


@dataclass(frozen=True)
class Work:
    """How a run passes rows through its network.

    Attributes:
        rows: of a micro-batch, at most.
        precision: of a pass.
        layout: its memory format.
        checkpointing: whether parts of the network pass again.
        seconds: of all steps; None where it is not known.
    """

    rows: int
    precision: str
    layout: str
    checkpointing: bool
    seconds: float | None


def networks(objective: Objective) -> list[nn.Module]:
    """The backbone and its copies."""
    shapes = [p.shape for p in objective.backbone.parameters()]
    kind = type(objective.backbone)
    alike = (module for module in objective.modules() if type(module) is kind)
    return [module for module in alike if [p.shape for p in module.parameters()] == shapes]


def switch(objective: Objective, *, on: bool) -> None:
    """Compile the networks from their next pass on, or have them pass eagerly again."""
    for network in networks(objective):
        network._compiled_call_impl = None
        if on:
            network.compile(dynamic=False)


@contextmanager
def eagerly() -> Iterator[None]:
    """Within the block nothing is compiled, and what is compiled passes as it was written."""
    with torch.compiler.set_stance("force_eager"):
        yield


def choose(settings: Settings, objective: Objective, work: Work, *, dry: bool) -> Compilation:
    """Off, on, or what a trial finds to be faster in a run long enough to pay for it.

    Compiling takes tens of seconds, so `auto` does not even try it in a short run.

    Args:
        settings: the settled tree.
        objective: which is left as it was.
        work: what is to be done.
        dry: whether this is a plan alone, which is to be told at once.
    """
    asked, obstacle = settings.hardware.compile, _obstacle(settings, objective, work)
    if asked == "off":
        return Compilation(False, "given")
    if obstacle is not None:
        return Compilation(False, obstacle)
    if asked == "on":
        return Compilation(True, "given")
    if work.seconds is None:
        return Compilation(False, "the time of a run is not known, so neither is whether it would pay")
    if work.seconds < LEAST:
        return Compilation(False, f"takes longer than it saves; tried in runs of {format_seconds(LEAST)} and more")
    if world().size > 1:
        return Compilation(False, "not tried with several processes; --compile on has it")
    if dry:
        return Compilation(False, "to be tried when the run begins")
    return _tried(settings, objective, work)


def _obstacle(settings: Settings, objective: Objective, work: Work) -> str | None:
    """Why compiling is not possible here; None if it is."""
    device = next(objective.parameters()).device.type
    groups = group_sizes(settings.run.batch, objective.gradient_views, settings.model.bn_group)
    if work.checkpointing:
        return "parts of the network pass again, one by one"
    if world().size > 1 and spans(len(groups), world().size):
        return "BatchNorm layers wait for the other processes"
    if device == "cpu":
        found = any(name and shutil.which(name) for name in inductor.cpp.cxx)
        return None if found else "there is no C++ compiler here"
    return None if device == "cuda" else "not on this device"


def _tried(settings: Settings, objective: Objective, work: Work) -> Compilation:
    """Passes of one micro-batch, eager and compiled in turn; the median of their ratios decides."""
    assert work.seconds is not None
    began = time.perf_counter()
    try:
        gain = _gain(settings, objective, work)
    except Exception as error:  # whatever a compiler may say: the run can do without
        return Compilation(False, f"it was tried and failed: {first_line(error)}")
    spent = time.perf_counter() - began
    saved = work.seconds * (1 - 1 / gain)
    told = f"tried: {gain:.2f} x as fast"
    if gain < GAIN:
        return Compilation(False, told)
    if saved < 2 * spent:  # it compiles once more for what the trial has not met
        return Compilation(False, f"{told}, and too short a run to pay for compiling")
    return Compilation(True, f"{told}; saves about {format_seconds(saved)}")


def first_line(error: Exception) -> str:
    """What an error says, in a line."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:150]


def _gain(settings: Settings, objective: Objective, work: Work) -> float:
    """How many times faster a compiled pass is, forward and backward."""
    sizes = next(packed(budget.step_groups(settings, objective), work.rows))
    device = next(objective.parameters()).device
    side = settings.data.size
    x = noise((sum(sizes), objective.channels, side, side), device, work.layout)
    ratios: list[float] = []
    try:
        _turn(objective, x, work.precision, sizes)  # builds kernels, and compiles
        began = time.perf_counter()
        while len(ratios) < PAIRS and (len(ratios) < 2 or time.perf_counter() - began < PAIRS_SECONDS):
            ratios.append(_turn(objective, x, work.precision, sizes))
    finally:
        switch(objective, on=False)
        objective.zero_grad(set_to_none=True)  # a pass that failed may have left some
    return statistics.median(ratios)


def _turn(objective: Objective, x: torch.Tensor, precision: str, sizes: Sequence[int]) -> float:
    seconds = []
    for on in (False, True):
        switch(objective, on=on)
        seconds.append(pass_seconds(objective, x, precision, sizes=sizes, moments=Moments()))
    return seconds[0] / seconds[1]
