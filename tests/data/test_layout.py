"""How folders are read: the usual names of splits, wrapping folders, classes too small to be asked about."""

from pathlib import Path

import pytest

from ssl_cli.config.tree import DataSettings
from ssl_cli.data.glance import glance
from ssl_cli.data.layout import Layout, find_layout, split_of
from ssl_cli.data.places import require_data
from ssl_cli.data.sources import open_evaluation, open_pretraining
from ssl_cli.errors import DataError, NoLabelsError
from tests.data.pictures import folder, save

IMAGES = (), True


def layout(tree: dict[str, tuple[tuple[str, ...], bool]]) -> Layout:
    return find_layout(lambda below: tree.get(below, IMAGES), "data")


def settings(path: Path) -> DataSettings:
    return DataSettings(source=str(path))


@pytest.mark.parametrize("train", ["train", "Train", "training", "TRAINING"])
@pytest.mark.parametrize("test", ["test", "Test", "testing", "val", "Valid", "validation", "VAL"])
def test_the_usual_names_of_splits_in_any_case(train: str, test: str) -> None:
    assert layout({"": ((test, train), False)}) == Layout(train, test)
    assert layout({"": (("set",), False), "set": ((test, train), False)}) == Layout(
        f"set/{train}", f"set/{test}", "set"
    )


def test_a_test_folder_is_preferred_to_a_validation_folder() -> None:
    assert layout({"": (("test", "train", "val"), False)}) == Layout("train", "test")
    assert layout({"": (("Validation", "train", "Testing"), False)}) == Layout("train", "Testing")


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"": (("cat", "dog"), False)}, Layout()),
        ({"": (("bird",), False)}, Layout()),  # one class
        ({"": (("set",), False), "set": (("cat", "dog"), False)}, Layout("set", None, "set")),
        ({"": (("a",), False), "a": (("b",), False), "a/b": (("c", "d"), False)}, Layout("a/b", None, "a/b")),
        ({"": (("set",), True), "set": (("cat", "dog"), False)}, Layout()),  # an image lies next to it
        ({"": (("set",), False), "set": (("cat",), True)}, Layout()),
        ({"": (("bus", "car", "train"), False)}, Layout()),  # a class of that name
        ({"": (("notes", "train"), False), "train": (("cat", "dog"), False)}, Layout("train")),
        ({"": (("train",), False)}, Layout("train")),
        ({"": (("cat", "test"), False)}, Layout()),
        (
            {
                "": (("test", "train"), False),
                "train": (("train",), False),
                "train/train": (("a", "b"), False),
                "test": (("test",), False),
                "test/test": (("a",), False),
            },
            Layout("train/train", "test/test"),
        ),
        (
            {
                "": (("test", "train"), False),
                "train": (("a", "b"), False),
                "test": (("a",), False),
                "test/a": (("x",), False),
            },
            Layout("train", "test"),
        ),
        ({"": (("set_one", "toy_train"), False)}, Layout()),
        ({"": (("toy_car", "toy_train"), False)}, Layout()),
        ({"": ((), False)}, Layout()),
    ],
)
def test_what_is_gone_through(tree: dict[str, tuple[tuple[str, ...], bool]], expected: Layout) -> None:
    assert layout(tree) == expected


@pytest.mark.parametrize(
    ("folders", "named"),
    [(("test", "val"), "no folder of training"), (("Train", "train"), "the training images"),
     (("test", "testing", "train"), "the test images")],
)  # fmt: skip
def test_splits_that_are_not_clear_are_refused_by_name(tmp_path: Path, folders: tuple[str, ...], named: str) -> None:
    folder(tmp_path, {f"{name}/{label}": 1 for name in folders for label in "ab"})
    for check in (require_data, lambda data: open_pretraining(data, 0)):
        with pytest.raises(DataError, match=named) as caught:
            check(settings(tmp_path))
        assert all(f"{name}/" in caught.value.message for name in folders if name != "train" or "Train" in folders)


@pytest.mark.parametrize("test", ["valid", "Validation", "TESTING"])
def test_no_split_is_a_class_or_is_trained_on(tmp_path: Path, test: str) -> None:
    folder(tmp_path, {"Set/Training/a": 4, "Set/Training/b": 3, f"Set/{test}/a": 2, f"Set/{test}/b": 2})
    source = open_pretraining(settings(tmp_path), 0)
    assert (len(source), source.classes) == (7, ("a", "b"))
    assert glance(settings(tmp_path), 0).images == 7
    evaluation = open_evaluation(settings(tmp_path), 0)
    assert (len(evaluation.bank), len(evaluation.queries)) == (7, 4)
    assert evaluation.note == f"the data's own {test}/"


