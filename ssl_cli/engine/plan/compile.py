"""`torch.compile` of the networks: whether it is possible here, what it gains, and whether a run is long enough.

The backbone is compiled, and every copy of it that follows it (a momentum encoder), in place, so that names in a
checkpoint stay. Heads, losses and state are small beside it. A pass with a gradient, one without, and each size of a
micro-batch are graphs of their own; BatchNorm's moments leave a graph as its outputs. Evaluation stays eager: its
rows come in other numbers, and each would be compiled.

Where steps are small a card waits for the host to launch its kernels, and there they are recorded as CUDA graphs, which
launch as one. What a graph gives back lies in memory that it writes again when it is next launched: rows, moments and
gradients of a step are used up, or copied, before the next one begins, and that is marked (`mark_step_begin`).
"""

import math
import shutil
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch._inductor import config as inductor

from ssl_cli.config.tree import Settings
from ssl_cli.config.units import format_seconds
from ssl_cli.engine.plan import budget
from ssl_cli.engine.plan.divide import Division
from ssl_cli.engine.plan.probe import noise, pass_seconds, view_dtype
from ssl_cli.engine.rows import StepRows, group_sizes, pack, splits_groups
from ssl_cli.nn.batchnorm import Moments
from ssl_cli.objective import Objective
from ssl_cli.world import world

LEAST = 1800.0
"""Seconds of a run from which on trying is worth while: the trial takes half a minute or so."""
GAIN = 1.03
"""Less is not told from noise."""
PAIRS = 7
PAIRS_SECONDS = 20.0
SMALL = 0.05
"""Seconds of a pass; in a longer one launching kernels takes no time that a card would not be busy."""
Way = Literal["off", "on", "graphs"]
MODES: dict[str, str | None] = {"on": None, "graphs": "reduce-overhead"}
"""What torch calls them."""
FIRST = {"on": 1, "graphs": 3}
"""Passes that are not yet what later ones are: compiled in the first, recorded in the second."""


@dataclass(frozen=True)
class Compilation:
    """Whether and how to compile, and why."""

    way: Way
    reason: str


@dataclass(frozen=True)
class Work:
    """How a run passes rows through its network.

    Attributes:
        division: of a step's rows.
        precision: of a pass.
        layout: its memory format.
        seconds: of all steps; None where it is not known.
    """

    division: Division
    precision: str
    layout: str
    seconds: float | None


def networks(objective: Objective) -> list[nn.Module]:
    """The backbone and its copies."""
    shapes = [p.shape for p in objective.backbone.parameters()]
    kind = type(objective.backbone)
    alike = (module for module in objective.modules() if type(module) is kind)
    return [module for module in alike if [p.shape for p in module.parameters()] == shapes]


def set_compile(objective: Objective, way: str) -> None:
    """Compile the networks in this way from their next pass on, or have them pass eagerly again."""
    for network in networks(objective):
        network._compiled_call_impl = None
        if way != "off":
            network.compile(dynamic=False, mode=MODES[way])


def disable_compile(objective: Objective) -> None:
    """Have the networks pass eagerly from here on, and give back what graphs of them held."""
    set_compile(objective, "off")
    torch.compiler.reset()


def mark_step_begin(way: str) -> None:
    """Say that whatever graphs gave back in the step before is used up."""
    if way == "graphs":
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]


def on_ranks(way: str, share: StepRows) -> str:
    """What is left of a run's way where it goes on in the processes of this share."""
    if share.across_ranks:
        return "off"
    return "on" if way == "graphs" and not share.single_rank else way


def divided(way: str, *, checkpointing: bool, at_once: bool) -> str:
    """What is left of a run's way where its batch is divided otherwise, all rows still passing `at_once` or not."""
    return "off" if checkpointing or (way == "graphs" and not at_once) else way


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
    if asked == "graphs":
        obstacle = obstacle or _no_graphs(objective, work)
    if asked == "off":
        return Compilation("off", "given")
    if obstacle is not None:
        return Compilation("off", obstacle)
    if asked != "auto":
        return Compilation(asked, "given")
    if work.seconds is None:
        return Compilation("off", "the time of a run is not known, so neither is whether it would pay")
    if work.seconds < LEAST:
        return Compilation("off", f"takes longer than it saves; tried in runs of {format_seconds(LEAST)} and more")
    if world().size > 1:
        return Compilation("off", "not tried with several processes; --compile on has it")
    if dry:
        return Compilation("off", "to be tried when the run begins")
    return _tried(settings, objective, work)


