"""Formats that a library of an extra reads: DICOM, HEIC, TIFF in rare compressions; and what is said without it."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ssl_cli.data.decode import decode, read_numbers
from ssl_cli.data.extras import is_dicom, is_readable
from ssl_cli.data.measured import measured
from ssl_cli.data.search import find_images
from ssl_cli.errors import DataError
from tests.data.files import open_folder, tiff
from tests.data.test_measured import settings

RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))
GRAY = (RAMP * 255).round()


def dicom(x: np.ndarray, what: str = "MONOCHROME2", syntax: str = "1.2.840.10008.1.2.1", **more: Any) -> bytes:
    pydicom = pytest.importorskip("pydicom")
    image = pydicom.Dataset()
    image.file_meta = pydicom.dataset.FileMetaDataset()
    image.file_meta.TransferSyntaxUID = syntax
    image.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    image.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    image.SOPClassUID, image.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", "1.2.3"
    image.Rows, image.Columns, image.SamplesPerPixel = x.shape[0], x.shape[1], x.shape[2] if x.ndim == 3 else 1
    image.PhotometricInterpretation, image.PixelRepresentation = what, int(x.dtype.kind == "i")
    image.BitsAllocated = image.BitsStored = 8 * x.dtype.itemsize
    image.HighBit = image.BitsStored - 1
    if x.ndim == 3:
        image.PlanarConfiguration = 0
    for name, value in more.items():
        setattr(image, name, value)
    image.PixelData = x.tobytes()
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    return file.getvalue()


HOUNSFIELD = (RAMP * 400 + 824).round().astype(np.int16)
"""From -200 to 200 with an intercept of -1024."""
SCALED = {"RescaleSlope": 1, "RescaleIntercept": -1024}
SEEN: dict[str, tuple[np.ndarray, str, dict[str, Any], tuple[float, float] | None, np.ndarray]] = {
    "its numbers": (HOUNSFIELD, "MONOCHROME2", SCALED, None, GRAY),
    "in a range of the device's units": (
        HOUNSFIELD, "MONOCHROME2", SCALED, (-1024, 1023), ((RAMP * 400 - 200 + 1024) / 2047 * 255)
    ),
    "slope": (HOUNSFIELD, "MONOCHROME2", {"RescaleSlope": 2, "RescaleIntercept": 0}, (1648, 2448), GRAY),
    "window": (
        HOUNSFIELD, "MONOCHROME2", {**SCALED, "WindowCenter": 0.5, "WindowWidth": 201}, None,
        ((RAMP * 400 - 100) / 200 * 255).clip(0, 255),
    ),
    "the first of two windows": (
        HOUNSFIELD, "MONOCHROME2", {**SCALED, "WindowCenter": [0.5, 90], "WindowWidth": [401, 9]}, None, GRAY
    ),
    "white is small": (HOUNSFIELD, "MONOCHROME1", SCALED, None, 255 - GRAY),
    "8 bits": ((RAMP * 100).round().astype(np.uint8), "MONOCHROME2", {}, None, (RAMP * 100).round()),
    "8 bits with a window": (
        (RAMP * 63).round().astype(np.uint8), "MONOCHROME2", {"WindowCenter": 32, "WindowWidth": 64}, None, GRAY
    ),
    "padding": (
        np.where(np.arange(48)[:, None] < 5, -2000, HOUNSFIELD).astype(np.int16), "MONOCHROME2",
        {**SCALED, "PixelPaddingValue": -2000}, None, np.where(np.arange(48)[:, None] < 5, 0, GRAY),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SEEN)
def test_dicom_in_the_units_of_its_device(name: str) -> None:
    x, what, more, value_range, wanted = SEEN[name]
    found = decode(dicom(x, what, **more), channels=1, value_range=value_range)[0].numpy()
    assert np.abs(found - wanted).max() <= 1


PADDED = np.where(np.arange(48)[:, None] < 5, 60000, (RAMP * 4095).round()).astype(np.uint16)
PADDED[:5, ::2] = 65000


def groups(shared: bool) -> bytes:
    """An enhanced DICOM of two frames, whose scaling and window are in functional groups."""
    pydicom = pytest.importorskip("pydicom")

    def group(**facts: Any) -> Any:
        found = pydicom.Dataset()
        for name, value in facts.items():
            setattr(found, name, value)
        return found

    def of_frame(centre: int) -> Any:
        scaling = group(RescaleSlope=1, RescaleIntercept=-1024)
        window = group(WindowCenter=centre, WindowWidth=201)
        return group(PixelValueTransformationSequence=[scaling], FrameVOILUTSequence=[window])

    items = [of_frame(0)] if shared else [of_frame(0), of_frame(90)]
    more: dict[str, Any] = {f"{'Shared' if shared else 'PerFrame'}FunctionalGroupsSequence": items}
    frames = np.concatenate([HOUNSFIELD, HOUNSFIELD[::-1]])
    return dicom(frames, "MONOCHROME2", NumberOfFrames=2, Rows=48, **more)


@pytest.mark.parametrize("shared", [True, False])
def test_dicom_whose_facts_are_in_functional_groups(shared: bool) -> None:
    wanted = ((RAMP * 400 - 200 + 100.5) / 200 * 255).clip(0, 255)
    assert np.abs(decode(groups(shared), channels=1)[0].numpy() - wanted).max() <= 1


def test_dicom_that_is_padded_by_a_range_or_by_an_unsigned_number() -> None:
    found = decode(dicom(PADDED, PixelPaddingValue=60000, PixelPaddingRangeLimit=65000), channels=1)[0].numpy()
    assert np.abs(found - np.where(np.arange(48)[:, None] < 5, 0, GRAY)).max() <= 1
    pydicom = pytest.importorskip("pydicom")
    image = pydicom.dcmread(
        io.BytesIO(dicom(SEEN["padding"][0], "MONOCHROME2", RescaleSlope=1, RescaleIntercept=-1024))
    )
    image.add_new("PixelPaddingValue", "US", 2**16 - 2000)
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    assert np.abs(decode(file.getvalue(), channels=1)[0].numpy() - SEEN["padding"][4]).max() <= 1


def test_dicom_with_an_exact_window() -> None:
    x = (RAMP * 16).round().astype(np.uint16)
    found = decode(dicom(x, WindowCenter=8, WindowWidth=16, VOILUTFunction="LINEAR_EXACT"), channels=1)[0].numpy()
    assert np.abs(found - x / 16 * 255).max() <= 1


STORED = (RAMP * 4095).round().astype(np.uint16)
TABLE = np.linspace(1, 0, 4096) ** 2
SHADES = (TABLE[STORED] * 255).round()


def by_table(x: np.ndarray, bits: int, *, words: bool = True, start: int = 0, count: int = 4096, **more: Any) -> bytes:
    """A DICOM whose numbers a table of `count` entries from `start` gives shades of so many bits."""
    pydicom = pytest.importorskip("pydicom")
    table, data = pydicom.Dataset(), (TABLE[:count] * (2**bits - 1)).round().astype(np.uint8 if bits == 8 else "<u2")
    table.add_new("LUTDescriptor", "SS" if start < 0 else "US", [count, start, bits])
    table.add_new("LUTData", "OW" if words else "US", data.tobytes() if words else data.tolist())
    return dicom(x, VOILUTSequence=[table], **more)


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: by_table(STORED, 16), SHADES),
        (lambda: by_table(STORED, 12, words=False), SHADES),
        (lambda: by_table(STORED, 8), SHADES),
        (lambda: by_table(STORED, 10, what="MONOCHROME1"), 255 - SHADES),
        (lambda: by_table((STORED - 1024.0).astype(np.int16), 16, start=-1024), SHADES),
        (lambda: by_table(STORED, 16, RescaleSlope=1, RescaleIntercept=-5, start=-5), SHADES),
        (lambda: by_table(STORED, 16, WindowCenter=9, WindowWidth=9), SHADES),
        (lambda: by_table((RAMP * 255).round().astype(np.uint8), 16, count=256),
         (TABLE[:256] * 255)[GRAY.astype(int)]),
        (lambda: by_table(STORED, 16, start=1000, count=2000),
         (TABLE * 255)[(STORED - 1000.0).clip(0, 1999).astype(int)]),
        (lambda: dicom(STORED, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID"),
         255 / (1 + np.exp(-4 * (STORED - 2000.0) / 1000))),
        (lambda: dicom(STORED, "MONOCHROME1", WindowCenter=2000, WindowWidth=1e-9, VOILUTFunction="SIGMOID"),
         255.0 * (STORED <= 2000)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("value_range", [None, (7, 8)])
def test_dicom_by_a_table_or_a_sigmoid_in_any_range(
    make: Any, wanted: np.ndarray, value_range: tuple[float, float] | None
) -> None:
    found = decode(make(), channels=1, value_range=value_range)[0].numpy()
    assert np.abs(found - wanted).max() <= 1
    deep = decode(make(), channels=1, value_range=value_range, depth=16)[0].numpy()
    assert np.abs(deep * (255 / 32767) - wanted).max() <= 0.6


def test_dicom_without_a_preamble_or_of_bits() -> None:
    pydicom = pytest.importorskip("pydicom")
    data = dicom(STORED)
    for part in (data[132:], data[132 + 12 + int.from_bytes(data[140:144], "little") :]):  # without its facts, too
        assert is_dicom(part[:132])
        assert np.abs(decode(part, channels=1)[0].numpy() - GRAY).max() <= 1
    bits = dicom(RAMP > 0.5, BitsAllocated=1, BitsStored=1, HighBit=0)
    image = pydicom.dcmread(io.BytesIO(bits))
    image.PixelData = np.packbits(RAMP > 0.5, bitorder="little").tobytes()
    file = io.BytesIO()
    image.save_as(file, enforce_file_format=True)
    assert np.array_equal(decode(file.getvalue(), channels=1)[0].numpy(), 255 * (RAMP > 0.5))


def test_dicom_in_colours() -> None:
    x = (np.stack([RAMP, RAMP / 2, 1 - RAMP], -1) * 255).round().astype(np.uint8)
    assert np.array_equal(decode(dicom(x, "RGB")).permute(1, 2, 0).numpy(), x)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: dicom(HOUNSFIELD)[:3000], "damaged"),
        (lambda: dicom(HOUNSFIELD).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")[:5000], "deflated"),
        (lambda: dicom(HOUNSFIELD, Rows=0), "without an image"),
        (lambda: dicom(HOUNSFIELD, Rows=60000, Columns=60000), "pixels"),
        (lambda: bytes(128) + b"DICM" + bytes(500), "damaged|without an image"),
    ],
)
def test_a_bad_dicom_file_is_refused(data: Any, reason: str) -> None:
    pytest.importorskip("pydicom")
    with pytest.raises(DataError, match=reason):
        decode(data())


def test_heic_is_read_upright() -> None:
    heif = pytest.importorskip("pillow_heif")
    x = np.zeros((48, 64, 3), np.uint8)
    x[:24, :32] = 250
    exif = Image.Exif()
    exif[0x0112] = 6
    for options, wanted in (({}, x), ({"exif": exif.tobytes()}, np.rot90(x, -1))):
        file = io.BytesIO()
        heif.from_pillow(Image.fromarray(x)).save(file, quality=95, **options)
        found = decode(file.getvalue()).permute(1, 2, 0).numpy().astype(int)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).mean() < 4
    assert read_numbers(file.getvalue()) is None
    with pytest.raises(DataError):
        decode(file.getvalue()[: len(file.getvalue()) // 2])


def heic(x: np.ndarray, mode: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Numbers of 16 bits as a HEIC of 10 or 12."""
    heif = pytest.importorskip("pillow_heif")
    monkeypatch.setattr(heif.options, "SAVE_HDR_TO_12_BIT", bits == 12)
    file = io.BytesIO()
    heif.from_bytes(mode, (x.shape[1], x.shape[0]), np.ascontiguousarray(x).tobytes()).save(
        file, quality=-1, chroma=444
    )
    return file.getvalue()


