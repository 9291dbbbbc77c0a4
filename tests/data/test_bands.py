"""Images of one channel and of more than three: what is read, in which form, and what is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_cli.config.tree import DataSettings
from ssl_cli.data.bands import Gray
from ssl_cli.data.decode import decode
from ssl_cli.data.glance import glance
from ssl_cli.data.shapes import Shapes
from ssl_cli.data.sources import open_evaluation, open_pretraining
from ssl_cli.errors import DataError
from tests.data.files import open_folder


def array(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def npy(x: Any, **given: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, x, **given)
    return file.getvalue()


def saved(image: Image.Image, form: str, **given: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **given)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 16])
def test_an_array_has_its_channels_last_or_first(channels: int) -> None:
    x = array(20, 31, channels)
    for form in (x, x.transpose(2, 0, 1), np.asfortranarray(x)):
        read = decode(npy(form), channels=channels)
        assert read.dtype == torch.uint8
        assert np.array_equal(read.permute(1, 2, 0).numpy(), x)
    if channels == 1:
        assert np.array_equal(decode(npy(x[:, :, 0]), channels=1)[0].numpy(), x[:, :, 0])


def test_a_large_array_is_shrunk_band_by_band_as_pillow_does() -> None:
    x = array(90, 60, 6)
    read = decode(npy(x), cap=20, channels=6)
    assert read.shape == (6, 30, 20)
    for band, theirs in zip(read, x.transpose(2, 0, 1), strict=True):
        picture = Image.fromarray(np.ascontiguousarray(theirs)).resize((20, 30), Image.Resampling.BILINEAR)
        assert np.array_equal(band.numpy(), np.array(picture))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy(array(8, 8, 5)), r"its shape is \(8, 8, 5\), and data.channels is 6"),
        (npy(array(8, 8, 6).astype(np.complex64)), "its numbers are complex64; integers and floats"),
        (npy(np.zeros((8, 8, 6), "M8[s]")), "its numbers are datetime64"),
        (npy(np.zeros((0, 8, 6), np.uint8)), "it has 8 x 0 pixels"),
        (npy(array(8, 8, 6))[:-1], "it is damaged"),
        (npy(np.array([{}], dtype=object), allow_pickle=True), "its numbers are object"),
        (b"\x93NUMPY\x09\x00garbage", "version"),
        (saved(Image.new("RGB", (8, 8)), "PNG"), "it has 3 channels, and data.channels is 6"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        decode(data, channels=6)


def test_an_array_of_too_many_pixels_is_not_even_read() -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6, 6)})
    with pytest.raises(DataError, match="1000000 x 1000000 pixels"):
        decode(head.getvalue(), channels=6)


def test_gray_is_the_file_s_own_or_pillow_s_of_its_colours() -> None:
    x = array(9, 7, 3)
    gray, colour = Image.fromarray(x[:, :, 0].copy()), Image.fromarray(x)
    deep = Image.fromarray(x[:, :, 0].astype(np.uint16) * 257)
    for picture, wanted in ((gray, x[:, :, 0]), (deep, x[:, :, 0]), (colour, np.array(colour.convert("L")))):
        read = decode(saved(picture, "PNG"), channels=1, value_range=(0, 65535))
        assert read.shape == (1, 9, 7)
        assert np.array_equal(read[0].numpy(), wanted)


def test_colours_with_opacity_and_pages_of_a_tiff() -> None:
    x = array(9, 7, 6)
    rgba = Image.fromarray(np.ascontiguousarray(x[:, :, :4]))
    assert np.array_equal(decode(saved(rgba, "PNG"), channels=4).permute(1, 2, 0).numpy(), x[:, :, :4])
    pages = [Image.fromarray(np.ascontiguousarray(x[:, :, k])) for k in range(6)]
    tiff = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert np.array_equal(decode(tiff, channels=6).permute(1, 2, 0).numpy(), x)
    with pytest.raises(DataError, match="it has 6 pages"):
        decode(tiff, channels=5)
    odd = saved(pages[0], "TIFF", save_all=True, append_images=[page.resize((5, 5)) for page in pages[1:]])
    with pytest.raises(DataError, match="differ in size"):
        decode(odd, channels=6)


def test_the_embedded_set_in_gray_and_in_nothing_else() -> None:
    settings = DataSettings(images=32, size=16, channels=1)
    gray, colour = open_pretraining(settings, 0), Shapes(32, 16, 0)
    image = Image.fromarray(colour.read(3).permute(1, 2, 0).contiguous().numpy()).convert("L")
    assert torch.equal(gray.read(3)[0], torch.from_numpy(np.array(image)))
    assert isinstance(gray, Gray)
    assert (len(gray), gray.path(1), gray.classes) == (32, colour.path(1), colour.classes)
    few = glance(settings, 0).few
    assert few is not None
    assert few.read(0).shape == (1, 16, 16)
    pair = open_evaluation(settings, 0)
    assert pair.bank.read(0).shape == pair.queries.read(0).shape == (1, 16, 16)
    with pytest.raises(DataError, match="has images of three channels"):
        open_pretraining(DataSettings(channels=4), 0)


def test_a_folder_of_arrays(tmp_path: Path) -> None:
    for k in range(3):
        np.save(tmp_path / f"{k}.npy", array(10, 12, 6))
    source = open_folder(tmp_path, channels=6)
    assert len(source) == 3
    assert source.read(2).shape == (6, 10, 12)
    few = glance(DataSettings(source=str(tmp_path), channels=6), 0).few
    assert few is not None
    assert few.read(0).shape == (6, 10, 12)


def test_an_array_of_gray_or_colours_becomes_the_other_as_any_file_does() -> None:
    x = array(8, 9, 3)
    picture = Image.fromarray(x)
    assert np.array_equal(decode(npy(x), channels=1)[0].numpy(), np.array(picture.convert("L")))
    for gray in (x[:, :, 0], x[:, :, :1], x[None, :, :, 0]):
        assert np.array_equal(decode(npy(gray)).numpy(), np.stack([x[:, :, 0]] * 3))