def _obstacle(settings: Settings, objective: Objective, work: Work) -> str | None:
    """Why compiling is not possible here; None if it is."""
    device = next(objective.parameters()).device.type
    groups = group_sizes(settings.run.batch, objective.gradient_views, settings.model.bn_group)
    if work.division.checkpointing:
        return "parts of the network pass again, one by one"
    if world().size > 1 and splits_groups(len(groups), world().size):
        return "BatchNorm layers wait for the other processes"
    if device == "cpu":
        found = any(name and shutil.which(name) for name in inductor.cpp.cxx)
        return None if found else "there is no C++ compiler here"
    return None if device == "cuda" else "not on this device"


def _no_graphs(objective: Objective, work: Work) -> str | None:
    """Why CUDA graphs are not possible where compiling is; None if they are."""
    if next(objective.parameters()).device.type != "cuda":
        return "CUDA graphs need a CUDA device"
    if world().size > 1:
        return "CUDA graphs are for a single process"
    at_once = work.division.mode == "direct" and work.division.count == 1
    return None if at_once else "CUDA graphs need all rows of a step to pass at once, and this batch is divided"


def _tried(settings: Settings, objective: Objective, work: Work) -> Compilation:
    """The way that a trial finds to be fastest, where that pays."""
    began = time.perf_counter()
    gains, told = _gains(settings, objective, work)
    found = _worthwhile(gains, f"tried: {', '.join(told.values())}", work, time.perf_counter() - began)
    if "graphs" in told and found.way != "graphs":
        disable_compile(objective)
    return found


def _gains(settings: Settings, objective: Objective, work: Work) -> tuple[dict[Way, float], dict[Way, str]]:
    """How many times faster each way is that did not fail, and what is to be told of each that was tried."""
    gains, told, eager = dict[Way, float](), dict[Way, str](), math.inf
    ways: tuple[Way, ...] = ("on", "graphs")
    for way in ways:
        if way == "graphs" and (eager >= SMALL or _no_graphs(objective, work)):
            break
        try:
            gains[way], eager = _gain(settings, objective, work, way)
            told[way] = f"{way} {gains[way]:.2f} x as fast"
        except Exception as error:  # whatever a compiler may say: the run can do without
            told[way] = f"{way} failed: {first_line(error)}"
    return gains, told


def _worthwhile(gains: dict[Way, float], told: str, work: Work, spent: float) -> Compilation:
    """The best way, where it saves more than noise and more than the seconds that it takes."""
    assert work.seconds is not None
    # graphs keep memory to themselves, and must be better by more than noise too
    best = max(gains, key=lambda way: gains[way] / (GAIN if way == "graphs" else 1), default=None)
    if best is None or gains[best] < GAIN:
        return Compilation("off", told)
    saved = work.seconds * (1 - 1 / gains[best])
    if saved < 2 * spent:  # it compiles once more for what the trial has not met
        return Compilation("off", f"{told}, and too short a run to pay for compiling")
    return Compilation(best, f"{told}; saves about {format_seconds(saved)}")


def first_line(error: Exception) -> str:
    """What an error says, in a line."""
    return next(iter(str(error).splitlines()), type(error).__name__)[:150]


def _gain(settings: Settings, objective: Objective, work: Work, way: Way) -> tuple[float, float]:
    """How many times faster a compiled pass is, forward and backward, and the seconds of an eager one.

    Passes of one micro-batch, eager and compiled in turn; the median of their ratios decides.
    """
    sizes = next(pack(budget.step_groups(settings, objective), work.division.micro_batch))
    device = next(objective.parameters()).device
    side = settings.data.size
    x = noise((sum(sizes), objective.channels, side, side), device, work.layout).to(view_dtype(work.precision))
    pairs: list[tuple[float, float]] = []
    try:
        for _ in range(FIRST[way]):
            _turn(objective, x, work.precision, sizes, way)
        began = time.perf_counter()
        while len(pairs) < PAIRS and (len(pairs) < 2 or time.perf_counter() - began < PAIRS_SECONDS):
            pairs.append(_turn(objective, x, work.precision, sizes, way))
    finally:
        set_compile(objective, "off")
        objective.zero_grad(set_to_none=True)  # a pass that failed may have left some
    ratio = statistics.median(eager / compiled for eager, compiled in pairs)
    return ratio, statistics.median(eager for eager, _ in pairs)


def _turn(objective: Objective, x: torch.Tensor, precision: str, sizes: Sequence[int], way: Way) -> tuple[float, float]:
    """Seconds of an eager pass and of a compiled one."""
    set_compile(objective, "off")
    eager = pass_seconds(objective, x, precision, sizes=sizes, moments=Moments())
    set_compile(objective, way)
    mark_step_begin(way)
    return eager, pass_seconds(objective, x, precision, sizes=sizes, moments=Moments())
