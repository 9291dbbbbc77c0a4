"""The test transform within a graph: what `evaluation.fit` gives, for images of any size."""

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from ssl_cli.augment import evaluation
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.formats.preprocessing import Preprocessing, prepend
from ssl_cli.formats.request import OPSETS
from ssl_cli.formats.runtime import import_onnxruntime

onnxruntime = import_onnxruntime()
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def graph(size: int, interpolation: Any, opset: int = 18, normalize: bool = False) -> onnx.ModelProto:
    """The transform before an encoder that hands on what it is given."""
    shape: list[str | int | None] = ["batch", 3, size, size]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("fitted", "h")]
    encoder = helper.make_graph([helper.make_node("Identity", ["fitted"], ["h"])], "encoder", values[:1], values[1:])
    model = helper.make_model(encoder, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    stated: dict[str, Any] = {"mean": MEAN, "std": STD} if normalize else {}
    prepend(model, Preprocessing(size, evaluation.short_side(size), interpolation, **stated))
    onnx.checker.check_model(model, full_check=True)
    return model


def run(model: onnx.ModelProto, images: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["h"], {"image": images.numpy()})[0])


def noise(count: int, height: int, width: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1000 * height + width)
    return torch.randint(256, (count, height, width, 3), dtype=torch.uint8, generator=draw)


def fit(images: torch.Tensor, size: int, interpolation: str, normalize: bool = False) -> torch.Tensor:
    order = ("crop", "normalize") if normalize else ("crop",)
    table = {"order": order, "crop": {"interpolation": interpolation}, "normalize": {"mean": MEAN, "std": STD}}
    return evaluation.fit(images.permute(0, 3, 1, 2), size, AugmentSettings.model_validate(table))


SHAPES = [
    (0, 0),
    (1, 0),
    (0, 1),
    (0, 3),
    (1, 1),
    (97, 0),
    (65, 94),
    (-9, 30),
    (-20, -13),
    (-7, -7),
    (140, 260),
    (-25, 400),
]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [32, 33, 96])  # with and without a margin around the centre
def test_equals_the_test_transform_at_any_size(size: int, interpolation: str) -> None:
    model = graph(size, interpolation)
    for count, (taller, wider) in enumerate(SHAPES, 1):
        images = noise(count, size + taller, size + wider)
        found = run(model, images)
        assert found.shape == (count, 3, size, size)
        torch.testing.assert_close(found, fit(images, size, interpolation), atol=1e-5, rtol=0)


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset(opset: int) -> None:
    images = noise(2, 50, 81)
    wanted = fit(images, 24, "bicubic", normalize=True)
    torch.testing.assert_close(run(graph(24, "bicubic", opset, normalize=True), images), wanted, atol=5e-5, rtol=0)


def test_images_of_the_size_are_taken_as_they_are() -> None:
    """Above 64 pixels others are resized past the size: a photo cut to it already must not lose its margin."""
    images = noise(2, 80, 80)
    torch.testing.assert_close(run(graph(80, "bicubic"), images), images.permute(0, 3, 1, 2) / 255)


def test_values_stay_within_the_range() -> None:
    edges = torch.zeros(1, 20, 20, 3, dtype=torch.uint8)
    edges[:, :, 10:] = 255  # where bicubic overshoots
    found = run(graph(32, "bicubic"), edges)
    assert (found.min().item(), found.max().item()) == (0, 1)


def test_the_shape_of_what_the_encoder_gets_is_known() -> None:
    inferred = onnx.shape_inference.infer_shapes(graph(40, "bilinear"), strict_mode=True, data_prop=True)
    shapes = {value.name: value.type.tensor_type.shape.dim for value in inferred.graph.value_info}
    assert [side.dim_value or side.dim_param for side in shapes["fitted"]] == ["batch", 3, 40, 40]
    assert [np.dtype(helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)) for i in inferred.graph.input] == [
        np.uint8
    ]
