"""The processes of a run beside the first: they do their share of every step, and neither draw, write nor evaluate."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ssl_cli import distributed
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective, local_device
from ssl_cli.engine.plan.plan import Resolved, cache_bytes
from ssl_cli.engine.run.signals import StopRequest, stop_request
from ssl_cli.engine.train import Trainer, train
from ssl_cli.errors import DONE, DataError, Interrupted, RankError, SslcliError, convert_exception
from ssl_cli.events import Stopped
from ssl_cli.world import world

TOLD = ("message", "hint", "code", "out_of_memory", "reason")
"""What the others hear of an error, or of what was asked to stop."""


def run_worker(settings: Settings) -> int:
    """Take part in the run that the first process describes, to its end; the exit code.

    `settings` name the device; all else is as the first process says.
    """
    device = local_device(settings.hardware.device)
    with stop_request() as request, ranks(device, request):
        facts = torch.load(io.BytesIO(distributed.broadcast_bytes(None)), weights_only=True)
        settings = Settings.model_validate(facts["settings"])
        device = local_device(torch.device(facts["resolved"]["device"]).type)  # which a resumed run may have settled
        resolved = Resolved.from_dict({**facts["resolved"], "device": str(device)})
        source = open_pretraining(settings.data, settings.run.seed)
        if len(source) != resolved.images:
            raise DataError(
                f"The first process has {resolved.images:,} images, process {distributed.rank()} has {len(source):,}.",
                "Give all machines the same images.",
            )
        objective = build_objective(settings, device, len(source))
        ram = cache_bytes(settings, objective, device)
        loader = build_loader(settings, objective, source, device, cache_bytes=ram, gpu_cache_bytes=resolved.gpu_cache_bytes)
        trainer = Trainer(settings, resolved, objective, loader, None, request)
        if facts["state"] is not None:
            trainer.restore(facts["state"])
        with request.deferred():
            *_, last = train(trainer)
    return last.exit_code if isinstance(last, Stopped) else DONE


def broadcast_run(settings: Settings, resolved: Mapping[str, Any], state: Mapping[str, Any] | None) -> None:
    """Tell the other processes what the run is."""
    if distributed.world_size() == 1:
        return
    letter = io.BytesIO()
    torch.save({"settings": settings.model_dump(mode="json"), "resolved": resolved, "state": state}, letter)
    distributed.broadcast_bytes(letter.getvalue())


@contextmanager
def ranks(device: torch.device, request: StopRequest) -> Iterator[None]:
    """Within the block the processes of a run talk, if there are several.

    Raises:
        SslcliError: where one of them fails it says why, and the others raise `RankError` with the same words.
        Interrupted: where one of them is, the others are too.
    """
    with distributed.process_group(device):
        try:
            yield
        except (Exception, Interrupted) as error:
            with request.deferred():  # where a process fails, its launcher sends the others a signal
                end = request.interrupt or error  # a file cut short by it, say, may have raised something else
                end = _end(end) if world().size > 1 else end
                if end is error:
                    raise
                raise end from error


def _end(error: Exception | Interrupted) -> SslcliError | Interrupted:
    """What this process ends with: what it has heard from another, or its own error, of which it leaves word."""
    stopped, broken = isinstance(error, Interrupted), distributed.is_connection_loss(error)
    # who is told to stop may be told so by a launcher, because another failed
    words = distributed.last_words() if broken else distributed.last_words(0) if stopped else None
    if words is not None:
        return _heard(*words)
    if broken:
        return RankError("Another process of this run ended without a word: it was killed, or its machine is lost.")
    ours = error if isinstance(error, Interrupted) else convert_exception(error)
    distributed.leave_word(json.dumps({name: getattr(ours, name) for name in TOLD if hasattr(ours, name)}))
    return ours


def _heard(rank: int, said: str) -> RankError | Interrupted:
    facts = json.loads(said)
    if "reason" in facts:
        return Interrupted(**facts)
    facts["message"] = f"Process {rank} failed: {facts['message']}"
    return RankError(**facts)
