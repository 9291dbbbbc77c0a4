"""The processes of a run beside the first: they do their share of every step, and neither draw, write nor evaluate."""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ssl_cli import comm
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.devices import own_device
from ssl_cli.engine.job import Job
from ssl_cli.engine.loop import train
from ssl_cli.engine.plan import Resolved
from ssl_cli.engine.signals import stop_request
from ssl_cli.errors import DONE, DataError, PeerError, SslcliError, understood
from ssl_cli.events import Event, Stopped
from ssl_cli.objective import Batch, Targets


class Peer(Job):
    """A job whose events nobody sees."""

    def observe(self, step: int, z: Tensor, targets: Targets, batch: Batch) -> None:
        """Nothing is due here."""

    def save_if_due(self, step: int, *, now: bool = False) -> Iterator[Event]:
        """The first process saves."""
        return iter(())


def follow(settings: Settings) -> int:
    """Take part in the run that the first process describes, to its end; the exit code.

    `settings` name the device; all else is as the first process says.
    """
    device = own_device(settings.hardware.device)
    with together(device):
        facts = torch.load(io.BytesIO(comm.told(None)), weights_only=True)
        settings = Settings.model_validate(facts["settings"])
        device = own_device(torch.device(facts["resolved"]["device"]).type)  # which a resumed run may have settled
        resolved = Resolved(**{**facts["resolved"], "device": str(device)})
        torch.set_num_threads(resolved.threads)
        source = open_pretraining(settings.data, settings.run.seed)
        if len(source) != resolved.images:
            raise DataError(
                f"The first process has {resolved.images:,} images, process {comm.rank()} has {len(source):,}.",
                "Give all machines the same images.",
            )
        objective = build_objective(settings, device, len(source))
        loader = build_loader(settings, objective, source, device, resolved.card_bytes)
        job = Peer(settings, resolved, objective, loader, None)
        if facts["state"] is not None:
            job.restore(facts["state"])
        with stop_request() as job.request:
            *_, last = train(job)
    return last.exit_code if isinstance(last, Stopped) else DONE


def describe(settings: Settings, resolved: Mapping[str, Any], state: Mapping[str, Any] | None) -> None:
    """Tell the other processes what the run is."""
    if comm.size() == 1:
        return
    letter = io.BytesIO()
    torch.save({"settings": settings.model_dump(mode="json"), "resolved": resolved, "state": state}, letter)
    comm.told(letter.getvalue())


@contextmanager
def together(device: torch.device) -> Iterator[None]:
    """Within the block the processes of a run talk, if there are several.

    Raises:
        SslcliError: where one of them fails it says why, and the others raise `PeerError` with the same words.
    """
    with comm.joined(device):
        try:
            yield
        except Exception as error:
            if comm.size() == 1:
                raise
            raise _fault(error) from error


def _fault(error: Exception) -> SslcliError:
    if comm.broke_off(error):
        words = comm.last_words()
        if words is None:
            return PeerError("Another process of this run ended without a word: it was killed, or its machine is lost.")
        rank, said = words
        facts = json.loads(said)
        return PeerError(f"Process {rank} failed: {facts['message']}", facts["hint"], facts["code"])
    ours = understood(error)
    comm.leave_word(json.dumps({"code": ours.code, "message": ours.message, "hint": ours.hint}))
    return ours
