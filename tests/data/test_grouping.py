"""Groups by the path of an image, and splits that no group is on both sides of."""

import zipfile
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from ssl_cli.config.group_by import group_by, require_group_by
from ssl_cli.config.tree import DataSettings
from ssl_cli.data.fingerprint import record_of
from ssl_cli.data.places import require_data
from ssl_cli.data.source import Source, groups_of
from ssl_cli.data.sources import open_evaluation, open_pretraining, open_test
from ssl_cli.data.split import hold_out, queries_and_bank
from ssl_cli.errors import DataError, UsageError
from tests.data.pictures import save

DEEP = "cat/patient_07/left/003.slice.png"


@pytest.mark.parametrize(
    ("words", "path", "group"),
    [
        ("{parent}", DEEP, "left"),
        ("{folder}", DEEP, "cat/patient_07/left"),
        ("{stem}", DEEP, "003.slice"),
        ("{parent}-{stem}", DEEP, "left-003.slice"),
        ("{parent}", "loose.png", None),
        ("{stem}", "README", "README"),
        (r"patient_(\d+)", DEEP, "07"),
        (r"patient_\d+", DEEP, "patient_07"),
        (r"^([^/]+)/patient_(\d+)", DEEP, "cat/07"),
        (r"(left)|(right)", DEEP, "left"),
        (r"(\d{3})\.", DEEP, "003"),
        ("dog", DEEP, None),
        ("x*", DEEP, None),
    ],
)
def test_the_group_of_a_path(words: str, path: str, group: str | None) -> None:
    assert group_by(words)(path) == group


@pytest.mark.parametrize("words", ["(", "{folders}", "a{parent}{x}", "*"])
def test_other_words_are_refused_where_settings_are_settled(words: str) -> None:
    with pytest.raises(ValidationError, match=r"no \{|regular expression"):
        DataSettings(group_by=words)
    with pytest.raises(UsageError, match="--group-by"):
        require_group_by(words)


def photos(root: Path, groups: dict[str, int], start: int = 0) -> Path:
    shade = start
    for name, count in groups.items():
        for k in range(count):
            save(root / name / f"{k}.png", shade % 256)
            shade += 1
    return root


def names_of(source: Source) -> list[str | None]:
    groups = groups_of(source)
    assert groups is not None
    return [groups.names[k] if k >= 0 else None for k in groups.of.tolist()]


def of_paths(source: Source) -> dict[str, str | None]:
    return {source.path(k): name for k, name in enumerate(names_of(source))}


def test_a_folder_is_grouped_by_the_folders_in_it_and_what_is_in_none_is_counted(tmp_path: Path) -> None:
    photos(tmp_path, {"cat/v1": 2, "cat/v2": 1, "dog/v1": 2})
    save(tmp_path / "loose.png", 200)
    by_parent = open_pretraining(DataSettings(source=str(tmp_path), group_by="{parent}"), 0)
    assert names_of(by_parent) == ["v1", "v1", "v2", "v1", "v1", None]
    assert by_parent.notes == ("in no group: 1",)  # type: ignore[attr-defined]
    by_folder = open_pretraining(DataSettings(source=str(tmp_path), group_by="{folder}"), 0)
    assert set(names_of(by_folder)) == {"cat/v1", "cat/v2", "dog/v1", None}
    assert groups_of(open_pretraining(DataSettings(source=str(tmp_path)), 0)) is None
    limited = open_pretraining(DataSettings(source=str(tmp_path), group_by="{parent}", limit=1), 0)
    assert names_of(limited) == ["v1", "v1", None]


def test_paths_begin_at_the_place_wherever_it_lies_and_with_its_name_where_there_are_several(tmp_path: Path) -> None:
    a, b = photos(tmp_path / "v9" / "a", {"v1": 2}), photos(tmp_path / "v9" / "b", {"v1": 1, "v2": 1}, 9)
    save(b / "loose.png", 77)
    by_digit = open_pretraining(DataSettings(source=str(b), group_by=r"v\d"), 0)
    assert names_of(by_digit) == [None, "v1", "v2"]
    both = open_pretraining(DataSettings(source=(str(a), str(b)), group_by="{folder}"), 0)
    assert names_of(both) == ["a/v1", "a/v1", "b", "b/v1", "b/v2"]


