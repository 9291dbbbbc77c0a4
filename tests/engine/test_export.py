"""Export of a run: a checked file with its facts, or none at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

from ssl_cli.config.tree import Settings
from ssl_cli.engine import export
from ssl_cli.engine.export import export_run
from ssl_cli.errors import CheckpointError, DataError, ResourceError
from ssl_cli.events import Evaluated, Event, Warned
from ssl_cli.export.onnx import Agreement
from tests.engine.toy_run import toy_settings, write_run


@pytest.fixture(scope="module")
def settings() -> Settings:
    return toy_settings()


@pytest.fixture(scope="module")
def run(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, settings)
    return folder


def last(events: Iterator[Event]) -> Any:
    *_, event = events
    assert isinstance(event, Evaluated)
    return event


def test_a_file_that_does_what_the_run_does(run: Path, settings: Settings, tmp_path: Path) -> None:
    output = tmp_path / "new" / "encoder.onnx"
    event = last(export_run(str(run), output))
    result = event.result
    assert event.name == "export"
    assert (result["opset"], result["batch_sizes"]) == (18, [1, 2, 5, 8])
    assert result["max_error"] < 1e-5
    assert result["bytes"] == output.stat().st_size
    assert [path.name for path in output.parent.iterdir()] == ["encoder.onnx"]
    session = onnxruntime.InferenceSession(output)
    objective = write_run(tmp_path / "again", settings)
    x = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        wanted = objective.represent(x)
    torch.testing.assert_close(torch.from_numpy(session.run(["h"], {"image": x.numpy()})[0]), wanted)
    facts = session.get_modelmeta().custom_metadata_map
    assert facts["sslcli.method"] == "simclr"
    assert json.loads(facts["sslcli.preprocessing"])["size"] == 16
    assert len(facts["sslcli.weights_sha256"]) == 64
    data = output.read_bytes()
    assert all(trace not in data for trace in (b".py", b"ssl_cli", str(run).encode()))


def test_a_file_that_disagrees_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disagree(*_: object) -> Agreement:
        raise CheckpointError("The ONNX file disagrees with torch.")

    monkeypatch.setattr(export, "compare", disagree)
    output = tmp_path / "encoder.onnx"
    output.write_bytes(b"an earlier export")
    with pytest.raises(CheckpointError):
        list(export_run(str(run), output))
    assert output.read_bytes() == b"an earlier export"
    assert len(list(tmp_path.iterdir())) == 1


def test_data_that_stayed_elsewhere(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DataError("There is no such folder.")

    monkeypatch.setattr(export, "open_evaluation", refuse)
    warned, event = export_run(str(run), tmp_path / "encoder.onnx")
    assert isinstance(warned, Warned)
    assert isinstance(event, Evaluated)
    assert event.result["batch_sizes"] == [1, 2, 5]


def test_a_place_that_cannot_be_written(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError):
        list(export_run(str(run), tmp_path / "file" / "encoder.onnx"))