def test_a_wrapping_folder_is_gone_through_and_said(tmp_path: Path) -> None:
    folder(tmp_path, {"dataset/a": 2, "dataset/b": 2})
    source = open_pretraining(settings(tmp_path), 0)
    assert source.classes == ("a", "b")
    assert "gone through dataset/" in getattr(source, "notes", ())
    assert "gone through dataset/" in glance(settings(tmp_path), 0).note


def test_one_class_is_named(tmp_path: Path) -> None:
    folder(tmp_path, {"bird": 4})
    with pytest.raises(NoLabelsError, match="of one class, 'bird'"):
        open_evaluation(settings(tmp_path), 0)


def test_classes_too_small_to_be_split_are_named(tmp_path: Path) -> None:
    folder(tmp_path, {"a": 6, "b": 1, "c": 1})
    note = open_evaluation(settings(tmp_path), 0).note
    assert "2 of its 3 classes have no test image, 2 of them with a single image: b, c" in note


def test_classes_without_a_test_image_of_their_own_are_named(tmp_path: Path) -> None:
    folder(tmp_path, {"train/a": 2, "train/b": 2, "test/a": 1})
    assert "1 of its 2 classes has no test image: b" in open_evaluation(settings(tmp_path), 0).note


def test_test_data_with_splits_of_its_own_are_its_test_images(tmp_path: Path) -> None:
    folder(tmp_path / "one", {"a": 2, "b": 2})
    folder(tmp_path / "two", {"train/a": 3, "train/b": 3, "test/a": 1, "test/b": 1})
    data = DataSettings(source=str(tmp_path / "one"), test=str(tmp_path / "two"))
    assert len(open_evaluation(data, 0).queries) == 2


def test_what_was_passed_over_is_counted_at_a_glance(tmp_path: Path) -> None:
    folder(tmp_path, {".": 3})
    for k in range(4):
        (tmp_path / f"{k}.PSD").write_bytes(b"8BPS")
    save(tmp_path / "@eaDir" / "x.png")
    assert "passed over: 4 .psd" in glance(settings(tmp_path), 0).note
    assert "1 @eaDir" in glance(settings(tmp_path), 0).note
    (tmp_path / "others").mkdir()
    for path in tmp_path.glob("*.PSD"):
        path.rename(tmp_path / "others" / path.name)
    with pytest.raises(DataError, match=r"no image in .*4 \.psd"):
        open_pretraining(settings(tmp_path / "others"), 0)


@pytest.mark.parametrize("around", ["{}_set", "{}set", "imgs_{}", "{} Images", "{}2017", "my-{}".replace("my", "data")])
def test_words_around_the_names_of_splits(around: str) -> None:
    train, test = around.format("Train"), around.format("test")
    assert layout({"": ((test, train), False)}) == Layout(train, test)


@pytest.mark.parametrize("around", ["seg_{}", "x_{}", "{}_256", "{}1", "{}_v2", "{}A", "{}_photos", "3 {} b"])
def test_folders_that_differ_in_their_split_alone(around: str) -> None:
    train, test = around.format("Train"), around.format("Test")
    assert layout({"": ((test, train, "others"), False)}) == Layout(train, test)
    with pytest.raises(DataError, match=r"seg_test/ and x_test/: which are the test images"):
        layout({"": (("seg_test", "seg_train", "x_test", "x_train"), False)})


def test_all_the_usual_names_of_training_images() -> None:
    assert layout({"": (("test", "trainval"), False)}) == Layout("trainval", "test")


@pytest.mark.parametrize("name", ["train_4", "trains", "test tube", "train_test", "train-é", "2017", "set", ""])
def test_other_names_are_of_no_split(name: str) -> None:
    assert split_of(name) is None


def test_folders_of_images_next_to_the_splits_are_named(tmp_path: Path) -> None:
    folder(tmp_path, {"train/a": 2, "train/b": 2, "test/a": 1, "more/a": 1})
    (tmp_path / "labels").mkdir()
    assert open_pretraining(settings(tmp_path), 0).notes == ("of no split, so not used: more/",)  # type: ignore[attr-defined]
    save(tmp_path / "next to them.png")
    assert open_pretraining(settings(tmp_path), 0).notes == ("of no split, so not used: ./, more/",)  # type: ignore[attr-defined]


def test_splits_in_each_class_are_said(tmp_path: Path) -> None:
    folder(tmp_path, {"a/train": 2, "a/test": 2, "b/train": 2})
    source = open_pretraining(settings(tmp_path), 0)
    assert len(source) == 6
    assert source.notes == ("a/ has splits of its own, all of which are used",)  # type: ignore[attr-defined]