@pytest.mark.parametrize("inside", [True, False])
def test_a_list_is_grouped_by_the_paths_as_it_gives_them(tmp_path: Path, inside: bool) -> None:
    """Also where all are of one folder, which the names of the images are then without."""
    photos(tmp_path / "all" / "v1", {"take1": 2, "take2": 1})
    file = tmp_path / "list.txt" if inside else tmp_path / "elsewhere" / "list.txt"
    file.parent.mkdir(exist_ok=True)
    paths = sorted((tmp_path / "all").rglob("*.png"))
    file.write_text("\n".join(str(path.relative_to(tmp_path) if inside else path) for path in paths))
    source = open_pretraining(DataSettings(source=str(file), group_by="all/([^/]+)/([^/]+)"), 0)
    assert names_of(source) == ["v1/take1", "v1/take1", "v1/take2"]
    one = file.with_name("one.txt")
    one.write_text(str(paths[0]))
    assert names_of(open_pretraining(DataSettings(source=str(one), group_by="{parent}"), 0)) == ["take1"]


def test_what_is_asked_for_replaces_the_column_of_a_list(tmp_path: Path) -> None:
    photos(tmp_path, {"v1": 2, "v2": 1})
    (tmp_path / "list.csv").write_text("path,group\nv1/0.png,x\nv1/1.png,y\nv2/0.png,x\n")
    data = DataSettings(source=str(tmp_path / "list.csv"))
    assert names_of(open_pretraining(data, 0)) == ["x", "y", "x"]
    assert names_of(open_pretraining(data.model_copy(update={"group_by": "{parent}"}), 0)) == ["v1", "v1", "v2"]


def test_an_archive_is_grouped_as_the_folder_in_it(tmp_path: Path) -> None:
    photos(tmp_path / "set", {"cat/v1": 2, "dog/v2": 1})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path))
    found = open_pretraining(DataSettings(source=str(tmp_path / "set.zip"), group_by="{folder}"), 0)
    assert names_of(found) == ["cat/v1", "cat/v1", "dog/v2"]


