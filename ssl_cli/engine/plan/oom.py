"""Memory that runs out within a step, or compiling that fails: a simpler way in which the step may succeed.

One process takes it at once. Of several, the others wait in the middle of the step and cannot be called back: the run
ends, `plan.json` gets a note, and whoever goes on finds it there.
"""

import dataclasses
from collections.abc import Sequence

from ssl_cli.engine.plan.compile import divided, first_line
from ssl_cli.engine.plan.divide import smaller
from ssl_cli.engine.plan.plan import Resolved
from ssl_cli.errors import OutOfMemoryError, convert_exception
from ssl_cli.events import Warned


def retry_smaller(error: Exception, resolved: Resolved, sizes: Sequence[int], step: int) -> tuple[Resolved, Warned] | None:
    """How a step that ended so may succeed, and what to say of it; None: there is no other way.

    Args:
        error: how it ended.
        resolved: how it was done.
        sizes: rows of each BatchNorm group.
        step: its number, from 0.
    """
    if convert_exception(error).out_of_memory and resolved.compile != "graphs":  # which keep memory to themselves
        less = further(resolved, sizes)
        return (less, _out_of_memory(less, step)) if less else None
    if resolved.compile == "off":
        return None
    message = f"Compiling failed in step {step + 1}, which begins again without: {first_line(error)}"
    told = Warned(step=step, message=message, hint="With --compile off it is not tried.")
    return dataclasses.replace(resolved, compile="off"), told


def further(resolved: Resolved, sizes: Sequence[int]) -> Resolved | None:
    """The same with the batch divided further; None: it cannot be."""
    less = smaller(sizes, resolved.micro_batch, resolved.kept_graphs, resolved.checkpointing)
    if less is None:
        return None
    micro, kept, sparing = less
    mode = "checkpointed" if sparing else "cached"
    way = divided(resolved.compile, checkpointing=sparing, at_once=False)
    return dataclasses.replace(resolved, mode=mode, micro_batch=micro, kept_graphs=kept, checkpointing=sparing, compile=way)


def out_of_memory_error(resolved: Resolved, sizes: Sequence[int], step: int, rank: int) -> OutOfMemoryError:
    """What ends a run of several processes, of which that of this rank ran out of memory."""
    where = "" if rank else " in the first process"  # of the others each is named by whoever hears of it
    hint = "Go on with --resume, from the last checkpoint: the batch is then divided further."
    if further(resolved, sizes) is None:
        hint = "Not even one BatchNorm group fits; go on with --resume where there is more memory."
    return OutOfMemoryError(f"Memory ran out in step {step + 1}{where}.", hint)


def resume_smaller(resolved: Resolved, sizes: Sequence[int], note: str | None) -> tuple[Resolved, list[str]]:
    """The choices of a run that goes on after it ended with this note, or with none, and what to say of them."""
    less = further(resolved, sizes) if note else None
    if less is None:
        return resolved, []
    return less, [f"{note} The run goes on with {described(less)}. The batch is as it was."]


def described(resolved: Resolved) -> str:
    """How the batch is divided."""
    parts = ", keeping only what goes into the network's parts" if resolved.checkpointing else ""
    return f"micro-batches of {resolved.micro_batch:,} rows{parts}"


def _out_of_memory(less: Resolved, step: int) -> Warned:
    return Warned(
        step=step,
        message=f"Memory ran out in step {step + 1}; it begins again with {described(less)}. The batch is as it was.",
        hint="A smaller --memory makes the plan so from the start.",
    )
