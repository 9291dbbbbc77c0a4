"""Out of memory in a step, or a compiler that fails: how to divide the batch further and run the step again.

A single process runs the step again at once. Of several ranks, the others wait in a collective of the step: the run
ends with a note in `plan.json`, and whoever resumes it finds the note.
"""

import dataclasses
from collections.abc import Sequence

from ssl_cli.config.tree import Settings
from ssl_cli.data.source import Source
from ssl_cli.engine.plan.compile import allowed
from ssl_cli.engine.plan.cost import local_groups
from ssl_cli.engine.plan.plan import cache_bytes, replan
from ssl_cli.errors import OutOfMemoryError, convert_exception
from ssl_cli.events import Warned
from ssl_cli.nn.compile import is_compiler_error
from ssl_cli.objective import Objective, device_of
from ssl_cli.planning.divide import divide_further
from ssl_cli.planning.resolved import Resolved


def retry_smaller(
    error: Exception, resolved: Resolved, sizes: Sequence[int], step: int
) -> tuple[Resolved, Warned] | None:
    """Choose how to run a failed step again; None where the error has another cause, or nothing needs less memory.

    Args:
        error: of the step.
        resolved: how the step was run.
        sizes: rows of each BatchNorm group.
        step: its number, from 0.
    """
    out_of_memory = convert_exception(error).out_of_memory
    if out_of_memory and resolved.compile != "graphs":  # CUDA graphs hold memory: first they go
        smaller = _divided_further(resolved, sizes)
        if smaller is None:
            return None
        message = f"Out of memory in step {step + 1}, which starts over with {describe_micro_batches(smaller)}."
        hint = "A smaller --memory plans this from the start."
        return smaller, Warned(step=step, message=f"{message} The batch is unchanged.", hint=hint)
    if resolved.compile == "off" or not (out_of_memory or is_compiler_error(error)):
        return None
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    message = f"Compiling failed in step {step + 1}, which starts over uncompiled: {reason}"
    warned = Warned(step=step, message=message, hint="--compile off trains without trying it.")
    return dataclasses.replace(resolved, compile="off"), warned


def resume_smaller(
    settings: Settings, objective: Objective, resolved: Resolved, source: Source | None, note: str | None, *,
    killed: bool = False,
) -> tuple[Resolved, int, list[str]]:  # fmt: skip
    """Divide the batch further where the run ended; return the choices, the RAM for images, and what to warn of.

    `note`, of `plan.json`, says that a step was out of memory. Where the kernel `killed` the run it is planned again
    with the memory that is free now, and divided one step further at least; on a GPU only the images in RAM change.

    Raises:
        ResourceError: as `make_plan`, where it was killed.
    """
    device, smaller = device_of(objective), resolved
    if killed:
        note = "The kernel may have killed this run, out of memory."
    if note and not (killed and device.type == "cuda"):
        smaller = _divided_further(resolved, local_groups(settings, objective)) or resolved
    if killed and device.type != "cuda":
        planned, ram = replan(settings, objective, resolved, source)
        rows, graphs = (min(getattr(smaller, name), getattr(planned, name)) for name in ("micro_batch", "kept_graphs"))
        smaller = _divided(smaller, rows, graphs, smaller.checkpointing or planned.checkpointing)
    else:
        ram = cache_bytes(settings, objective, device)
    words = f"{note} The run continues with {describe_micro_batches(smaller)}. The batch is unchanged."
    return smaller, ram, [words] if note else []


def out_of_memory_error(resolved: Resolved, sizes: Sequence[int], step: int, rank: int) -> OutOfMemoryError:
    """Return the error that ends a run of several ranks where this one is out of memory in a step."""
    where = "" if rank else " on rank 0"  # the others are named by whoever reports their error
    hint = "Resume from the last checkpoint with --resume: the batch is then divided further."
    if _divided_further(resolved, sizes) is None:
        hint = "Not even one BatchNorm group fits; use --resume where there is more memory."
    return OutOfMemoryError(f"Out of memory in step {step + 1}{where}.", hint)


def describe_micro_batches(resolved: Resolved) -> str:
    """Describe the micro-batches in words."""
    parts = " and activation checkpointing" if resolved.checkpointing else ""
    return f"micro-batches of {resolved.micro_batch:,} rows{parts}"


def _divided_further(resolved: Resolved, sizes: Sequence[int]) -> Resolved | None:
    smaller = divide_further(sizes, resolved.micro_batch, resolved.kept_graphs, resolved.checkpointing)
    return None if smaller is None else _divided(resolved, *smaller)


def _divided(resolved: Resolved, micro_batch: int, kept_graphs: int, checkpointing: bool) -> Resolved:
    compile_mode = allowed(resolved.compile, checkpointing=checkpointing, undivided=False)
    return dataclasses.replace(
        resolved, mode="checkpointed" if checkpointing else "cached", micro_batch=micro_batch, kept_graphs=kept_graphs,
        checkpointing=checkpointing, compile=compile_mode,
    )  # fmt: skip
