"""Representations: rows in order, the network unchanged, and no code imported because a checkpoint names it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_cli import checkpoint, status
from ssl_cli.augment import evaluation
from ssl_cli.commands.suggestions import LOAD, WEIGHTS
from ssl_cli.config.tree import Settings
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.evaluation.features import encode, open_run
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.nn.evaluating import evaluating, fingerprint
from ssl_cli.transfer.pixels import pixels
from tests.engine.toy_run import RESOLVED, toy_settings, write_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def settings() -> Settings:
    return toy_settings()


def test_rows_are_those_of_each_image_alone(settings: Settings, tmp_path: Path) -> None:
    objective = write_run(tmp_path, settings)
    source = open_pretraining(settings.data, 0)
    rows = encode({"h": objective.represent, "pixels": pixels}, source, settings, device=CPU, micro=5)
    assert torch.equal(rows.index, torch.arange(64))
    assert torch.equal(rows.label, torch.as_tensor(source.labels))
    assert rows.h["h"].dtype == torch.float32
    for i in (0, 31, 63):
        x = evaluation.fit(source.read(i)[None], 16, settings.augment)
        torch.testing.assert_close(rows.h["pixels"][i], x.flatten())
        with torch.no_grad():
            torch.testing.assert_close(rows.h["h"][i], objective.represent(x)[0], rtol=1e-4, atol=1e-5)


def test_bf16_is_close_and_stored_as_float32(settings: Settings, tmp_path: Path) -> None:
    objective = write_run(tmp_path, settings)
    source = open_pretraining(settings.data, 0)
    full, half = (
        encode({"h": objective.represent}, source, settings, device=CPU, precision=p).h["h"] for p in ("fp32", "bf16")
    )
    assert half.dtype == torch.float32
    assert not torch.equal(full, half)
    assert torch.cosine_similarity(full, half).min() > 0.999


def test_pixels_of_large_images_are_averaged_down() -> None:
    x = torch.rand(2, 3, 64, 64)
    rows = pixels(x)
    assert rows.shape == (2, 3 * 32 * 32)
    torch.testing.assert_close(rows.view(2, 3, 32, 32)[0, 1, 0, 0], x[0, 1, :2, :2].mean())


def test_evaluating_restores_each_module_s_mode() -> None:
    net = torch.nn.Sequential(torch.nn.BatchNorm1d(2), torch.nn.Dropout())
    net.train()
    net[1].eval()
    with evaluating(net):
        assert not any(part.training for part in net.modules())
    assert [part.training for part in net.modules()] == [True, True, False]


def test_fingerprint_depends_on_every_number() -> None:
    net = torch.nn.BatchNorm1d(3)
    before = fingerprint(net)
    assert fingerprint(net) == before
    assert net.num_batches_tracked is not None
    net.num_batches_tracked += 1
    assert fingerprint(net) != before


def test_a_run_opens_with_its_own_backbone(settings: Settings, tmp_path: Path) -> None:
    objective = write_run(tmp_path, settings)
    for run in (tmp_path, tmp_path / "checkpoints" / "step_00000007.pt"):
        trained = open_run(str(run), "cpu")
        assert fingerprint(trained.objective.backbone) == fingerprint(objective.backbone)
        assert (trained.settings, trained.step, trained.precision) == (settings, 7, "fp32")


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        open_run(str(tmp_path), "cpu")


def spoil(folder: Path, settings: Settings, /, **change: object) -> None:
    """Rewrite the toy run's checkpoint with another value."""
    write_run(folder, settings)
    state = checkpoint.load(folder / "checkpoints" / "step_00000007.pt")
    checkpoint.save(folder / "checkpoints", {**state, **change}, keep=2)


def test_settings_that_are_not_valid(settings: Settings, tmp_path: Path) -> None:
    spoil(tmp_path, settings, settings={"method": {"name": "simclr"}, "model": {"width": "wide"}})
    with pytest.raises(CheckpointError, match="settings"):
        open_run(str(tmp_path), "cpu")


def test_backbone_that_does_not_fit(settings: Settings, tmp_path: Path) -> None:
    spoil(tmp_path, settings, objective={"backbone.conv1.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="does not fit"):
        open_run(str(tmp_path), "cpu")


def test_a_users_own_method_is_imported_only_if_given_again(settings: Settings, tmp_path: Path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text("raise SystemExit('imported')\n")
    name = f"{evil}:Method"
    theirs = {**settings.model_dump(mode="json"), "method": {"name": name}}
    spoil(tmp_path, settings, settings=theirs)
    with pytest.raises(UsageError, match="not part of sslcli"):
        open_run(str(tmp_path), "cpu")
    with pytest.raises(SystemExit, match="imported"):
        open_run(str(tmp_path), "cpu", method=name)


def test_precision_is_fp32_on_another_device(settings: Settings, tmp_path: Path) -> None:
    spoil(tmp_path, settings, resolved={**RESOLVED, "device": "cuda", "precision": "bf16"})
    assert open_run(str(tmp_path), "cpu").precision == "fp32"


def test_a_damaged_newer_checkpoint_and_an_unfinished_run_are_noted(settings: Settings, tmp_path: Path) -> None:
    write_run(tmp_path, settings)
    assert open_run(str(tmp_path), "cpu").notes == ()
    good = tmp_path / "checkpoints" / "step_00000007.pt"
    for suffix in (".pt", ".json"):
        good.with_name("step_00000009" + suffix).write_bytes(good.with_suffix(suffix).read_bytes()[:-9])
    status.write(tmp_path, "its id", "stopped", 75, "SIGTERM was received")
    damaged, unfinished = open_run(str(tmp_path), "cpu").notes
    assert "step_00000009.pt is damaged" in damaged
    assert "not finished (stopped): this is its step 7" in unfinished
    assert open_run(str(good), "cpu").notes == ()  # not for a file that the user names


def test_the_python_that_hints_give_loads_the_encoder(tmp_path: Path) -> None:
    objective = write_run(tmp_path, toy_settings())
    (file,) = (tmp_path / "checkpoints").glob("*.pt")
    found: dict[str, Any] = {"torch": torch}
    exec(LOAD.replace("RUN", str(tmp_path)), found)
    exec(WEIGHTS.replace("RUN/checkpoints/step_N.pt", str(file)), found)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(found["f"](x), objective.represent(x))
    objective.backbone.load_state_dict(found["w"])
    assert fingerprint(objective.backbone) == fingerprint(found["f"])
