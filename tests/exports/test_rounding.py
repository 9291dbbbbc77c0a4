"""Smaller ONNX files: their size, how far they are from the run's network, and what that costs in accuracy."""

from pathlib import Path
from typing import Any

import pytest
import torch
from onnx import ModelProto
from PIL import Image

from ssl_cli.cli import main
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.events import Evaluated, Warned
from ssl_cli.exports import measure
from ssl_cli.exports.onnx import export_run
from ssl_cli.formats.agreement import agreement
from ssl_cli.formats.request import Options, check_options
from ssl_cli.formats.runtime import import_onnxruntime
from tests.engine.toy_run import toy_settings, write_run
from tests.selection import slow

onnxruntime = import_onnxruntime()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, toy_settings({"width": 0.25}, images=96))
    return folder


def exported(run: Path, output: Path, **options: Any) -> dict[str, Any]:
    *_, event = export_run(str(run), output, **options)
    assert isinstance(event, Evaluated)
    return dict(event.result)


def outputs(path: Path, x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(onnxruntime.InferenceSession(path).run(None, {"image": x.numpy()})[0])


@pytest.mark.parametrize(("numbers", "share"), [*slow(("float16", 0.52)), ("int8", 0.28)])
def test_rounded_weights_are_smaller_and_measured(run: Path, tmp_path: Path, numbers: str, share: float) -> None:
    output = tmp_path / "small.onnx"
    result = exported(run, output, dtype=numbers)
    assert output.stat().st_size == result["bytes"] < share * result["float32_bytes"]
    x = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        wanted = open_run(str(run), "cpu").objective.eval().represent(x)
    found = outputs(output, x)
    assert found.dtype == torch.float32
    apart = float((found - wanted).abs().max() / wanted.abs().max())
    assert 1e-6 < apart < 0.1
    assert 1e-6 < result["max_error"] < 0.1
    knn = result["knn"]
    assert (knn["queries"], knn["bank"]) == (12, 96)
    assert 0 <= knn[numbers] <= 1
    assert "float32" in knn


@pytest.mark.slow
def test_images_as_decoded_and_rounded(run: Path, tmp_path: Path) -> None:
    exported(run, tmp_path / "small.onnx", dtype="float16", input_kind="uint8-nhwc")
    x = torch.randint(256, (2, 21, 30, 3), dtype=torch.uint8)
    assert outputs(tmp_path / "small.onnx", x).shape == (2, 128)


def test_the_accuracies_are_those_of_the_two_networks(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph whose rows are all equal answers by the largest class; the run's own does not become worse by that."""
    trained = open_run(str(run), "cpu")

    class Session:
        def get_inputs(self) -> Any:
            return [type("Input", (), {"name": "x"})]

        def run(self, _: None, given: dict[str, Any]) -> Any:
            return [torch.ones(len(given["x"]), 4).numpy()]

    monkeypatch.setattr(measure, "session_of", lambda model: Session())
    found, note = measure.knn_of_both(trained, ModelProto(), "int8")
    assert found is not None
    assert note == ""
    assert found["int8"] == pytest.approx(1 / 12)
    assert found["float32"] != found["int8"]


def test_without_labels_nothing_is_measured_and_without_images_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for n in range(4):
        Image.new("RGB", (20, 20), (60 * n, 9, 9)).save(tmp_path / "photos" / f"{n}.png")
    write_run(tmp_path / "run", toy_settings(source=str(tmp_path / "photos")))
    assert exported(tmp_path / "run", tmp_path / "a.onnx", dtype="float16")["knn"] is None
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    events = list(export_run(str(tmp_path / "run"), tmp_path / "a.onnx", dtype="float16"))
    assert any("was not measured" in event.message for event in events if isinstance(event, Warned))


def test_rounding_that_spoils_the_network_is_refused() -> None:
    a = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    assert agreement([a], [a + 1e-3], "It", "", "float16").cosine > 0.999
    with pytest.raises(CheckpointError, match="It disagrees"):
        agreement([a], [a + 1e-3], "It", "")
    with pytest.raises(CheckpointError, match="It disagrees"):
        agreement([a], [-a], "It", "", "int8")
    with pytest.raises(CheckpointError, match="It disagrees"):
        agreement([a], [a * float("nan")], "It", "", "int8")
    with pytest.raises(CheckpointError, match="another shape"):
        agreement([a], [a[:, :3]], "It", "")


@pytest.mark.slow
def test_fitted_images_of_any_size(run: Path, tmp_path: Path) -> None:
    result = exported(run, tmp_path / "any.onnx", dynamic_size=True)
    assert result["input"] == "image: float32 (batch, 3, height, width)"
    net = open_run(str(run), "cpu").objective.eval()
    for sides in ((16, 16), (33, 20), (64, 96)):
        x = torch.rand(2, 3, *sides)
        with torch.no_grad():
            torch.testing.assert_close(outputs(tmp_path / "any.onnx", x), net.represent(x), atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_a_network_of_one_size_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", toy_settings({"backbone": "torchvision:vit_b_16", "width": 1.0}, size=224))
    with pytest.raises(UsageError, match="takes images of 224 pixels alone"):
        list(export_run(str(tmp_path / "run"), tmp_path / "any.onnx", dynamic_size=True))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"half": True, "int8": True}, "exclude each other"),
        ({"dynamic_size": True, "input_kind": "uint8-nhwc"}, "any size already"),
        ({"half": True, "to": "pt2"}, "--half is for ONNX"),
        ({"int8": True, "to": "safetensors"}, "--int8 is for ONNX"),
        ({"dynamic_size": True, "to": "pt2"}, "--dynamic-size is for ONNX"),
        ({"classifier": True, "l2": True}, "--l2 is for h"),
    ],
)
def test_what_excludes_each_other_is_one_sentence(options: dict[str, Any], said: str) -> None:
    ending = {"pt2": "pt2", "safetensors": "safetensors"}.get(options.get("to", ""), "onnx")
    with pytest.raises(UsageError, match=said):
        check_options(Path(f"e.{ending}"), Options(**options))


def test_the_command_says_what_it_costs(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "small.onnx"), "--half"]) == 0
    out = capsys.readouterr().out
    assert "float16 weights" in out
    assert "with float32 weights" in out
    assert "12 queries in a bank of 96" in out
