"""The linear protocols on a run: new views each epoch, a backbone that is left as it is, the last classifier."""

import hashlib
import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli import draws, records
from ssl_cli.data.sources import open_evaluation
from ssl_cli.data.split import Subset
from ssl_cli.engine.evaluation.features import augmented
from ssl_cli.errors import SslcliError
from ssl_cli.events import Encoded, Evaluated
from ssl_cli.nn.evaluating import fingerprint
from ssl_cli.objective import Batch
from ssl_cli.protocols import linear as module
from ssl_cli.protocols.linear import crops_and_flips, linear_eval, linear_of, trained_by_sgd
from ssl_cli.protocols.request import BY_SGD, FAST, LINEAR
from ssl_cli.transfer import grid_probe, sgd_probe
from ssl_cli.transfer.sgd_probe import PROTOCOLS, SgdProbe
from tests.engine.toy_run import toy_settings, write_run


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three epochs, of whole numbers of steps or not."""
    for name, how in PROTOCOLS.items():
        schedule = how.schedule.model_copy(update={"epochs": 3.0})
        brief = replace(how, schedule=schedule, small_batch=24)
        monkeypatch.setitem(sgd_probe.PROTOCOLS, name, brief)
    monkeypatch.setattr(module, "PART", 40)
    monkeypatch.setattr(grid_probe, "EPOCHS", 2)


@pytest.mark.parametrize("protocol", [*BY_SGD, FAST])
def test_result(run: Path, short: None, protocol: str) -> None:
    *events, last = linear_eval(str(run), protocol=protocol, device="cpu")
    assert isinstance(last, Evaluated)
    found = last.result
    assert (last.name, found["protocol"], found["train"]) == ("linear", LINEAR[protocol], 64)
    assert 0 <= found["top1"] <= found["top5"] <= 1
    assert found["per_class"].keys() == set(found["confusion"]["classes"])
    (file,) = (run / "eval").glob(f"linear-{protocol}-*.json")
    assert json.loads(file.read_text())["result"] == found
    if protocol in BY_SGD:
        assert (found["settings"]["epochs"], found["settings"]["batch"], found["settings"]["steps"]) == (3, 24, 9)
        assert [(e.done, e.of) for e in events if isinstance(e, Encoded)] == [
            (epoch * 64 + part, 192) for epoch in range(3) for part in (0, 40)
        ]
    else:
        assert found["settings"]["passes"] == 1 + grid_probe.PASSES


@pytest.mark.parametrize("protocol", BY_SGD)
def test_each_epoch_takes_every_image_once_in_new_views_and_a_new_order(
    run: Path, short: None, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """What the steps get is the representation of the image's view of that epoch, computed here one by one."""
    settings, seen = toy_settings(), list[tuple[Tensor, Tensor]]()
    honest = SgdProbe.learn

    def learn(self: SgdProbe, h: Tensor, labels: Tensor) -> None:
        seen.append((h, labels))
        honest(self, h, labels)

    monkeypatch.setattr(SgdProbe, "learn", learn)
    objective = write_run(run / "again" / protocol, settings)
    data = open_evaluation(settings.data, 0)
    list(trained_by_sgd(objective, settings, "fp32", data, protocol))
    assert [len(label) for _, label in seen] == [24, 24, 16] * 3
    pipeline, orders = crops_and_flips(settings), list[list[int]]()
    for epoch in range(3):
        h, labels = (torch.cat(parts) for parts in zip(*seen[3 * epoch : 3 * epoch + 3], strict=True))
        order = draws.permutation(0, 64, epoch)
        assert torch.equal(labels, data.bank.labels[order])
        for row in (0, 40, 63):
            index = order[row : row + 1]
            one = augmented(pipeline, epoch)(Batch(data.bank.read(int(index))[None], data.bank.labels[index], index))
            with torch.no_grad():
                wanted = objective.represent(one)  # type: ignore[arg-type]
            torch.testing.assert_close(h[row : row + 1], wanted, rtol=1e-4, atol=1e-5)
        orders.append(order.tolist())
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(64))
    assert orders[0] != orders[1]


