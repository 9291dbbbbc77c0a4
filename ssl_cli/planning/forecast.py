"""What other times and machines would give: estimates for a plan."""

from dataclasses import replace

from ssl_cli.config.tree import Settings
from ssl_cli.events import Sizing
from ssl_cli.planning.network import network_cost
from ssl_cli.planning.size import IN_NETWORK, Machine, Size, Work, choose
from ssl_cli.planning.timing import Timing, seconds_for

TIMES = (600.0, 3600.0, 8 * 3600.0)
HERE = "here"
GPU_SECONDS = 3600.0
GPUS = {
    # 2,470 images/s of NVIDIA's ResNet-50 at 224 pixels on one of a DGX's A100, at 24.5 GFLOP each
    "one A100": Machine(61e12, 80e9, 2),
    # 60 % of what 4.3 TB/s of memory allow the same network: 5,400 views/s; that share is the A100's
    "one H200": Machine(133e12, 140e9, 2),
}
"""Estimates for GPUs: FLOP/s that training of a ResNet-50 reaches, and their memory."""


def forecast(work: Work, settings: Settings, timing: Timing) -> tuple[Sizing, ...]:
    """Return the planned run among those of other times here, at the throughput measured for it, and those of GPUs."""
    model, chosen_time = settings.model, seconds_for(settings, work.images)[0]
    chosen = Size(model.backbone, model.width, settings.data.size, settings.run.batch, settings.schedule.epochs)
    flop = network_cost(chosen.backbone, chosen.width, chosen.size, work.stem, work.channels).flop
    here = Machine(work.passes * flop * chosen.batch / (IN_NETWORK * timing.later))
    rows = [_row(HERE, time, choose(work, here, time)) for time in TIMES if time != chosen_time]
    rows.append(replace(_row(HERE, chosen_time, chosen), chosen=True))
    gpus = [_row(name, GPU_SECONDS, choose(work, gpu, GPU_SECONDS)) for name, gpu in GPUS.items()]
    return (*sorted(rows, key=lambda row: row.seconds), *gpus)


def _row(machine: str, seconds: float, size: Size) -> Sizing:
    network, epochs = size.network, size.epochs
    return Sizing(machine=machine, seconds=seconds, network=network, size=size.size, batch=size.batch, epochs=epochs)
