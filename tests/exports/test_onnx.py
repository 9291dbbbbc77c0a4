"""Export of a run: a checked file with its metadata, or no file."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from PIL import Image

from ssl_cli import __version__
from ssl_cli.augment import evaluation
from ssl_cli.config.tree import Settings
from ssl_cli.errors import CheckpointError, DataError, ResourceError
from ssl_cli.events import Evaluated, Warned
from ssl_cli.exports import onnx as export
from ssl_cli.exports.onnx import export_run
from ssl_cli.formats.preprocessing import Preprocessing
from ssl_cli.formats.request import INPUTS
from ssl_cli.formats.runtime import import_onnxruntime
from ssl_cli.nn.evaluating import fingerprint
from tests.engine.toy_run import evaluated, toy_settings, write_run

onnxruntime = import_onnxruntime()


@pytest.fixture(scope="module")
def settings() -> Settings:
    return toy_settings()


def images(count: int, height: int, width: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(count)
    return torch.randint(256, (count, height, width, 3), dtype=torch.uint8, generator=draw)


def photos(folder: Path) -> Path:
    """Unlabelled images, no two of one shape."""
    folder.mkdir()
    for n in range(1, 6):
        Image.fromarray(images(1, 9 + 5 * n, 40 - 6 * n)[0].numpy()).save(folder / f"{n}.png")
    return folder


def test_the_file_computes_what_the_run_does(run: Path, settings: Settings, tmp_path: Path) -> None:
    output = tmp_path / "new" / "encoder.onnx"
    event = evaluated(export_run(str(run), output))
    result = event.result
    assert event.name == "export"
    assert (result["opset"], result["batch_sizes"], result["real_images"]) == (18, (1, 2, 5, 8), 8)
    assert (result["input_kind"], result["l2"]) == ("float-nchw", False)
    assert result["input"] == "image: float32 (batch, 3, 16, 16)"
    assert result["max_error"] < 1e-5
    assert result["bytes"] == output.stat().st_size
    assert result["sha256"] == hashlib.sha256(output.read_bytes()).hexdigest()
    assert sorted(path.name for path in output.parent.iterdir()) == ["MODEL_CARD.md", "encoder.onnx"]
    written = json.loads((run / "export" / "encoder.json").read_text())
    assert written["result"]["sha256"] == result["sha256"]
    assert written["checkpoint"].endswith("step_00000007.pt")
    session = onnxruntime.InferenceSession(output)
    x = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        wanted = write_run(tmp_path / "again", settings).represent(x)
    torch.testing.assert_close(torch.from_numpy(session.run(["h"], {"image": x.numpy()})[0]), wanted)


def test_images_of_any_size_and_rows_of_length_one(settings: Settings, tmp_path: Path) -> None:
    settings = toy_settings(source=str(photos(tmp_path / "photos")))
    augment = settings.augment.model_copy(update={"order": ("crop", "normalize")})
    settings = settings.model_copy(update={"augment": augment})
    objective = write_run(tmp_path / "run", settings)
    output = tmp_path / "encoder.onnx"
    (event,) = export_run(str(tmp_path / "run"), output, input_kind="uint8-nhwc", l2=True)  # and no warning
    assert isinstance(event, Evaluated)
    assert event.result["real_images"] == 5
    assert event.result["input"] == "image: uint8 (batch, height, width, 3)"
    session = onnxruntime.InferenceSession(output)
    for x in (images(1, 16, 16), images(3, 21, 50), images(2, 9, 8)):
        with torch.no_grad():
            h = objective.represent(evaluation.fit(x.permute(0, 3, 1, 2), 16, augment))
        found = torch.from_numpy(session.run(["h"], {"image": x.numpy()})[0])
        torch.testing.assert_close(found, h / h.norm(dim=1, keepdim=True), atol=1e-5, rtol=0)
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["sslcli.l2"], facts["sslcli.input_kind"]) == ("true", "uint8-nhwc")
    preprocessing = json.loads(facts["sslcli.preprocessing"])
    assert preprocessing["in_graph"] is True
    assert preprocessing["mean"] == [0.485, 0.456, 0.406]


@pytest.mark.parametrize("kind", [pytest.param("float-nchw", marks=pytest.mark.slow), "uint8-nhwc"])
def test_metadata_is_in_the_file_and_no_path_of_this_machine(
    run: Path, settings: Settings, tmp_path: Path, kind: str
) -> None:
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for output in (first, second):
        evaluated(export_run(str(run), output, opset=20, input_kind=kind))
    data = first.read_bytes()
    assert data == second.read_bytes()
    for trace in (b".py", b"ssl_cli", str(run), str(Path.home()) + "/", str(Path(__file__).parents[2]), str(tmp_path)):
        assert (trace if isinstance(trace, bytes) else trace.encode()) not in data
    meta = onnxruntime.InferenceSession(first).get_modelmeta()
    assert meta.producer_name == "sslcli"
    facts = {key.removeprefix("sslcli."): value for key, value in meta.custom_metadata_map.items()}
    verification, preprocessing = json.loads(facts.pop("verification")), json.loads(facts.pop("preprocessing"))
    assert verification["max_error"] < 1e-5
    assert (verification["batch_sizes"], verification["real_images"]) == ([1, 2, 5, 8], 8)
    graph = kind == "uint8-nhwc"
    assert preprocessing == {
        "schema": 1, "in_graph": graph, "size": 16, "skip_if_size": True, "resize_short_side": 16,
        "resize_rounding": "floor", "interpolation": "bilinear", "antialias": True, "crop": "center",
        "crop_rounding": "half_even", "scale": 1 / 255, "mean": None, "std": None, "range": None, "depth": 8,
        "channels": 3, "orientation": "exif", "transparency": "white",
        "channel_order": "RGB", "layout": "NHWC" if graph else "NCHW", "dtype": "uint8" if graph else "float32",
    }  # fmt: skip
    assert facts == {
        "method": "simclr",
        "backbone": "resnet18, width 0.0625",
        "image_size": "16",
        "h_width": "32",
        "l2": "false",
        "numbers": "float32",
        "dynamic_size": "false",
        "input_kind": kind,
        "opset": "20",
        "step": "7",
        "version": __version__,
        "weights_sha256": fingerprint(write_run(tmp_path / "again", settings).backbone),
    }


def test_a_user_s_own_method_is_named_by_its_class(tmp_path: Path) -> None:
    source = tmp_path / "mine.py"
    source.write_text("from ssl_cli.methods.simclr import SimCLR as Mine\n", encoding="utf-8")
    settings = toy_settings(method=f"{source}:Mine")
    write_run(tmp_path / "run", settings)
    output = tmp_path / "encoder.onnx"
    evaluated(export_run(str(tmp_path / "run"), output, method=f"{source}:Mine"))
    assert b".py" not in output.read_bytes()
    assert str(tmp_path).encode() not in output.read_bytes()
    assert onnxruntime.InferenceSession(output).get_modelmeta().custom_metadata_map["sslcli.method"] == "Mine"


def test_a_read_only_run_is_exported_with_a_warning(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "checkpoints", tmp_path / "run" / "checkpoints")
    (tmp_path / "run" / "export").touch()  # in the way: for root no folder is read-only
    warned, event = export_run(str(tmp_path / "run"), tmp_path / "encoder.onnx")
    assert isinstance(warned, Warned)
    assert "not written" in warned.message
    assert isinstance(event, Evaluated)


def test_a_checkpoint_alone(run: Path, tmp_path: Path) -> None:
    alone = tmp_path / "moved.pt"
    alone.write_bytes((run / "checkpoints" / "step_00000007.pt").read_bytes())
    evaluated(export_run(str(alone), tmp_path / "encoder.onnx"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["MODEL_CARD.md", "encoder.onnx", "moved.pt"]


@pytest.mark.parametrize(("kind", "before"), [(INPUTS[0], None), (INPUTS[1], b"an earlier export")])
def test_a_wrong_graph_is_not_written(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    before: bytes | None,
) -> None:
    convert: Callable[..., onnx.ModelProto] = vars(export)["convert"]

    def wrong(*args: Any) -> onnx.ModelProto:
        model = convert(*args)
        weight = next(part for part in model.graph.initializer if len(part.dims) == 4)
        weight.raw_data = (1.01 * onnx.numpy_helper.to_array(weight)).tobytes()
        return model

    monkeypatch.setattr(export, "convert", wrong)
    output = tmp_path / "wrong.onnx"
    if before:
        output.write_bytes(before)
    with pytest.raises(CheckpointError, match="disagrees"):
        list(export_run(str(run), output, input_kind=kind))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([before] if before else [])
    assert not (run / "export" / "wrong.json").exists()


def test_a_wrong_transform_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Preprocessing(16, 17, "bilinear")
    monkeypatch.setattr(export, "preprocessing_of", lambda settings: other)
    with pytest.raises(CheckpointError, match="disagrees"):
        list(export_run(str(run), tmp_path / "encoder.onnx", input_kind="uint8-nhwc"))
    assert not list(tmp_path.iterdir())


def test_without_the_data_random_images_are_checked(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise DataError("There is no such folder.")

    monkeypatch.setattr(export, "open_pretraining", refuse)
    warned, event = export_run(str(run), tmp_path / "encoder.onnx")
    assert isinstance(warned, Warned)
    assert isinstance(event, Evaluated)
    assert event.result["batch_sizes"] == (1, 2, 5)


def test_a_folder_that_cannot_be_written_is_an_error(run: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="is a file, not a folder"):
        list(export_run(str(run), tmp_path / "file" / "encoder.onnx"))
