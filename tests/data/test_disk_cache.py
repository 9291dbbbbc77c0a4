"""The cache on disk: the same pixels as by decoding, whatever happened to its files, and nothing decoded twice."""

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ssl_cli import draws
from ssl_cli.data import disk_cache, image_store
from ssl_cli.data.disk_cache import DiskCache, folder_of
from ssl_cli.data.folder import Files
from ssl_cli.data.image_store import FACTS, bytes_in, caches_in, delete, room_in
from ssl_cli.data.loader import Loader
from ssl_cli.data.shapes import Shapes
from ssl_cli.data.source import Source
from ssl_cli.data.split import subset
from ssl_cli.errors import DataError, ResourceError
from tests.data.files import open_folder

CAP = 24


@pytest.fixture(autouse=True)
def _no_cache_is_open() -> Iterator[None]:
    yield
    image_store._open_here.clear()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twenty-one images of several sizes, some larger than they are cached."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(21):
        noise = np.random.default_rng(k).integers(0, 256, (20 + k, 30 - k, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{k:02}.png")
    return folder


class Counted:
    """Images of a folder, whose decoding is counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded: list[int] = []
        decode = Files.read

        def read(files: Files, index: int, cap: int | None = None) -> Tensor:
            self.decoded.append(index)
            return decode(files, index, cap)

        monkeypatch.setattr(Files, "read", read)


def test_an_image_that_an_epoch_leaves_out_is_decoded_at_its_end(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = {seed: [draws.permutation(seed, 21, epoch).tolist() for epoch in (0, 1)] for seed in range(50)}
    seed = next(seed for seed, (first, second) in orders.items() if first[20] in second[16:20])  # in the last batch
    counted = Counted(monkeypatch)
    source = DiskCache(open_folder(photos), tmp_path / "cache", CAP)
    batches = Loader(source, 4, seed, cache="none", cap=CAP, threads=1).batches(0, 10)
    for _ in range(6):  # the sixth is the first of the second epoch
        next(batches)
    assert counted.decoded == orders[seed][0]


def read_all(source: Source) -> list[Tensor]:
    return [source.read(k, CAP) for k in range(len(source))]


def same(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(one, two, strict=True))


def stored(cache: DiskCache) -> int:
    assert cache.store is not None
    return len(cache.store)


def folder_in(cache: DiskCache) -> Path:
    assert cache.store is not None
    return cache.store.folder


def parts(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("images-*/*") if path.suffix)


def test_later_epochs_and_runs_decode_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Loader(open_folder(photos), 4, 0, cache="none", cap=CAP).batches(0, 15)
    wanted = [(batch.index, list(batch.image)) for batch in plain]
    counted = Counted(monkeypatch)
    for run in range(3):
        source = DiskCache(open_folder(photos), tmp_path / "cache", CAP)
        assert stored(source) == (21 if run else 0)
        # in the first run two threads would decode an image twice that both ask for at once
        loader = Loader(source, 4, 0, cache="none", cap=CAP, threads=3 if run else 1)
        for (index, images), batch in zip(wanted, loader.batches(0, 15), strict=True):
            assert torch.equal(index, batch.index)
            assert same(images, list(batch.image))
        assert sorted(counted.decoded) == list(range(21)), "of the five images that an epoch leaves out, too"
    assert source.read(3, 8).shape[1:] == open_folder(photos).read(3, 8).shape[1:]
    assert len(counted.decoded) == 23  # images of another size are not of the cache


@pytest.mark.parametrize("trials", [8, pytest.param(200, marks=pytest.mark.slow)])
def test_what_is_cut_off_or_changed_is_decoded_again(photos: Path, tmp_path: Path, trials: int) -> None:
    wanted, root, whole = read_all(open_folder(photos)), tmp_path / "cache", tmp_path / "whole"
    assert same(wanted, read_all(DiskCache(open_folder(photos), whole, CAP)))
    pixels = next(path for path in parts(whole) if path.suffix == ".pixels").read_bytes()
    index = next(path for path in parts(whole) if path.suffix == ".index").read_bytes()
    draw = random.Random(0)
    for trial in range(trials):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(whole, root)
        name, data = draw.choice([(".pixels", pixels), (".index", index)])
        broken, at = bytearray(data), draw.randrange(len(data))
        kind = draw.choice(["cut", "flip", "zeros", "noise"])
        if kind == "cut":
            del broken[at:]
        elif kind == "flip":
            broken[at] ^= 1 << draw.randrange(8)
        else:
            tail = len(broken) - at
            broken[at:] = bytes(tail) if kind == "zeros" else draw.randbytes(tail)
        next(path for path in parts(root) if path.suffix == name).write_bytes(broken)
        cache = DiskCache(open_folder(photos), root, CAP)
        assert same(wanted, read_all(cache)), (trial, kind, name, at)
        assert same(wanted, read_all(DiskCache(open_folder(photos), root, CAP)))


def test_a_record_of_another_image_is_not_believed(photos: Path, tmp_path: Path) -> None:
    wanted, root = read_all(open_folder(photos)), tmp_path / "cache"
    read_all(DiskCache(open_folder(photos), root, CAP))
    index = next(path for path in parts(root) if path.suffix == ".index")
    broken = bytearray(index.read_bytes())
    broken[0], broken[32] = broken[32], broken[0]  # the images of the first two records
    index.write_bytes(broken)
    assert same(wanted, read_all(DiskCache(open_folder(photos), root, CAP)))


def test_a_cache_is_of_these_files_this_range_and_this_way_of_decoding(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(**more: object) -> str:
        source = open_folder(photos, value_range=more.get("value_range"))  # type: ignore[arg-type]
        return folder_in(DiskCache(source, tmp_path / "cache", int(str(more.get("cap", CAP))))).name

    first = name()
    assert name() == first
    assert folder_in(DiskCache(subset(open_folder(photos), torch.arange(21)), tmp_path / "cache", CAP)).name == first
    others = [name(cap=25), name(value_range=(0.0, 4095.0))]
    others.append(folder_in(DiskCache(subset(open_folder(photos), torch.arange(20)), tmp_path / "cache", CAP)).name)
    file = photos / "03.png"
    before = file.stat()
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    others.append(name())  # of the same size and name, but written since
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert name() == first
    monkeypatch.setattr(disk_cache, "DECODER", 99)
    others.append(name())
    monkeypatch.setattr(disk_cache, "version", lambda library: "0")
    others.append(name())
    assert len({first, *others}) == 7


def test_two_processes_write_files_of_their_own_and_read_each_other_s(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, root = read_all(open_folder(photos)), tmp_path / "cache"
    counted = Counted(monkeypatch)
    one, two = (DiskCache(open_folder(photos), root, CAP) for _ in range(2))
    for k in range(10):
        one.read(k, CAP)
    monkeypatch.setattr(image_store, "REFRESH", -1.0)
    for k in range(21):
        assert torch.equal(two.read(k, CAP), wanted[k])
    assert same(wanted, read_all(one))
    assert sorted(counted.decoded) == list(range(21))
    assert [path.name for path in parts(root)] == [
        "000001.index", "000001.pixels", "000002.index", "000002.pixels", "cache.json",
    ]  # fmt: skip


def test_a_part_of_the_disk_stays_free(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = read_all(open_folder(photos))
    monkeypatch.setattr(image_store, "room_in", lambda root: 5000)
    cache = DiskCache(open_folder(photos), tmp_path / "cache", CAP)
    assert same(wanted, read_all(cache))
    assert 0 < stored(cache) < 21
    assert sum(path.stat().st_size for path in parts(tmp_path / "cache") if path.suffix == ".pixels") <= 5000
    assert cache.full == "The cache of decoded images takes no more: what is free on its disk stays free"
    assert same(wanted, read_all(cache))


def test_a_full_disk_ends_no_run(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, write = read_all(open_folder(photos)), os.write
    cache = DiskCache(open_folder(photos), tmp_path / "cache", CAP)
    written = []

    def short(file: int, data: bytes) -> int:
        written.append(len(data))
        return write(file, data if len(written) < 9 else data[:7])

    monkeypatch.setattr(os, "write", short)
    assert same(wanted, read_all(cache))
    assert cache.full
    monkeypatch.undo()
    again = DiskCache(open_folder(photos), tmp_path / "cache", CAP)
    assert stored(again) == stored(cache) == 4
    assert same(wanted, read_all(again))


def test_room_is_made_by_caches_that_are_not_in_use_and_by_nothing_else(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "cache"
    folders = []
    for cap in (10, 12, 14):
        cache = DiskCache(open_folder(photos), root, cap)
        cache.read(0, cap)
        folders.append(folder_in(cache))
        os.utime(folder_in(cache) / FACTS, ns=(0, cap))
        image_store._open_here.clear()
    (folders[0] / "mine.txt").write_text("x", encoding="utf-8")
    foreign = root / f"images-{'0' * 32}"
    shutil.copytree(folders[1], foreign)  # of another name than its content has
    assert list(caches_in(root)) == folders
    assert bytes_in(root) > 0
    monkeypatch.setattr(image_store, "room_in", lambda _: 10**6 if not (folders[1] / FACTS).exists() else 0)
    cache = DiskCache(open_folder(photos), root, CAP)
    read_all(cache)
    assert stored(cache) == 21
    assert not folders[1].exists()
    assert sorted(path.name for path in folders[0].iterdir()) == ["mine.txt"]
    assert folders[2].exists()
    assert len(list(foreign.iterdir())) == 4
    assert delete(tmp_path) == 0


def test_images_that_are_no_files_are_served_as_they_are(tmp_path: Path) -> None:
    source = DiskCache(Shapes(8, 16, 0), tmp_path / "cache", CAP)
    assert torch.equal(source.read(3, CAP), Shapes(8, 16, 0).read(3))
    assert not (tmp_path / "cache").exists()


def test_bad_images_stay_bad_and_a_folder_that_cannot_be_written_is_named(photos: Path, tmp_path: Path) -> None:
    (photos / "05.png").write_bytes(b"no image")
    cache = DiskCache(open_folder(photos), tmp_path / "cache", CAP)
    for _ in range(2):
        with pytest.raises(DataError):
            cache.read(5, CAP)
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ResourceError, match="Cannot write the cache of images"):
        DiskCache(open_folder(photos), tmp_path / "file" / "cache", CAP)


def test_the_folder_is_the_platform_s_own_or_as_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert folder_of(None) == tmp_path / "sslcli" / "images"
    assert folder_of("~/x") == Path("~/x").expanduser()
    assert room_in(tmp_path / "not" / "there") == pytest.approx(room_in(tmp_path), rel=0.05)
