"""What other times and machines would give: estimates for a plan."""

from dataclasses import replace

from ssl_cli.events import Sizing
from ssl_cli.sizing.network import network_cost
from ssl_cli.sizing.size import IN_NETWORK, Machine, Size, Work, choose

TIMES = (600.0, 3600.0, 8 * 3600.0)
HERE = "this machine"
GPU_SECONDS = 3600.0
GPUS = {
    # 2,470 images/s of NVIDIA's ResNet-50 at 224 pixels on one of a DGX's A100, at 24.5 GFLOP each
    "one A100 GPU": Machine(61e12, 80e9, 2),
    # 60 % of what 4.3 TB/s of memory allow the same network: 5,400 views/s; that share is the A100's
    "one H200 GPU": Machine(133e12, 140e9, 2),
}
"""Estimates for GPUs: FLOP/s that training of a ResNet-50 reaches, and their memory."""


def measured(work: Work, size: Size, machine: Machine, step_seconds: float) -> Machine:
    """Return the machine with the throughput of a run that was measured, for a step of which it takes so long."""
    flop = network_cost(size.backbone, size.width, size.size, work.stem, work.channels).flop
    return replace(machine, flops=work.passes * flop * size.batch / (IN_NETWORK * step_seconds))


def forecast(work: Work, chosen: Size, machine: Machine, seconds: float) -> tuple[Sizing, ...]:
    """Return the chosen run of so many seconds among those of other times here, and those of GPUs."""
    rows = [
        (time, _row(HERE, time, choose(work, machine, time))) for time in TIMES if time != seconds
    ]
    rows.append((seconds, replace(_row(HERE, seconds, chosen), chosen=True)))
    here = [row for _, row in sorted(rows, key=lambda pair: pair[0])]
    gpus = [_row(name, GPU_SECONDS, choose(work, gpu, GPU_SECONDS)) for name, gpu in GPUS.items()]
    return (*here, *gpus)


def _row(machine: str, seconds: float, size: Size) -> Sizing:
    return Sizing(
        machine=machine, seconds=seconds, network=size.network, size=size.size, batch=size.batch, epochs=size.epochs
    )