FINE = np.tile(np.linspace(0, 65535, 1024).astype(np.uint16), (16, 1))


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("mode", ["RGB;16", "RGBA;16", "I;16"])
def test_heic_of_more_than_8_bits_keeps_them_in_any_range(
    bits: int, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    colours = np.stack([FINE, FINE // 2, 65535 - FINE], -1)
    opaque = np.full((16, 1024, 1), 65535, np.uint16)
    x = {"RGB;16": colours, "RGBA;16": np.concatenate([colours, opaque], -1), "I;16": FINE}[mode]
    data = heic(x, mode, bits, monkeypatch)
    wanted = (FINE[:, :, None] if x.ndim == 2 else colours).transpose(2, 0, 1) / 65535
    found = decode(data, depth=16, value_range=(0, 7)).numpy()
    assert len(np.unique(found[0])) > 700
    assert np.abs(found / 32767 - wanted).max() < 2 / 2**bits
    assert found.max() >= 32767 * (1 - 1.5 / 2**bits)
    assert np.abs(decode(data).numpy() - wanted * 255).max() <= 1
    assert np.abs(decode(data, cap=8).numpy()[0, :, ::64] - wanted[0, :8, ::128] * 255).max() <= 2
    numbers = read_numbers(data)
    assert numbers is not None
    assert numbers.kind == f"{bits}-bit numbers"


def test_a_set_of_heic_has_16_bits_and_no_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(heic(np.stack([FINE] * 3, -1), "RGB;16", 10, monkeypatch))
    found, choices = measured(settings(tmp_path, depth="auto"), open_folder(tmp_path))
    assert (found.data.range, found.data.depth) == ("auto", 16)
    assert [(choice.name, choice.reason.partition(";")[0]) for choice in choices] == [
        ("depth", "10-bit numbers in 2 of 2 sampled files")
    ]


@pytest.mark.parametrize("compression", ["jpeg2000", "lerc", "jpegxl"])
def test_tiff_in_rare_compressions(compression: str) -> None:
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    x = (RAMP * 4095).round().astype(np.uint16)
    file = io.BytesIO()
    tifffile.imwrite(file, x, compression=compression, photometric="minisblack")
    assert np.abs(decode(file.getvalue(), channels=1)[0].numpy() - GRAY).max() <= 1


MISSING = {
    "pydicom": (bytes(128) + b"DICM" + bytes(500), r"a DICOM image.*extra 'dicom'.*pip install 'sslcli\[dicom\]'"),
    "pillow_heif": (b"\0\0\0\x18ftypheic" + bytes(500), r"a HEIC image.*extra 'heic'.*pip install 'sslcli\[heic\]'"),
    "tifffile": (
        tiff(GRAY.astype(np.uint16), compression=34887),
        r"compressed by LERC.*extra 'tiff'.*'sslcli\[tiff\]'",
    ),
}


@pytest.mark.parametrize("library", MISSING)
def test_without_the_library_its_extra_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    data, reason = MISSING[library]
    with pytest.raises(DataError, match=reason):
        decode(data)


def test_files_are_found_by_their_ending_where_the_extra_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.dcm", "c.HEIC"):
        (tmp_path / name).write_bytes(b"")
    is_readable.cache_clear()
    monkeypatch.setattr("ssl_cli.data.extras.is_installed", lambda module: False)
    assert list(find_images(tmp_path).names) == ["a.png"]
    is_readable.cache_clear()
    monkeypatch.setattr("ssl_cli.data.extras.is_installed", lambda module: module == "pydicom")
    assert list(find_images(tmp_path).names) == ["a.png", "b.dcm"]
    is_readable.cache_clear()
