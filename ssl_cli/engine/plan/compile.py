"""The compile mode of a run: where `torch.compile` is possible, and the rule of `--compile auto`."""

import shutil

from ssl_cli.config.units import format_seconds

LONG_RUN = 1800.0
"""Seconds of a run from which on `auto` compiles: compiling takes a minute or so."""


def allowed(
    mode: str, *, checkpointing: bool = False, undivided: bool = True, world_size: int = 1, split_groups: bool = False
) -> str:
    """Return the compile mode that a run can have with these micro-batches and ranks: its own, or a lesser one.

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
    found = device != "cpu" or asked == "auto" or _has_cpp_compiler()  # auto never compiles for a CPU
    graphs, auto, long = asked == "graphs", asked == "auto", format_seconds(LONG_RUN)
    obstacles = (
        (checkpointing, "activation checkpointing runs parts of the network one by one"),
        (split_groups, "BatchNorm layers wait for other ranks"),
        (device not in ("cpu", "cuda"), "not on this device"),
        (not found, "there is no C++ compiler here"),
        (graphs and device != "cuda", "CUDA graphs need a CUDA device"),
        (graphs and world_size > 1, "CUDA graphs need a single process"),
        (graphs and not undivided, "CUDA graphs need all rows of a step in one micro-batch, and this batch is divided"),
        (auto and device != "cuda", "auto compiles only on a CUDA GPU; --compile on compiles here"),
        (auto and world_size > 1, "auto compiles only on a single GPU; --compile on compiles here"),
        (auto and seconds is None, "the time of the run is not known; --compile on compiles it"),
        (auto and (seconds or 0) < LONG_RUN, f"takes longer than it saves; auto compiles runs of {long} and more"),
    )
    for applies, reason in obstacles:
        if applies:
            return "off", reason
    return ("on", f"a run of {long} or more") if asked == "auto" else (asked, "given")


def _has_cpp_compiler() -> bool:
    from torch._inductor import config  # takes seconds to import

    return any(name and shutil.which(name) for name in config.cpp.cxx)
