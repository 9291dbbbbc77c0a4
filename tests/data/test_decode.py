"""The image zoo: every kind of file is read as what it shows, or refused with a reason."""

import io
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssl_cli.data.decode import decode
from ssl_cli.errors import DataError
from ssl_cli.names import shown


def picture(height: int = 40, width: int = 60) -> Image.Image:
    """Four flat corners, so that turning and lossy coding leave something to compare."""
    array = np.zeros((height, width, 3), np.uint8)
    array[: height // 2, : width // 2] = (200, 40, 40)
    array[: height // 2, width // 2 :] = (40, 200, 40)
    array[height // 2 :, : width // 2] = (40, 40, 200)
    array[height // 2 :, width // 2 :] = (220, 220, 220)
    return Image.fromarray(array)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(image: Tensor) -> Tensor:
    h, w = image.shape[1:]
    return image[:, [h // 4, h // 4, 3 * h // 4, 3 * h // 4], [w // 4, 3 * w // 4, w // 4, 3 * w // 4]].int()


LOSSY = 12
TRUE = corners(torch.from_numpy(np.array(picture())).permute(2, 0, 1))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF", "PPM"])
def test_formats_by_content(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "mislabelled.gif"
    path.write_bytes(encoded(picture(), kind))
    image = decode(path)
    assert image.shape == (3, 40, 60)
    assert image.dtype == torch.uint8
    assert (corners(image) - TRUE).abs().max() <= LOSSY


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_modes(mode: str) -> None:
    kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
    image = decode(encoded(picture().convert(mode), kind, **({"quality": 95} if kind == "JPEG" else {})))
    if mode == "1":
        assert set(image.flatten().tolist()) == {0, 255}
    else:
        wanted = torch.from_numpy(np.array(picture().convert(mode).convert("RGB"))).permute(2, 0, 1)
        assert (corners(image) - corners(wanted)).abs().max() <= LOSSY


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_rescaled(kind: str) -> None:
    ramp = np.linspace(0, 65535, 40 * 60).reshape(40, 60).astype(np.uint16)
    image = decode(encoded(Image.fromarray(ramp), kind))
    assert (image[0].double() - torch.from_numpy(ramp / 257.0)).abs().max() <= 1


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_floats_show_something(scale: float) -> None:
    ramp = (np.linspace(0, 1, 2400).reshape(40, 60) * scale).astype(np.float32)
    image = decode(encoded(Image.fromarray(ramp), "TIFF"))
    assert (int(image.min()), int(image.max())) == (0, 255)


def test_alpha_lies_on_white() -> None:
    clear = picture().convert("RGBA")
    clear.putalpha(Image.new("L", clear.size, 0))
    assert (decode(encoded(clear, "PNG")) == 255).all()
    clear.putalpha(Image.new("L", clear.size, 128))
    half = corners(decode(encoded(clear, "PNG")))
    assert (half - (TRUE + 255) / 2).abs().max() <= 2
    assert (decode(encoded(Image.new("LA", (8, 8), (0, 0)), "PNG")) == 255).all()
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([0, 0, 0])
    assert (decode(encoded(palette, "PNG", transparency=0)) == 255).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_first_frame_of_an_animation(kind: str) -> None:
    first, second = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (20, 10), "blue")
    image = decode(encoded(first, kind, save_all=True, append_images=[second]))
    assert image.shape == (3, 10, 20)
    assert (image[0] > 240).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(kind: str, orientation: int) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = picture().transpose(undo[orientation]) if orientation in undo else picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(stored, kind, exif=exif))
    assert image.shape == (3, 40, 60)
    assert (corners(image) - TRUE).abs().max() <= LOSSY


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_cap_keeps_the_aspect(kind: str) -> None:
    image = decode(encoded(picture(400, 600), kind), cap=56)
    assert image.shape == (3, 56, 84)
    assert (corners(image) - TRUE).abs().max() <= LOSSY
    assert decode(encoded(picture(), kind), cap=56).shape == (3, 40, 60)
    assert decode(encoded(picture(1, 5000), kind), cap=56).shape == (3, 1, 5000)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_truncated_is_refused(kind: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8))
    data = encoded(noise, kind)
    with pytest.raises(DataError):
        decode(data[: int(share * len(data))])


@pytest.mark.parametrize("data", [b"", b"no image at all", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\xff\xd8\xff", b"\0" * 5000])
def test_not_an_image_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match=r"not an image|damaged|[Tt]runcated"):
        decode(data)


def test_too_many_pixels_are_refused_before_decoding() -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    side = (14_000).to_bytes(4, "big")
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", side + side + b"\x08\x02\0\0\0")
        + chunk(b"IDAT", zlib.compress(b"\0" * 9))
    )
    with pytest.raises(DataError, match="pixels"):
        decode(bomb)
    with pytest.raises(DataError, match="60 x 40 pixels"):
        decode(encoded(picture(), "PNG"), max_pixels=2399)


def test_flipped_bits_never_escape_as_another_error() -> None:
    generator, reasons = np.random.default_rng(0), []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"):
        whole = np.frombuffer(encoded(picture(), kind), np.uint8)
        for _ in range(40):
            data = whole.copy()
            data[generator.integers(0, len(data), 4)] ^= np.uint8(1 << generator.integers(0, 8))
            try:
                decode(data.tobytes(), max_pixels=10**6)
            except DataError as error:
                reasons.append(error.message)
    assert reasons
    assert all(reason.isprintable() for reason in reasons)


def test_threads_agree() -> None:
    data = encoded(picture(300, 200), "JPEG")
    wanted, found = decode(data, 56), []
    threads = [threading.Thread(target=lambda: found.append(decode(data, 56))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(image, wanted) for image in found)
    assert len(found) == 8


def test_missing_file_has_a_reason(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        decode(tmp_path / "gone.jpg")


def test_shown_names_are_harmless() -> None:
    assert shown("a\x1b[31mb\n\u202ec\udcff é") == "a\\x1b[31mb\\n\\u202ec\\udcff é"
    assert len(shown("x" * 5000)) < 310