def test_a_pattern_that_finds_no_group_is_refused_with_a_path(tmp_path: Path) -> None:
    photos(tmp_path, {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match=r"finds no group in any path, such as 'cat/0\.png'") as caught:
        open_pretraining(DataSettings(source=str(tmp_path), group_by="bird"), 0)
    assert "{parent}" in caught.value.hint


@pytest.mark.parametrize("asked", [{"group_by": "{parent}"}, {"positives": "group"}])
@pytest.mark.parametrize("source", [None, "cifar10"])
def test_groups_of_a_set_without_paths_are_refused_at_once(source: str | None, asked: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"'(shapes|cifar10)' have no groups"):
        require_data(DataSettings.model_validate({"source": source, **asked}))


def test_the_fingerprint_is_of_the_groups_too_where_they_decide_what_a_step_computes(tmp_path: Path) -> None:
    photos(tmp_path, {"cat/v1": 2, "dog/v2": 1})
    plain, parent, folder = (
        open_pretraining(DataSettings(source=str(tmp_path), group_by=words), 0)
        for words in (None, "{parent}", "{folder}")
    )
    assert len({record_of(source).fingerprint for source in (plain, parent, folder)}) == 1
    assert len({record_of(source, by_group=True).fingerprint for source in (plain, parent, folder)}) == 3


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_where_each_image_is_a_group_the_split_is_that_without_groups(fraction: float) -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(-1, 5, (203,), generator=generator)
    for group in (torch.arange(203), torch.randperm(203, generator=generator)):
        for a, b in zip(hold_out(labels, 7, fraction), hold_out(labels, 7, fraction, group), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [2, 6, 40, 190])
def test_no_group_is_on_both_sides_and_the_fraction_is_about_met(seed: int, groups: int) -> None:
    """Sizes from one to many, several classes in a group, images without a label."""
    generator = torch.Generator().manual_seed(seed)
    group = (torch.rand(200, generator=generator).square() * groups).long()
    labels = (group % 3 + (torch.rand(200, generator=generator) < 0.2)) % 4 - 1
    rest, held = hold_out(labels, seed, 0.2, group)
    assert sorted([*rest.tolist(), *held.tolist()]) == list(range(200))
    assert not set(group[rest].tolist()) & set(group[held].tolist())
    assert torch.equal(held, held.sort().values)
    if groups > 6:
        assert 0.1 <= len(held) / 200 <= 0.3
    again = hold_out(labels, seed, 0.2, group)
    assert torch.equal(held, again[1])
    assert groups <= 6 or not torch.equal(held, hold_out(labels, seed + 50, 0.2, group)[1])


def test_a_class_of_two_groups_has_one_on_each_side_and_a_class_of_one_is_not_split() -> None:
    labels = torch.tensor([0] * 12 + [1] * 5 + [2] * 2)
    group = torch.tensor([0] * 10 + [1] * 2 + [2] * 5 + [3, 4])
    rest, held = hold_out(labels, 0, 0.2, group)
    assert sorted({*group[held].tolist()}) in ([1, 3], [1, 4])
    assert 2 in group[rest].tolist()


def bursts(root: Path) -> Path:
    """Three classes of five bursts of four images; a class of one burst."""
    counts = {f"{name}/burst{name}{k}": 4 for name in ("ant", "bee", "cow") for k in range(5)}
    return photos(root, {**counts, "dodo/only": 4})


def test_every_split_of_ours_is_in_whole_groups(tmp_path: Path) -> None:
    data = DataSettings(source=str(bursts(tmp_path)), group_by="{parent}")
    found = open_evaluation(data, 3)
    assert "in whole groups: none is on both sides" in found.note
    assert "1 of its 4 classes has no test image, 1 of them with a single group: dodo" in found.note
    assert len(found.queries) == 12
    assert not set(names_of(found.bank)) & set(names_of(found.queries))
    test, note = open_test(data, 3)
    assert of_paths(test) == of_paths(found.queries)
    assert "in whole groups" in note
    few = data.model_copy(update={"labels": "50%"})
    assert not set(names_of(open_pretraining(few, 3))) & set(names_of(test))
    plain = open_evaluation(data.model_copy(update={"group_by": None}), 3)
    assert "groups" not in plain.note
    assert of_paths(found.queries).keys() != {plain.queries.path(k) for k in range(len(plain.queries))}


def test_groups_on_both_sides_of_a_given_split_are_counted(tmp_path: Path) -> None:
    photos(tmp_path / "train", {"a/v1": 2, "b/v2": 2, "b/v3": 1})
    photos(tmp_path / "test", {"a/v1": 2, "b/v3": 1, "b/v4": 1}, 30)
    data = DataSettings(source=str(tmp_path), group_by="{parent}")
    assert "2 of the 3 groups of the test images are among the training images" in open_evaluation(data, 0).note
    photos(tmp_path / "other", {"a": 1, "b": 1}, 60)  # whose paths have no such groups
    by_video = data.model_copy(update={"group_by": r"v\d", "test": str(tmp_path / "other")})
    assert "groups of the test images" not in open_evaluation(by_video, 0).note


def test_one_group_a_class_cannot_be_split(tmp_path: Path) -> None:
    photos(tmp_path, {"a/v1": 5, "b/v2": 5})
    with pytest.raises(DataError, match="holds one group of each class"):
        open_evaluation(DataSettings(source=str(tmp_path), group_by="{parent}"), 0)


def test_the_monitor_s_parts_share_no_group(tmp_path: Path) -> None:
    source = open_pretraining(DataSettings(source=str(bursts(tmp_path)), group_by="{parent}"), 0)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:50]
    queries, bank = queries_and_bank(source, order, 0, 0.2)
    assert len(queries) + len(bank) == 50
    assert 4 <= len(queries) <= 16
    assert not set(names_of(queries)) & set(names_of(bank))
    plain = open_pretraining(DataSettings(source=str(tmp_path)), 0)
    queries, bank = queries_and_bank(plain, order, 0, 0.2)
    assert queries.indices.tolist() == order[:10].tolist()  # type: ignore[attr-defined]
    assert bank.indices.tolist() == order[10:].tolist()  # type: ignore[attr-defined]
