"""What a run of a study is measured with: held-out training images, or without labels what needs none."""

from pathlib import Path

import pytest

from ssl_cli.study.measure import held_out, measure
from tests.data.pictures import folder, save
from tests.engine.toy_run import toy_settings, write_run
from tests.study.books import book, planned

FIRST, SECOND = planned("first"), planned("second")
BOOK = book(FIRST, SECOND, study="simclr-head")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("labelled")
    folder(place / "photos" / "train", {"cat": 30, "dog": 30})
    folder(place / "photos" / "test", {"cat": 5, "dog": 5})
    write_run(place / "run", toy_settings(source=str(place / "photos"), size=8))
    return place


def test_no_test_image_is_among_them(run: Path) -> None:
    images = held_out(toy_settings(source=str(run / "photos"), size=8), BOOK)
    paths = [part.path(index) for part in (images.bank, images.queries) for index in range(len(part))]
    assert len(paths) == len(set(paths)) == 60
    assert all("/train/" in path for path in paths)
    assert len(images.queries) == 12


def test_a_run_is_measured_by_neighbours_and_linearly(run: Path) -> None:
    first, second = (measure(run / "run", BOOK, arm) for arm in (FIRST, SECOND))
    assert {"knn", "linear", "queries", "untrained", "pixels"} == first.keys()
    assert {"knn", "linear", "queries"} == second.keys()
    assert {name: first[name] for name in second} == second
    assert first["queries"] == 12


def test_without_labels_all_arms_are_measured_with_the_first_one_s_views(tmp_path: Path) -> None:
    for number in range(20):
        save(tmp_path / "plain" / f"{number}.png", 10 * number)
    settings = toy_settings(source=str(tmp_path / "plain"), size=8)
    write_run(tmp_path / "run", settings)
    views = [planned(name) for name in ("first", "second")]
    for arm, scale in zip(views, ([1.0, 1.0], [0.2, 0.2]), strict=True):
        arm.settings["augment"] = {"order": ["crop"], "crop": {"scale": scale, "ratio": [1.0, 1.0]}}
    found = [measure(tmp_path / "run", book(*arms, study="simclr-head"), views[0]) for arms in (views, views[::-1])]
    assert found[0].keys() == {"consistency", "rankme", "queries"}
    assert found[0]["consistency"] == 1  # a view is the image itself
    assert found[0] == measure(tmp_path / "run", book(*views, study="simclr-head"), views[1])