@pytest.mark.parametrize("protocol", [*BY_SGD, FAST])
def test_the_backbone_is_the_same_byte_for_byte(tmp_path: Path, short: None, protocol: str) -> None:
    settings = toy_settings()
    objective = write_run(tmp_path, settings).train()
    before = bytes_of(objective.state_dict())
    run_protocol(objective, settings, protocol)
    assert bytes_of(objective.state_dict()) == before
    assert all(part.training for part in objective.modules())
    assert all(parameter.grad is None for parameter in objective.parameters())
    honest = objective.represent

    def moving(x: Tensor) -> Tensor:
        with torch.no_grad():
            next(objective.backbone.parameters()).mul_(1.001)
        return honest(x)

    objective.represent = moving  # type: ignore[method-assign]
    with pytest.raises(SslcliError, match="backbone changed"):
        run_protocol(objective, settings, protocol)
    assert fingerprint(objective) != before


@pytest.mark.parametrize("protocol", BY_SGD)
def test_each_image_is_decoded_once(run: Path, short: None, protocol: str) -> None:
    reads = list[int]()

    class Files(Subset):
        def read(self, index: int, cap: int | None = None) -> Tensor:
            reads.append(index)
            return super().read(index, cap)

    settings = toy_settings()
    data = open_evaluation(settings.data, 0)
    files = replace(data, bank=Files(data.bank, torch.arange(64)))
    objective = write_run(run / "files" / protocol, settings)
    *_, found = run_to_end(trained_by_sgd(objective, settings, "fp32", files, protocol))
    assert sorted(reads) == list(range(64))
    *_, same = run_to_end(trained_by_sgd(objective, settings, "fp32", data, protocol))
    assert found["confusion"] == same["confusion"]


def run_to_end(events: Generator[Any, None, dict[str, Any]]) -> list[Any]:
    """Return the events, and the result behind them."""
    found = list[Any]()
    while True:
        try:
            found.append(next(events))
        except StopIteration as end:
            return [*found, end.value]


def bytes_of(state: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def run_protocol(objective: Any, settings: Any, protocol: str) -> None:
    data = open_evaluation(settings.data, 0)
    if protocol == FAST:
        linear_of(objective, settings, "fp32", data, fast=True)
    else:
        list(trained_by_sgd(objective, settings, "fp32", data, protocol))


def test_crops_are_the_whole_range_and_nothing_else_changes_an_image() -> None:
    settings = toy_settings()
    assert settings.augment.crop.scale == (0.5, 1.0)  # pretraining's
    pipeline = crops_and_flips(settings)
    assert list(pipeline.ops) == ["crop", "flip"]
    views = settings.augment.model_copy(update={"order": ("crop", "jitter", "normalize")})
    assert list(crops_and_flips(settings.model_copy(update={"augment": views})).ops) == ["crop", "flip", "normalize"]
    index = torch.arange(2000)
    image = torch.zeros(2000, 1, 4, 4, dtype=torch.uint8)
    box = pipeline.draw(Batch(image, index, index), 0)["crop"]
    area = (box.height * box.width).float() / 16 if hasattr(box, "height") else box[2].float() * box[3].float() / 16
    assert float(area.min()) < 0.2


def test_the_test_images_choose_nothing(run: Path, short: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores are asked for once, after the last step."""
    steps: list[int] = []
    honest = SgdProbe.scores

    def scores(self: SgdProbe, h: Tensor) -> Tensor:
        steps.append(self.step)
        return honest(self, h)

    monkeypatch.setattr(SgdProbe, "scores", scores)
    list(linear_eval(str(run), protocol="moco", device="cpu"))
    assert steps == [9]


def test_fast_has_baselines(run: Path, short: None) -> None:
    *_, last = linear_eval(str(run), protocol=FAST, baselines=True, device="cpu")
    assert isinstance(last, Evaluated)
    assert last.result["baselines"].keys() == {"pixels", "untrained"}


def test_few_labels_do_not_replace_all_in_the_run(tmp_path: Path, short: None) -> None:
    write_run(tmp_path / "run", toy_settings())
    for labels, newest in (("2-per-class", "2-per-class"), ("1-per-class", "1-per-class"), (None, None), ("10%", None)):
        list(linear_eval(str(tmp_path / "run"), labels=labels, protocol=FAST, device="cpu"))
        assert records.result_of(tmp_path / "run", "linear").get("labels") == newest
