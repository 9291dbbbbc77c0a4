"""Ranks above 0: they run their local rows of every step, and neither log, save nor evaluate."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ssl_cli import distributed
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective, local_device
from ssl_cli.engine.plan.plan import cache_bytes
from ssl_cli.engine.run.state import restore_state
from ssl_cli.engine.train import Trainer, train
from ssl_cli.error_file import read_error_files
from ssl_cli.errors import DONE, DataError, Interrupted, RankError
from ssl_cli.events import Stopped
from ssl_cli.objective import Objective
from ssl_cli.planning.resolved import Resolved
from ssl_cli.signals import StopRequest, exit_code, stop_reason, stop_request
from ssl_cli.watchdog import Watchdog
from ssl_cli.world import world


def run_worker(settings: Settings) -> int:
    """Train as a rank above 0 to the end of the run; return the exit code.

    Args:
        settings: only `hardware.device` is used; rank 0 broadcasts all other settings.

    Raises:
        SslcliError: any error a user can cause; `RankError` where another rank is the cause.
        Interrupted: a signal came while no step was running.
    """
    device = local_device(settings.hardware.device)
    with stop_request() as request, process_group(device, request):
        run = torch.load(io.BytesIO(distributed.broadcast_bytes(None)), weights_only=True)
        settings = Settings.model_validate(run["settings"])
        device = local_device(torch.device(run["resolved"]["device"]).type)  # a resumed run keeps its kind of device
        resolved = Resolved.from_dict({**run["resolved"], "device": str(device)})
        source = open_pretraining(settings.data, settings.run.seed)
        if len(source) != resolved.images:
            raise DataError(
                f"Rank 0 has {resolved.images:,} images, rank {distributed.rank()} has {len(source):,}.",
                "Give all machines the same images.",
            )
        objective = build_objective(settings, device, len(source), source=source)
        ram = cache_bytes(settings, objective, device)
        gpu = resolved.gpu_cache_bytes
        loader = build_loader(settings, objective, source, device, cache_bytes=ram, gpu_cache_bytes=gpu)
        trainer = Trainer(settings, resolved, objective, loader, stop=request)
        if run["state"] is not None:
            trainer.start = restore_state(run["state"], trainer.objective, trainer.optimiser)
        elif run["initial"] is not None:
            trainer.objective.load_state_dict(run["initial"])
        with request.deferred():
            *_, last = train(trainer)
    return last.exit_code if isinstance(last, Stopped) else DONE


def broadcast_run(
    settings: Settings, resolved: Mapping[str, Any], state: Mapping[str, Any] | None, initial: Objective | None
) -> None:
    """Send settings, plan, and checkpoint or initial weights from rank 0 to the ranks that wait in `run_worker`."""
    if distributed.world_size() == 1:
        return
    weights = initial and {name: tensor.cpu() for name, tensor in initial.state_dict().items()}
    run = {"settings": settings.model_dump(mode="json"), "resolved": resolved, "state": state, "initial": weights}
    buffer = io.BytesIO()
    torch.save(run, buffer)
    distributed.broadcast_bytes(buffer.getvalue())


@contextmanager
def process_group(device: torch.device, request: StopRequest) -> Iterator[None]:
    """Join the process group of the run within the block, and convert what another rank caused.

    Raises:
        RankError: another rank failed or was killed.
        Interrupted: a signal came while signals were not deferred; not one by which a launcher ends the other ranks.
    """
    if world().size == 1:
        yield
        return
    with distributed.process_group(device):
        watchdog = Watchdog()
        try:
            yield
        except (Exception, Interrupted) as error:
            with request.deferred():  # where a rank fails, its launcher sends the others a signal
                cause = _cause(request.interrupt or error, request.signal)
                if cause is error:
                    raise
                raise cause from error
        watchdog.close()


def _cause(error: Exception | Interrupted, number: int | None) -> Exception | Interrupted:
    """Return why this rank ends: its own error, the signal `number` that all ranks received, or another rank."""
    lost = distributed.is_connection_loss(error)
    if not lost and not isinstance(error, Interrupted):
        return error
    if failed := read_error_files():
        return failed
    if lost and number is not None:  # the other rank was interrupted by it
        return Interrupted(stop_reason(number), exit_code(number))
    return RankError("Another rank of this run was lost.") if lost else error
