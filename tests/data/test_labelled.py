"""Labelled subsets: balanced, by the seed alone, one within the other, and never a test image."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ssl_cli.config.labels import Labels, parse_labels, read_labels
from ssl_cli.config.tree import DataSettings
from ssl_cli.data.labelled import choose, listed
from ssl_cli.data.sources import open_evaluation, open_pretraining, open_test
from ssl_cli.errors import DataError, NoLabelsError, UsageError
from tests.data.pictures import save

CLASSES = ("a", "b", "c")
LABELS = torch.tensor([0] * 200 + [1] * 40 + [2] * 7)[torch.randperm(247, generator=torch.Generator().manual_seed(0))]


def counts(chosen: Tensor) -> list[int]:
    return LABELS[chosen].bincount(minlength=3).tolist()


def test_a_share_is_one_of_each_class_and_of_each_at_least_one() -> None:
    assert counts(choose(LABELS, CLASSES, Labels(share=0.1), 0)) == [20, 4, 1]
    assert counts(choose(LABELS, CLASSES, Labels(share=0.01), 0)) == [2, 1, 1]
    assert torch.equal(choose(LABELS, CLASSES, Labels(share=1), 3), torch.arange(247))


def test_a_choice_depends_on_the_seed_alone_and_a_smaller_one_is_within_a_larger() -> None:
    small, large = (set(choose(LABELS, CLASSES, Labels(each=n), 5).tolist()) for n in (2, 6))
    assert small < large
    assert len(small) == 6
    assert set(choose(LABELS, CLASSES, Labels(share=0.03), 5).tolist()) < set(
        choose(LABELS, CLASSES, Labels(share=0.3), 5).tolist()
    )
    assert small == set(choose(LABELS, CLASSES, Labels(each=2), 5).tolist())
    assert small != set(choose(LABELS, CLASSES, Labels(each=2), 6).tolist())


def test_a_class_with_fewer_images_than_asked_for_is_named() -> None:
    with pytest.raises(DataError, match="The class 'c' has 7 training images, and 8 are asked for") as caught:
        choose(LABELS, CLASSES, Labels(each=8), 0)
    assert "7-per-class" in caught.value.hint


@pytest.mark.parametrize("text", ["0%", "101%", "-1%", "x", "0-per-class", "1.5-per-class", "", "%"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_labels(text)


def test_words_are_read() -> None:
    assert parse_labels("1%") == Labels(share=0.01)
    assert parse_labels(" 2.5 %") == Labels(share=0.025)
    assert parse_labels("4-per-class") == Labels(each=4)
    assert [parse_labels(text).few for text in ("1%", "10%", "100%", "4-per-class")] == [True, False, False, True]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name in ("cat", "dog"):
        for number in range(10):
            save(folder / name / f"{number}.png")
    return folder


def data(folder: Path, labels: str, **more: object) -> DataSettings:
    return DataSettings.model_validate({"source": str(folder), "labels": labels, "size": 8, **more})


@pytest.mark.parametrize("labels", ["100%", "3-per-class", "10%"])
def test_no_labelled_image_is_a_test_image(photos: Path, labels: str) -> None:
    settings = data(photos, labels)
    source, (test, _) = open_pretraining(settings, 4), open_test(settings, 4)
    names = {source.path(i) for i in range(len(source))}
    tested = {test.path(i) for i in range(len(test))}
    assert names
    assert not names & tested
    assert len(tested) == 4
    queries = open_evaluation(settings, 4).queries
    assert tested == {queries.path(i) for i in range(len(queries))}
    assert len(source) == {"100%": 16, "3-per-class": 6, "10%": 2}[labels]
    assert source.labels.bincount().unique(return_counts=True)[1].tolist() == [2]  # type: ignore[no-untyped-call]


def test_unused_labels_can_stay_as_unlabelled_images(photos: Path) -> None:
    source = open_pretraining(data(photos, "3-per-class", unlabelled=True), 0)
    assert len(source) == 20
    assert int((source.labels >= 0).sum()) == 6


def test_a_list_of_paths_takes_the_folder_s_labels_and_a_csv_its_own(photos: Path, tmp_path: Path) -> None:
    names = [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(5)]
    (tmp_path / "list.txt").write_text("\n".join(names))
    source = open_pretraining(data(photos, str(tmp_path / "list.txt")), 0)
    assert source.classes == ("cat", "dog")
    assert len(source) == 8
    odd = [f"{name},{'even' if int(name[4]) % 2 == 0 else 'odd'}" for name in names]
    (tmp_path / "own.csv").write_text("\n".join(["path,label", *odd]))
    source = open_pretraining(data(photos, str(tmp_path / "own.csv")), 0)
    assert source.classes == ("even", "odd")
    assert len(source) == 8
    assert all((int(Path(source.path(i)).stem) % 2 == 1) == bool(source.labels[i]) for i in range(8))


def test_labels_are_numbered_as_the_classes_of_the_run(photos: Path) -> None:
    source = open_pretraining(data(photos, "100%", classes=("bird", "dog", "cat")), 0)
    assert {source.classes[label] for label in source.labels.tolist()} == {"cat", "dog"}
    assert sorted(set(source.labels.tolist())) == [1, 2]
    with pytest.raises(DataError, match=r"The class 'cat' .* is not one of the run's: dog, emu"):
        open_pretraining(data(photos, "100%", classes=("dog", "emu")), 0)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "lists no image"),
        ("cat/99.png", "is no image of"),
        ("cat/0.png,a\ncat/0.png,b", "two labels"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(photos: Path, tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=what):
        open_pretraining(data(photos, str(file)), 0)


def test_images_without_labels_are_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(NoLabelsError):
        open_pretraining(data(photos / "cat", "10%"), 0)
    (tmp_path / "list.txt").write_text("0.png\n")
    with pytest.raises(DataError, match="has no label"):
        open_pretraining(data(photos / "cat", str(tmp_path / "list.txt")), 0)
    assert read_labels(tmp_path / "list.txt") == {"0.png": None}


@pytest.mark.parametrize("labels", ["100%", "3-per-class", "40%"])
@pytest.mark.parametrize("source", ["photos", "shapes", "file"])
def test_a_linear_probe_learns_from_the_images_that_fine_tuning_learns_from(
    photos: Path, tmp_path: Path, source: str, labels: str
) -> None:
    settings = data(photos, labels) if source != "shapes" else DataSettings(images=96, size=8, labels=labels)
    if source == "file":
        listing = tmp_path / "list.csv"
        listing.write_text("".join(f"cat/{n}.png,{'ab'[n % 2]}\n" for n in range(8)))
        settings = settings.model_copy(update={"labels": str(listing)})
    training = open_pretraining(settings, 4)
    found = open_evaluation(settings.model_copy(update={"labels": None}), 4, labels=settings.labels)
    assert [found.bank.path(i) for i in range(len(found.bank))] == [training.path(i) for i in range(len(training))]
    assert found.bank.labels.tolist() == training.labels.tolist()
    assert found.bank.classes == training.classes
    test, _ = open_test(settings, 4)
    assert [found.queries.path(i) for i in range(len(found.queries))] == [test.path(i) for i in range(len(test))]


@pytest.mark.parametrize("form", ["relative", "from here", "whole", "roundabout"])
def test_a_file_of_labels_names_images_as_embed_does(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("cat/0.png", "cat/1.png", "dog/0.png"):
        (tmp_path / "d" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    source = open_pretraining(DataSettings(source=str(tmp_path / "d")), 0)
    start = {"relative": "", "from here": "d/", "whole": f"{tmp_path}/d/", "roundabout": "./d/"}[form]
    file = tmp_path / "labels.csv"
    file.write_text(f"{start}cat/1.png,cat\n{start}dog/0.png,dog\n")
    assert listed(source, file).labels.tolist() == [-1, 0, 1]
    file.write_text(f"{start}cat/9.png,cat\n")
    with pytest.raises(DataError) as caught:
        listed(source, file)
    assert "relative to DATA, such as cat/0.png" in caught.value.hint
