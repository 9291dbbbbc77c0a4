"""kNN of an exported file: what the run gives, by the file's own preprocessing; and files that are none."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from ssl_cli.augment import evaluation
from ssl_cli.augment.sheet import png
from ssl_cli.errors import CheckpointError
from ssl_cli.exports.onnx import export_run
from ssl_cli.formats.description import describe_preprocessing
from ssl_cli.formats.onnx import INPUT
from ssl_cli.formats.preprocessing import Preprocessing, prepend
from ssl_cli.protocols.encoder import open_encoder
from ssl_cli.protocols.knn import knn_eval
from ssl_cli.protocols.linear import linear_eval
from tests.engine.toy_run import result_of, toy_settings, write_run

FLOAT, UINT8 = KINDS = ("float-nchw", "uint8-nhwc")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)


def save(path: Path, kind: str, output: str = "h", **changed: Any) -> Path:
    """Write an encoder that averages quarters of the image, with the facts that `export` writes."""
    shape: list[str | int | None] = ["batch", 3, 16, 16]
    width: list[str | int | None] = ["batch", 12]
    name = "fitted" if kind == UINT8 else INPUT
    nodes = [
        helper.make_node("AveragePool", [name], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["pooled"], [output]),
    ]
    ends = [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in ((name, shape), (output, width))]
    graph = helper.make_graph(nodes, "encoder", [ends[0]], [ends[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    preprocessing = Preprocessing(16, 16, "bicubic", MEAN, STD)
    if kind == UINT8:
        prepend(model, preprocessing)
    facts = describe_preprocessing(preprocessing, in_graph=kind == UINT8) | changed
    helper.set_model_props(model, {"sslcli.preprocessing": json.dumps(facts), "sslcli.step": "7"})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of two classes and several sizes."""
    folder, draw = tmp_path_factory.mktemp("photos"), torch.Generator().manual_seed(0)
    for name, shift in (("dark", 0), ("light", 60)):
        (folder / name).mkdir(parents=True)
        for k in range(14):
            image = torch.randint(shift, 196 + shift, (3, 16 + k % 3, 20), dtype=torch.uint8, generator=draw)
            (folder / name / f"{k}.png").write_bytes(png(image))
    return folder


def quarters(x: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(x, 8).flatten(1)


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_prepared_as_the_file_records(tmp_path: Path, kind: str) -> None:
    trained, transform = open_encoder(str(save(tmp_path / "e.onnx", kind)))
    settings, draw = trained.settings, torch.Generator().manual_seed(0)
    assert (settings.data.size, settings.data.channels, trained.step) == (16, 3, 7)
    assert (transform is None) == (kind == FLOAT) == ("normalize" in settings.augment.order)
    decoded = [torch.randint(256, (3, 20 + k, 31), dtype=torch.uint8, generator=draw) for k in range(3)]
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    plain = settings.views.model_copy(update={"order": ("crop",)})
    fitted = (evaluation.fit(decoded, 16, plain) - mean) / std
    taken = decoded if kind == UINT8 else evaluation.fit(decoded, 16, settings.views)
    found = trained.objective.represent(taken)  # type: ignore[arg-type]
    torch.testing.assert_close(found, quarters(fitted), rtol=1e-3, atol=1e-4)
    view = torch.rand(2, 3, 16, 16, generator=draw).mul(255).round() / 255  # as augmentation makes it
    normalised = (view - mean) / std
    found = trained.objective.represent(view if kind == UINT8 else normalised)
    torch.testing.assert_close(found, quarters(normalised), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_knn_and_linear_probe_of_a_file(photos: Path, tmp_path: Path, kind: str) -> None:
    file = str(save(tmp_path / "encoder.onnx", kind))
    found = result_of(knn_eval(file, str(photos), ks=(1, 5)))
    assert (found["top1"], found["k"], found["step"], found["feature"]) == (1.0, 1, 7, "h")
    assert found["confusion"]["classes"] == ["dark", "light"]
    assert result_of(linear_eval(file, str(photos)))["top1"] == 1.0
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.onnx"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_export_gives_what_its_run_gives(photos: Path, tmp_path: Path, kind: str) -> None:
    toy = toy_settings()
    views = toy.augment.model_copy(update={"order": ("crop", "flip", "normalize")})
    write_run(tmp_path / "run", toy.model_copy(update={"augment": views}))
    file = tmp_path / "encoder.onnx"
    list(export_run(str(tmp_path / "run"), file, input_kind=kind))
    wanted = result_of(knn_eval(str(tmp_path / "run"), str(photos), ks=(1, 5), device="cpu"))
    found = result_of(knn_eval(str(file), str(photos), ks=(1, 5)))
    for name in ("scores", "per_class", "confusion", "bank", "queries", "step"):
        assert found[name] == wanted[name]


@pytest.mark.parametrize("changed", [{"size": "wide"}, {"size": None}, {"schema": 2}, {"resize_short_side": 18}])
def test_a_file_that_is_prepared_otherwise_is_refused(photos: Path, tmp_path: Path, changed: dict[str, Any]) -> None:
    file = save(tmp_path / "e.onnx", FLOAT, **changed)
    with pytest.raises(CheckpointError, match="does not say how images are prepared"):
        list(knn_eval(str(file), str(photos)))


def test_files_that_are_no_encoder_of_ours(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph", encoding="utf-8")
    (tmp_path / "empty.onnx").touch()
    foreign = onnx.load(save(tmp_path / "e.onnx", FLOAT))
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    save(tmp_path / "classifier.onnx", FLOAT, output="logits")
    for name, words in (
        ("text", "cannot be run"),
        ("empty", "cannot be run"),
        ("foreign", "does not say how images are prepared"),
        ("classifier", "gives logits, not h"),
    ):
        with pytest.raises(CheckpointError, match=words):
            list(knn_eval(str(tmp_path / f"{name}.onnx"), str(photos)))


@pytest.mark.parametrize(("recorded", "bits"), [(16, 16), (8, 8), (None, 8)])
def test_images_are_read_in_the_depth_that_the_file_records(tmp_path: Path, recorded: int | None, bits: int) -> None:
    path = save(tmp_path / "e.onnx", FLOAT, depth=recorded)
    if recorded is None:  # a file of an earlier version
        model = onnx.load(path)
        (facts,) = (prop for prop in model.metadata_props if prop.key == "sslcli.preprocessing")
        facts.value = facts.value.replace('"depth": null, ', "")
        assert "depth" not in facts.value
        onnx.save(model, path)
    assert open_encoder(str(path))[0].settings.data.bits == bits
