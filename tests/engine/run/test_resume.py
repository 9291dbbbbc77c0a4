"""Settings of a resumed run: what the command line may change, what it may not, and another device."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ssl_cli import checkpoint
from ssl_cli.config.resume import continued
from ssl_cli.config.tree import Settings
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.events import Finished, Warned
from tests.engine.toy_run import toy_settings


def changed(settings: Settings, **sections: dict[str, Any]) -> Settings:
    parts = {name: getattr(settings, name).model_copy(update=values) for name, values in sections.items()}
    return settings.model_copy(update=parts)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    found = RunFolder(tmp_path / "run")
    found.write_settings(changed(toy_settings(), hardware={"device": "cuda", "micro_batch": 8}))
    yield found
    found.close()


@pytest.fixture
def file(folder: RunFolder) -> Path:
    return folder.settings_file


def test_without_changes_it_is_the_run_s_own(file: Path) -> None:
    other = changed(toy_settings(images=100), run={"seed": 9}, hardware={"device": "cpu"})
    origins = {"run.seed": "sslcli.toml", "data.images": "SSLCLI_DATA__IMAGES", "hardware.device": "the user file"}
    found = continued(other, origins, file)
    assert (found.settings.run.seed, found.settings.data.images, found.settings.hardware.device) == (0, 64, "cuda")
    assert (found.notes, found.replan, found.device) == ([], False, None)


def test_what_does_not_change_a_step_may_change(file: Path) -> None:
    other = changed(toy_settings(), schedule={"epochs": 300}, hardware={"micro_batch": 16})
    found = continued(other, {"schedule.epochs": "--epochs", "hardware.micro_batch": "--micro-batch"}, file)
    assert (found.settings.schedule.epochs, found.settings.hardware.micro_batch) == (300, 16)
    assert found.replan
    assert "300 epochs" in found.notes[0]


def test_data_sets_may_be_found_in_another_folder_or_downloaded(file: Path) -> None:
    """The error about a data set that is not there names both: --download, and data.folder."""
    other = changed(toy_settings(), data={"download": True, "folder": "/sets"})
    found = continued(other, {"data.download": "--download", "data.folder": "--set"}, file)
    assert (found.settings.data.download, found.settings.data.folder) == (True, "/sets")
    assert not found.replan


def test_leave_to_download_is_that_of_one_process(folder: RunFolder) -> None:
    folder.write_settings(changed(toy_settings(), data={"download": True}))
    origins = {"data.download": "default"}
    assert not continued(toy_settings(), origins, folder.settings_file).settings.data.download


@pytest.mark.parametrize(
    ("section", "name", "value", "origin"),
    [("run", "seed", 9, "--seed"), ("hardware", "precision", "bf16", "--precision"), ("data", "limit", 3, "--set")],
)
def test_what_changes_a_step_is_refused(file: Path, section: str, name: str, value: object, origin: str) -> None:
    other = changed(toy_settings(), **{section: {name: value}})
    with pytest.raises(UsageError, match=f"{section}.{name} is .* and cannot become {value}"):
        continued(other, {f"{section}.{name}": origin}, file)


def test_a_setting_three_tables_deep_is_refused_too(file: Path) -> None:
    crop = toy_settings().augment.crop.model_copy(update={"scale": (0.1, 1.0)})
    with pytest.raises(UsageError, match=r"augment\.crop\.scale is"):
        continued(changed(toy_settings(), augment={"crop": crop}), {"augment.crop.scale": "--set"}, file)


@pytest.mark.parametrize("device", ["cpu", "auto"])
def test_another_device_may_be_given(file: Path, device: str) -> None:
    """The machine may have no GPU any more; `--device cpu` is what the error advises then."""
    found = continued(changed(toy_settings(), hardware={"device": device}), {"hardware.device": "--device"}, file)
    assert (found.device, found.settings.hardware.device) == (device, device)


def test_auto_may_be_given_where_it_was_auto_before(folder: RunFolder, file: Path) -> None:
    folder.write_settings(toy_settings())
    assert continued(toy_settings(), {"hardware.device": "--device"}, file).device == "auto"


def test_settings_that_are_damaged(file: Path) -> None:
    file.write_bytes(b"\xff")
    with pytest.raises(CheckpointError, match="damaged"):
        continued(toy_settings(), {}, file)


def test_a_run_of_a_gpu_continues_without_one(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    out = tmp_path / "run"
    hardware = {"device": "cpu", "precision": "fp32", "memory_format": "channels_last"}
    run = {"out": str(out), "batch": 16, "evaluate": False, "checkpoint_every": 2}
    settings = changed(toy_settings(), run=run, hardware=hardware, schedule={"epochs": 1})
    list(pretrain(settings, origins={}, resume=False, overwrite=False))
    (out / "checkpoints" / "step_00000004.pt").unlink()
    state = checkpoint.load(out / "checkpoints" / "step_00000002.pt")
    resolved = {**state["resolved"], "device": "cuda", "precision": "bf16"}
    checkpoint.save(out / "checkpoints", {**state, "resolved": resolved}, keep=3)
    folder = RunFolder(out, resume=True)
    folder.write_settings(changed(settings, hardware={**hardware, "device": "cuda", "precision": "auto"}))
    folder.amend_plan(resolved=resolved)
    folder.close()
    with pytest.raises(UsageError, match="no device 'cuda'") as error:
        list(pretrain(changed(settings, hardware={"device": "cuda"}), origins={}, resume=True, overwrite=False))
    assert "--device cpu" in error.value.hint
    events = list(pretrain(settings, origins={"hardware.device": "--device"}, resume=True, overwrite=False))
    assert isinstance(events[-1], Finished)
    assert events[-1].step == 4
    assert any("continues on cpu, not on cuda" in event.message for event in events if isinstance(event, Warned))
    assert checkpoint.load(out / "checkpoints" / "step_00000004.pt")["resolved"]["device"] == "cpu"
