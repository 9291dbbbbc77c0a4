"""Archives: the same images as the folder, read in place from any thread; hostile ones are refused in a sentence."""

import io
import json
import os
import shutil
import stat
import struct
import tarfile
import threading
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ssl_cli.config.tree import DataSettings
from ssl_cli.data import archive_index
from ssl_cli.data.archive import split_in
from ssl_cli.data.fingerprint import record_of
from ssl_cli.data.loader import read_all
from ssl_cli.data.places import require_data
from ssl_cli.data.source import entries_of, groups_of
from ssl_cli.data.sources import open_evaluation, open_pretraining
from ssl_cli.data.split import files_of
from ssl_cli.errors import DataError
from ssl_cli.names import shown
from tests.data.pictures import folder, save

IMAGES = {"set/train/cat": 3, "set/train/dog": 2, "set/test/cat": 1, "set/test/dog": 2}


def zipped(root: Path, file: Path, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(file, "w", compression) as archive:
        for path in sorted(root.rglob("*"), reverse=True):
            archive.write(path, path.relative_to(root))
    return file


def tarred(root: Path, file: Path, form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(file, "w", format=form) as archive:
        for path in sorted(root.rglob("*"), reverse=True):
            archive.add(path, path.relative_to(root), recursive=False)
    return file


def of(*paths: Path) -> DataSettings:
    return DataSettings(source=tuple(map(str, paths)))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = folder(tmp_path_factory.mktemp("photos"), IMAGES)
    (root / "set" / "notes.txt").write_text("no image")
    save(root / "set" / "train" / "cat" / "without an ending")
    save(root / "set" / "train" / "cat" / "@eaDir" / "thumb.png")
    (root / "set" / "train" / "._x.png").write_text("no image")
    save(root / "set" / "train" / "dog" / ("n" * 200 + "é.png"))
    return root


MADE: dict[str, Callable[[Path, Path], Path]] = {
    "stored.zip": lambda root, file: zipped(root, file),
    "deflated.zip": lambda root, file: zipped(root, file, compression=zipfile.ZIP_DEFLATED),
    "pax.tar": lambda root, file: tarred(root, file),
    "gnu.tar": lambda root, file: tarred(root, file, tarfile.GNU_FORMAT),
    "without an ending": lambda root, file: tarred(root, file),
}


@pytest.mark.parametrize("name", MADE)
def test_an_archive_is_as_its_folder(photos: Path, tmp_path: Path, name: str) -> None:
    data, plain = of(MADE[name](photos, tmp_path / name)), of(photos)
    require_data(data)
    before = sorted(tmp_path.iterdir())
    source, expected = open_pretraining(data, 0), open_pretraining(plain, 0)
    assert (len(source), source.classes) == (7, ("cat", "dog"))
    assert source.labels.tolist() == expected.labels.tolist()
    assert record_of(source) == record_of(expected)  # a run continues with either
    assert all(torch.equal(source.read(k), expected.read(k)) for k in range(7))
    assert source.path(0) == f"{tmp_path / name}/set/train/cat/000.png"
    queries = open_evaluation(data, 0).queries
    assert queries.labels.tolist() == [0, 1, 1]
    assert queries.read(2)[0, 0, 0] == open_evaluation(plain, 0).queries.read(2)[0, 0, 0]
    assert sorted(tmp_path.iterdir()) == before  # nothing is unpacked
    assert "gone through set/" in source.notes  # type: ignore[attr-defined]


def test_threads_read_at_once(photos: Path, tmp_path: Path) -> None:
    source = open_pretraining(of(zipped(photos, tmp_path / "x.zip", compression=zipfile.ZIP_DEFLATED)), 0)
    expected = [source.read(k) for k in range(len(source))]
    failures: list[int] = []

    def read(first: int) -> None:
        for k in [*range(first, len(source)), *range(first)] * 5:
            if not torch.equal(source.read(k), expected[k]):
                failures.append(k)

    threads = [threading.Thread(target=read, args=[k % 7]) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def shard(file: Path, first: int, count: int, *, kind: str = "cls") -> Path:
    """Write a shard as WebDataset does: an image and its label have one key; the label is the shade's last digit."""
    with tarfile.open(file, "w") as archive:
        for k in range(first, first + count):
            picture = save(file.parent / "one.png", k).read_bytes()
            facts = {"label": k % 10, "group": f"video {k // 5}", "caption": "x"}
            label = str(k % 10) if kind == "cls" else json.dumps(facts)
            for ending, data in (("seg.txt", b"1"), (kind, label.encode()), ("png", picture)):
                info = tarfile.TarInfo(f"{k:06}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    (file.parent / "one.png").unlink()
    return file


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_shards_of_webdataset(tmp_path: Path, kind: str) -> None:
    for number in range(3):
        shard(tmp_path / f"set-train-{number:04}.tar", number * 5, 5, kind=kind)
    shard(tmp_path / "set-val-0000.tar", 100, 10, kind=kind)
    for data in (of(tmp_path), of(*sorted(tmp_path.glob("*.tar")))):
        require_data(data)
        source = open_pretraining(data, 0)
        assert source.labels.tolist() == [*range(10), *range(5)]
        assert [int(source.read(k)[0, 0, 0]) for k in range(15)] == list(range(15))
        groups = groups_of(source)
        assert (groups is None) == (kind == "cls")
        if groups is not None:
            assert [groups.names[k] for k in groups.of.tolist()] == [f"video {k // 5}" for k in range(15)]
        queries = open_evaluation(data, 0).queries
        assert [int(queries.read(k)[0, 0, 0]) for k in range(10)] == list(range(100, 110))
        assert len({entry.name for entry in entries_of(source)}) == 15


def test_the_split_in_a_name() -> None:
    names = ["imagenet1k-train-000012.tar", "TRAIN.zip", "val_3.tar", "a.tar", "train-and-test.tar", "trains.tar"]
    assert list(map(split_in, names)) == ["train", "train", "val", None, None, None]


def test_hostile_names_are_names(tmp_path: Path) -> None:
    save(tmp_path / "one.png")
    odd = ["../../up.png", "/etc/passwd.png", "a/./b//c.png", "C:\\x\\y.png", "\x1b[31m.png", "x" * 300 + ".png"]
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in odd:
            archive.add(tmp_path / "one.png", name)
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            link = tarfile.TarInfo(f"link{kind!r}.png")
            link.type, link.linkname = kind, "/etc/passwd"
            archive.addfile(link)
        archive.add(tmp_path / "one.png", "/".join(["deep"] * 100) + "/x.png")
    source = open_pretraining(of(tmp_path / "x.tar"), 0)
    assert len(source) == len(odd)
    assert all(source.read(k).shape == (3, 8, 8) for k in range(len(source)))
    assert all(shown(source.path(k)).isprintable() for k in range(len(source)))


def test_of_two_members_of_one_name_the_later_counts(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for shade in (1, 2):
            archive.add(save(tmp_path / "one.png", shade), "a/x.png")
    source = open_pretraining(of(tmp_path / "x.tar"), 0)
    assert [int(source.read(k)[0, 0, 0]) for k in range(len(source))] == [2]


def edited(file: Path, edit: Callable[[bytearray], object]) -> None:
    data = bytearray(file.read_bytes())
    edit(data)
    file.write_bytes(data)


def patch(where: bytes, offset: int, value: bytes) -> Callable[[bytearray], None]:
    def edit(data: bytearray) -> None:
        place = data.find(where)
        while place >= 0:
            data[place + offset : place + offset + len(value)] = value
            place = data.find(where, place + len(where))

    return edit


def lzma(root: Path, file: Path) -> Path:
    return zipped(root, file, compression=zipfile.ZIP_LZMA)


CENTRAL, LOCAL = b"PK\1\2", b"PK\3\4"
REFUSED: dict[str, tuple[str, Callable[[Path, Path], object], str]] = {
    "encrypted": ("x.zip", lambda r, f: edited(zipped(r, f), patch(CENTRAL, 8, b"\1")), "is encrypted"),
    "packed by LZMA": ("x.zip", lzma, "another way than deflate"),
    "a cut zip": ("x.zip", lambda r, f: os.truncate(zipped(r, f), 900), "damaged or cut off"),
    "a cut tar": ("x.tar", lambda r, f: os.truncate(tarred(r, f), 4000), "cut off"),
    "a tar cut in a header": ("x.tar", lambda r, f: os.truncate(tarred(r, f), header_in(f) + 100), "or cut off"),
    "a damaged header": ("x.tar", lambda r, f: edited(tarred(r, f), patch(b"ustar", -200, b"xxx")), "damaged"),
    "no archive": ("x.zip", lambda r, f: f.write_text("no archive"), "damaged or cut off"),
    "an empty tar": ("x.tar", lambda r, f: f.touch(), "damaged or cut off"),
    "no image": ("x.tar", lambda r, f: tarfile.open(f, "w").close(), "There is no image in the archive"),
    "a compressed tar": ("x.tar.gz", lambda r, f: tarfile.open(f, "w:gz").close(), "compressed as a whole"),
    "a tar that is compressed": ("x.tar", lambda r, f: tarfile.open(f, "w:xz").close(), "compressed as a whole"),
    "a header without an end": ("x.tar", lambda r, f: endless(f), "impossible size"),
}  # fmt: skip


def header_in(file: Path) -> int:
    """Return where the header of a member behind the first image is, at which tarfile would end without a word."""
    with tarfile.open(file) as archive:
        members = archive.getmembers()
    first = next(number for number, member in enumerate(members) if member.name.endswith(".png"))
    return members[first + 1].offset


def endless(file: Path) -> None:
    """State a name of 1 GB in a sparse file of that size."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 10**9
    file.write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    os.truncate(file, 10**9 + 4096)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(photos: Path, tmp_path: Path, name: str) -> None:
    file, make, message = REFUSED[name]
    make(photos, tmp_path / file)
    with pytest.raises(DataError, match=message) as caught:
        require_data(of(tmp_path / file))
    assert caught.value.message.isprintable()
    assert caught.value.message.count(". ") == 0
    assert caught.value.hint


def bomb(file: Path) -> None:
    """Write an image that inflates to two gigabytes, and one that inflates to more than it states."""
    whole = zlib.compressobj(9, wbits=-15)
    packed = b"".join(whole.compress(bytes(2**20)) for _ in range(64)) + whole.flush()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("large.png", "lying.png"):
            archive.writestr(name, packed)
    sizes = iter([2**31, 1000])

    def edit(data: bytearray) -> None:
        place = data.find(CENTRAL)
        while place >= 0:
            data[place + 10 : place + 12] = struct.pack("<H", zipfile.ZIP_DEFLATED)
            data[place + 24 : place + 28] = struct.pack("<L", next(sizes))
            place = data.find(CENTRAL, place + 4)

    edited(file, edit)


def reasons(file: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    source = open_pretraining(of(file), 0)
    for k in range(len(source)):
        try:
            source.read(k)
        except DataError as error:
            found[next(entries_of(source, [k])).name] = error.message
    return found


def test_an_image_that_inflates_without_an_end_is_bad(tmp_path: Path) -> None:
    bomb(tmp_path / "x.zip")
    tracemalloc.start()
    found = reasons(tmp_path / "x.zip")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**23
    assert "at most" in found["large.png"]
    assert "checksum" in found["lying.png"]


def test_a_damaged_image_is_bad_and_the_others_are_not(photos: Path, tmp_path: Path) -> None:
    file = zipped(photos, tmp_path / "x.zip")
    picture = (photos / "set/train/cat/001.png").read_bytes()
    edited(file, patch(picture, 40, b"\xff\xff"))
    assert {name: "checksum" in reason for name, reason in reasons(file).items()} == {"cat/001.png": True}
    edited(file, patch(LOCAL, 0, b"XX"))
    archive_index._index.cache_clear()
    assert set(reasons(file).values()) == {"it is damaged: it is not where its archive says"}


def test_an_archive_that_is_replaced_is_refused(photos: Path, tmp_path: Path) -> None:
    file = tarred(photos, tmp_path / "x.tar")
    source = open_pretraining(of(file), 0)
    shutil.copy(tarred(photos / "set", tmp_path / "y.tar"), file)
    with pytest.raises(DataError, match="archive has changed"):
        source.read(0)
    file.unlink()
    with pytest.raises(DataError, match="7 of 7 images"):
        list(read_all(source))


def test_places_of_several_kinds(photos: Path, tmp_path: Path) -> None:
    folder(tmp_path / "more", {"cat": 1, "emu": 1})
    (tmp_path / "list.csv").write_text(f"path,label\n{photos}/set/test/dog/000.png,dog\n")
    data = of(photos, tarred(photos / "set", tmp_path / "x.tar"), tmp_path / "more", tmp_path / "list.csv")
    require_data(data)
    source = open_pretraining(data, 0)
    assert source.classes == ("cat", "dog", "emu")
    assert source.labels.tolist() == [0, 0, 0, 0, 1, 1, 1] * 2 + [0, 2, 1]
    found = [entry.name for entry in entries_of(source, [0, 7, 14, 16])]
    prefix = photos.name
    assert found == [f"{prefix}/cat/000.png", "x.tar/cat/000.png", "more/cat/000.png", "list.csv/000.png"]
    assert len(open_evaluation(data, 0).queries) == 6  # of the folder and the archive


def test_folders_of_one_name_and_folders_without_labels(tmp_path: Path) -> None:
    folder(tmp_path, {"a/photos": 2, "b/photos": 1})
    source = open_pretraining(of(tmp_path / "a" / "photos", tmp_path / "b" / "photos"), 0)
    assert source.classes == ("a/photos", "b/photos")
    assert [entry.name for entry in entries_of(source)] == ["a/photos/000.png", "a/photos/001.png", "b/photos/000.png"]
    with pytest.raises(DataError, match="called 'cifar10'") as caught:
        require_data(DataSettings(source=(str(tmp_path / "a"), "cifar10")))
    assert "stands alone" in caught.value.hint


def test_a_hard_link_in_a_tar_is_an_image_as_in_a_folder(tmp_path: Path) -> None:
    save(tmp_path / "set" / "a" / "x.png", 7)
    (tmp_path / "set" / "b").mkdir()
    os.link(tmp_path / "set" / "a" / "x.png", tmp_path / "set" / "b" / "y")
    (tmp_path / "set" / "b" / "z.png").symlink_to("y")
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "set", "set")
        gone = tarfile.TarInfo("gone.png")
        gone.type, gone.linkname = tarfile.LNKTYPE, "nothing.png"
        archive.addfile(gone)
    source = open_pretraining(of(tmp_path / "x.tar"), 0)
    assert [entry.name for entry in entries_of(source)] == ["a/x.png", "b/y"]
    assert torch.equal(source.read(0), source.read(1))


def sparse(file: Path, data: bytes, hole: int) -> Path:
    """A tar of `x.png`, whose `data` follow a hole of so many bytes, and of a label that is one hole."""
    with tarfile.open(file, "w") as archive:
        for name, part in (("x.png", data), ("x.cls", b"")):
            info = tarfile.TarInfo(name)
            info.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name}
            info.pax_headers["GNU.sparse.realsize"] = str(hole + len(part))
            stored = (b"1\n%d\n%d\n" % (hole, len(part))).ljust(512, b"\0") + part
            info.size = len(stored)
            archive.addfile(info, io.BytesIO(stored))
    return file


def test_an_image_that_is_a_sparse_file_in_a_tar_is_read(tmp_path: Path) -> None:
    save(tmp_path / "x.png", 7)
    data = (tmp_path / "x.png").read_bytes()
    source = open_pretraining(of(sparse(tmp_path / "x.tar", data, 0)), 0)
    assert int(source.read(0)[0, 0, 0]) == 7
    for hole in (9, 2**20 + 9):
        files, _ = files_of(open_pretraining(of(sparse(tmp_path / "x.tar", data, hole)), 0), 0)
        assert files.stored(0) == bytes(hole) + data
    edited(tmp_path / "x.tar", lambda whole: whole.__delitem__(slice(2048, None)))
    archive_index._index.cache_clear()
    with pytest.raises(DataError, match="damaged or cut off"):
        require_data(of(tmp_path / "x.tar"))


@pytest.mark.parametrize("between", [0, 512, 10240, 3 * 2**20])
def test_tars_that_were_joined_are_one(tmp_path: Path, between: int) -> None:
    whole = b""
    for kind, first in (("cat", 0), ("dog", 100), ("cow", 200)):
        for k in range(2):
            save(tmp_path / kind / f"{k}.png", first + k)
        (tmp_path / kind / "0.txt").touch()
        whole += tarred(tmp_path / kind, tmp_path / f"{kind}.tar").read_bytes() + bytes(between)
    (tmp_path / "x.tar").write_bytes(whole)
    source = open_pretraining(of(tmp_path / "x.tar"), 0)  # of two members of one name the later one counts
    assert [(Path(source.path(k)).name, int(source.read(k)[0, 0, 0])) for k in range(len(source))] == [
        ("0.png", 200), ("1.png", 201)
    ]  # fmt: skip
    (tmp_path / "x.tar").write_bytes(
        tarred(tmp_path, tmp_path / "y.tar").read_bytes() + bytes(between) + b"signed" * 99
    )
    assert len(open_pretraining(of(tmp_path / "x.tar"), 0)) == 6


def test_a_link_in_a_zip_is_no_image(tmp_path: Path) -> None:
    save(tmp_path / "set" / "x.png", 7)
    zipped(tmp_path / "set", tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip", "a") as archive:
        link = zipfile.ZipInfo("y.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "x.png")
    assert len(open_pretraining(of(tmp_path / "x.zip"), 0)) == 1


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_archives_in_an_archive_are_counted_and_advised_on(photos: Path, tmp_path: Path, ending: str) -> None:
    make = {".zip": zipped, ".tar": tarred}[ending]
    (tmp_path / "set").mkdir()
    make(photos, tmp_path / "set" / f"inner{ending}")
    make(tmp_path / "set", tmp_path / f"x{ending}")
    with pytest.raises(DataError, match=rf"There is no image in .*passed over: 1 \{ending}") as caught:
        require_data(of(tmp_path / f"x{ending}"))
    assert caught.value.hint == "Unpack it once, and give the folder."
