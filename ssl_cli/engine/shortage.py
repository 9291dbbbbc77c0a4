"""Memory that runs out within a step, or compiling that fails: a simpler way in which the step may succeed."""

import dataclasses
from collections.abc import Sequence

from ssl_cli.engine.compiled import first_line
from ssl_cli.engine.division import smaller
from ssl_cli.engine.plan import Resolved
from ssl_cli.errors import ResourceError, understood
from ssl_cli.events import Warned


def simpler(error: Exception, resolved: Resolved, sizes: Sequence[int], step: int) -> tuple[Resolved, Warned] | None:
    """How a step that ended so may succeed, and what to say of it; None: there is no other way.

    Args:
        error: how it ended.
        resolved: how it was done.
        sizes: rows of each BatchNorm group.
        step: its number, from 0.
    """
    if isinstance(understood(error), ResourceError):
        less = further(resolved, sizes)
        return (less, _out_of_memory(less, step)) if less else None
    if not resolved.compile:
        return None
    message = f"Compiling failed in step {step + 1}, which begins again without: {first_line(error)}"
    told = Warned(step=step, message=message, hint="With --compile off it is not tried.")
    return dataclasses.replace(resolved, compile=False), told


def further(resolved: Resolved, sizes: Sequence[int]) -> Resolved | None:
    """The same with the batch divided further; None: it cannot be."""
    less = smaller(sizes, resolved.micro_batch, resolved.kept, resolved.checkpointing)
    if less is None:
        return None
    micro, kept, sparing = less
    mode = "checkpointed" if sparing else "cached"
    return dataclasses.replace(resolved, mode=mode, micro_batch=micro, kept=kept, checkpointing=sparing)


def _out_of_memory(less: Resolved, step: int) -> Warned:
    parts = ", keeping only what goes into the network's parts" if less.checkpointing else ""
    return Warned(
        step=step,
        message=f"Memory ran out in step {step + 1}; it begins again with micro-batches of {less.micro_batch:,} rows"
        f"{parts}. The batch is as it was.",
        hint="A smaller --memory makes the plan so from the start.",
    )
