"""`load(run).encode(images)`: the network's own rows, whatever the images are given as."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import ssl_cli
from ssl_cli.api.encoder import Encoder
from ssl_cli.augment import evaluation
from ssl_cli.errors import DataError, DivergedError, UsageError
from tests.engine.toy_run import toy_settings, write_run


@pytest.fixture(scope="module")
def encoder(run: Path) -> Encoder:
    return ssl_cli.load(run, device="cpu")


@pytest.fixture(scope="module")
def arrays() -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, shape, np.uint8) for shape in ((16, 16, 3), (20, 33, 3), (40, 24, 3))]


def wanted(encoder: Encoder, arrays: list[np.ndarray], feature: str = "h") -> torch.Tensor:
    """Each image alone through the test transform and the network."""
    objective = encoder._trained.objective
    rows = []
    for array in arrays:
        x = torch.from_numpy(array).permute(2, 0, 1)[None]
        with torch.no_grad():
            x = evaluation.fit(x, 16, encoder.settings.views)
            rows.append(objective(x) if feature == "z" else objective.represent(x))
    return torch.cat(rows)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_every_kind_of_image_gives_the_same_row(encoder: Encoder, arrays: list[np.ndarray], tmp_path: Path) -> None:
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    pictures = [Image.fromarray(array) for array in arrays]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    tensors = [torch.from_numpy(array).permute(2, 0, 1) for array in arrays]
    expected = wanted(encoder, arrays)
    for given in (
        paths, list(map(str, paths)), pictures, arrays, tensors,
        [array.astype(np.float32) / 255 for array in arrays], [tensor.double() / 255 for tensor in tensors],
        (paths[0], pictures[1], tensors[2]), iter(arrays),
    ):  # fmt: skip
        close(encoder.encode(given), expected)
    close(encoder.encode([x.half() / 255 for x in tensors]), expected)  # 11 bits hold 8


def test_one_image_and_a_batch(encoder: Encoder, arrays: list[np.ndarray], tmp_path: Path) -> None:
    first = arrays[0]
    Image.fromarray(first).save(tmp_path / "a.png")
    for one in (first, torch.from_numpy(first).permute(2, 0, 1), Image.fromarray(first), str(tmp_path / "a.png")):
        close(encoder.encode(one), wanted(encoder, [first]))
    many = np.stack([first, first[::-1], first[:, ::-1]])
    expected = wanted(encoder, list(many))
    close(encoder.encode(many), expected)
    close(encoder.encode(torch.from_numpy(many).permute(0, 3, 1, 2), batch=2), expected)


def test_gray_and_transparent_pictures_are_as_files_are(encoder: Encoder, tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    gray = Image.fromarray(draw.integers(0, 256, (16, 16), np.uint8))
    clear = Image.fromarray(draw.integers(0, 256, (16, 16, 4), np.uint8))
    palette = Image.fromarray(draw.integers(0, 256, (16, 16, 3), np.uint8)).convert("P")
    for k, picture in enumerate((gray, clear, palette)):
        picture.save(tmp_path / f"{k}.png")
        close(encoder.encode(picture), encoder.encode(tmp_path / f"{k}.png"))
    close(encoder.encode(np.asarray(gray)), encoder.encode(gray))


def test_a_picture_is_turned_upright(encoder: Encoder, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(2).integers(0, 256, (16, 24, 3), np.uint8))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        close(encoder.encode(turned), encoder.encode(tmp_path / "turned.png"))
        assert turned.size == (24, 16)


def test_z_and_rows_of_length_one(encoder: Encoder, arrays: list[np.ndarray]) -> None:
    close(encoder.encode(arrays, feature="z"), wanted(encoder, arrays, "z"))
    rows = encoder.encode(arrays, l2=True)
    close(rows.norm(dim=1), torch.ones(3))
    close(rows, torch.nn.functional.normalize(wanted(encoder, arrays)))


def test_numbers_are_in_the_range_of_the_run(tmp_path: Path) -> None:
    values = np.random.default_rng(3).integers(0, 4001, (16, 16), np.uint16)
    np.save(tmp_path / "a.npy", values)
    write_run(tmp_path / "run", toy_settings(channels=1, range=(0.0, 4000.0)))
    encoder = ssl_cli.load(tmp_path / "run", device="cpu")
    expected = encoder.encode(tmp_path / "a.npy")
    for given in (values, values.astype(np.float64), torch.from_numpy(values.astype(np.int32))[None]):
        close(encoder.encode(given), expected)
    assert not torch.equal(encoder.encode((values // 2).astype(np.uint16)), expected)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (3, "A int is no image"),
        ([None], "A NoneType is no image"),
        (np.zeros(5), "shape (5,)"),
        ([np.zeros((2, 4, 4, 3))], "shape (2, 4, 4, 3)"),
        ([], "no image to encode"),
        (np.zeros((3, 16, 16), np.uint8), "16 channels"),
        (np.zeros((16, 16, 3), np.int64), "int64"),
        (np.full((16, 16, 3), 7.0), "from 7 to 7"),
        (np.full((16, 16, 3), np.nan), "from nan to nan"),
        (["none.png"], "none.png"),
    ],
)
def test_what_is_no_image_is_one_sentence(encoder: Encoder, given: Any, said: str) -> None:
    with pytest.raises((UsageError, DataError)) as caught:
        encoder.encode(given)
    assert said in caught.value.message
    assert "Give paths, Pillow images" in caught.value.hint


def test_the_first_bad_file_is_named(encoder: Encoder, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png"):
        encoder.encode([tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "good.png"])


@pytest.mark.parametrize("options", [{"feature": "y"}, {"batch": 0}])
def test_wrong_options(encoder: Encoder, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        encoder.encode(np.zeros((16, 16, 3), np.uint8), **options)


def test_rows_that_are_not_finite_are_refused(run: Path) -> None:
    encoder = ssl_cli.load(run, device="cpu")
    with torch.no_grad():
        next(encoder.backbone.parameters()).mul_(1e38)
    with pytest.raises(DivergedError):
        encoder.encode(np.full((16, 16, 3), 255, np.uint8))


def test_an_encoder_says_what_it_is_and_leaves_no_gradient(encoder: Encoder, arrays: list[np.ndarray]) -> None:
    assert repr(encoder) == "Encoder(simclr, resnet18, width 0.0625, 16 pixels, step 7)"
    assert not encoder.encode(arrays).requires_grad
    assert not encoder.backbone.training
    assert encoder.device.type == "cpu"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["float-nchw", "uint8-nhwc"])
def test_an_exported_encoder_is_loaded_too(
    run: Path, encoder: Encoder, arrays: list[np.ndarray], tmp_path: Path, kind: str
) -> None:
    ssl_cli.export(run, tmp_path / "encoder.onnx", input_kind=kind)
    exported = ssl_cli.load(tmp_path / "encoder.onnx")
    torch.testing.assert_close(exported.encode(arrays), wanted(encoder, arrays), atol=1e-4, rtol=1e-4)
    assert "encoder.onnx, 16 pixels, step 7" in repr(exported)
    with pytest.raises(UsageError, match="has no z"):
        exported.encode(arrays, feature="z")
