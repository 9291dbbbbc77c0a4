"""Memory that runs out within a step: it begins again with fewer rows at once, and ends as if it had begun so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from ssl_cli.engine.features import fingerprint, open_run
from ssl_cli.errors import ResourceError
from ssl_cli.events import Finished, Stepped, Warned
from ssl_cli.methods.simclr import SimCLR
from tests.engine.test_pretrain import PACE, only, run, settings

GENTLE = {"lr": 1e-3}


@pytest.fixture(autouse=True)
def _no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_cli.engine.forecast.pace", lambda *_, **__: PACE)


def card_of(rows: int, monkeypatch: pytest.MonkeyPatch, since: int) -> None:
    """From its pass number `since` on, the network fails where more than `rows` pass at once with a gradient."""
    honest, passes = SimCLR.forward, []

    def forward(self: SimCLR, x: Tensor) -> Tensor:
        if not isinstance(x, FakeTensor) and self.training and torch.is_grad_enabled():
            passes.append(1)
            if len(passes) >= since and len(x) > rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return honest(self, x)

    monkeypatch.setattr(SimCLR, "forward", forward)


def test_the_step_is_done_again_with_fewer_rows_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_32 = {"batch": 32, "log_every": 1, "evaluate": False}
    whole = run(settings(tmp_path, optim=GENTLE, run={**of_32, "out": str(tmp_path / "whole")}))
    card_of(20, monkeypatch, since=3)
    events = run(settings(tmp_path, optim=GENTLE, run={**of_32, "out": str(tmp_path / "run")}))
    told = [event for event in only(events, Warned) if "Memory ran out in step 3" in event.message]
    assert len(told) >= 1
    assert "16 rows" in told[-1].message
    assert isinstance(events[-1], Finished)
    losses, undisturbed = ([event.loss for event in only(found, Stepped)] for found in (events, whole))
    assert losses == pytest.approx(undisturbed, rel=1e-3)
    saved = torch.load(next((tmp_path / "run" / "checkpoints").glob("*6.pt")), weights_only=True)
    assert (saved["resolved"]["mode"], saved["resolved"]["micro_batch"]) == ("cached", 16)


def test_it_ends_as_a_run_that_was_planned_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hardware = {"precision": "fp32", "memory_format": "channels_last", "device": "cpu"}
    small = {**hardware, "micro_batch": 16, "mode": "cached"}
    planned = tmp_path / "planned"
    run(settings(planned, hardware=small))
    card_of(16, monkeypatch, since=1)
    run(settings(tmp_path / "run"))
    ends = [open_run(str(tmp_path / name), "cpu").objective for name in ("run", "planned")]
    assert fingerprint(ends[0]) == fingerprint(ends[1])


def test_where_not_even_one_group_fits_the_run_ends_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card_of(4, monkeypatch, since=1)
    with pytest.raises(torch.OutOfMemoryError):
        run(settings(tmp_path / "run"))
    status: dict[str, Any] = json.loads((tmp_path / "run" / "status.json").read_text())
    assert status["exit_code"] == ResourceError.code
