"""The same images elsewhere are the same data; of others it is said how many differ."""

import shutil
import tracemalloc
from pathlib import Path

import pytest
import torch

from ssl_cli.config.tree import DataSettings
from ssl_cli.data.compact import Names
from ssl_cli.data.fingerprint import FILE, Record, record_of, require_same
from ssl_cli.data.source import entries_of, groups_of
from ssl_cli.data.sources import open_pretraining
from ssl_cli.data.split import subset
from ssl_cli.errors import DataError
from tests.data.pictures import folder, save


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return folder(tmp_path / "photos", {"a": 3, "b": 3})


def record(path: Path, **more: object) -> Record:
    return record_of(open_pretraining(DataSettings.model_validate({"source": str(path), **more}), 0))


def difference(path: Path, before: Record, run: Path) -> str:
    before.write(run)
    with pytest.raises(DataError) as caught:
        require_same(record(path), before.fingerprint, before.images, run)
    return caught.value.message


def test_the_same_images_elsewhere_are_the_same(photos: Path, tmp_path: Path) -> None:
    before = record(photos)
    photos.rename(tmp_path / "moved")
    require_same(record(tmp_path / "moved"), before.fingerprint, before.images, tmp_path)
    shutil.copytree(tmp_path / "moved", tmp_path / "wrapped" / "set" / "train")
    require_same(record(tmp_path / "wrapped"), before.fingerprint, before.images, tmp_path)


def test_what_differs_is_counted_with_an_example(photos: Path, tmp_path: Path) -> None:
    before = record(photos)
    (photos / "a" / "001.png").unlink()
    assert "of 6 there are 1 gone, such as 'a/001.png'" in difference(photos, before, tmp_path)
    save(photos / "b" / "new\n\x1b[2J.png")
    message = difference(photos, before, tmp_path)
    assert "1 gone, 1 new, such as 'a/001.png'" in message
    assert message.isprintable()
    save(photos / "a" / "001.png", size=(90, 70))
    (photos / "b" / "new\n\x1b[2J.png").unlink()
    assert "1 of another size, label or group, such as 'a/001.png'" in difference(photos, before, tmp_path)


def test_labels_count(photos: Path, tmp_path: Path) -> None:
    for name, labels in (("one", "ab"), ("two", "ba")):
        rows = [f"{photos}/{kind}/{k:03}.png,{label}" for kind, label in zip("ab", labels, strict=True) for k in (0, 1)]
        (tmp_path / f"{name}.csv").write_text("\n".join(rows))
    before = record(tmp_path / "one.csv")
    assert "4 of another size, label or group" in difference(tmp_path / "two.csv", before, tmp_path)


def test_without_its_file_it_is_still_refused(photos: Path, tmp_path: Path) -> None:
    before = record(photos)
    (photos / "a" / "001.png").unlink()
    with pytest.raises(DataError, match="it was on 6, there are 5, and which differ is not known"):
        require_same(record(photos), before.fingerprint, before.images, tmp_path)
    (tmp_path / FILE).write_bytes(b"\x1f\x8bdamaged")
    with pytest.raises(DataError, match="which differ is not known"):
        require_same(record(photos), before.fingerprint, before.images, tmp_path)


def test_a_run_without_a_fingerprint_counts(photos: Path, tmp_path: Path) -> None:
    require_same(record(photos), "", 6, tmp_path)
    with pytest.raises(DataError, match="was on 7 images, and now there are 6"):
        require_same(record(photos), "", 7, tmp_path)


def test_a_part_of_the_images_has_a_fingerprint_of_its_own(photos: Path) -> None:
    assert record(photos, limit=2).images == 4
    assert record(photos, limit=2).fingerprint != record(photos).fingerprint
    assert record(photos, limit=3) == record(photos)


def test_images_that_are_no_files_have_none() -> None:
    shapes = record_of(open_pretraining(DataSettings(images=16, size=8), 0))
    assert (shapes.images, shapes.fingerprint) == (16, "")


def test_names_in_one_buffer() -> None:
    words = ["a", "", "é/漢.png", "\udcff", "x\ny"]
    names = Names(words)
    assert list(names) == words
    assert [names[k] for k in names.order()] == sorted(words)
    assert not names.is_sorted
    assert Names(sorted(words)).is_sorted
    with pytest.raises(IndexError):
        names[5]
    assert len(Names()) == 0


def test_names_take_their_own_bytes_and_eight_more() -> None:
    words = [f"class{k % 100:04}/n{k:08}.JPEG" for k in range(20_000)]
    tracemalloc.start()
    names = Names(words)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 1.3 * sum(len(word) + 8 for word in words)
    assert len(names) == 20_000


def test_a_part_in_another_order_keeps_names_and_groups(photos: Path) -> None:
    rows = [f"{kind}/{k:03}.png,{kind},site {k}" for kind in "ba" for k in (2, 0, 1)]
    (photos / "list.csv").write_text("\n".join(["path,label,group", *rows]))
    source = open_pretraining(DataSettings(source=str(photos / "list.csv")), 0)
    chosen = subset(subset(source, torch.tensor([5, 0, 3])), torch.tensor([2, 0]))
    groups = groups_of(chosen)
    assert groups is not None
    assert [groups.names[k] for k in groups.of.tolist()] == ["site 0", "site 2"]
    assert [entry.name for entry in entries_of(chosen)] == ["b/000.png", "b/002.png"]
    assert [entry.name for entry in entries_of(chosen, [1])] == ["b/002.png"]
    assert [entry.size for entry in entries_of(chosen)] == [(photos / "b/000.png").stat().st_size] * 2
