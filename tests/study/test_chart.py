"""Charts as files: pictures that other programs open, the same at each drawing; a sentence without matplotlib."""

import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from ssl_cli.study.book import Result
from ssl_cli.study.chart import draw
from ssl_cli.study.summary import Summary
from tests.study.books import CLEAR, ROAD, TWO, book, planned, with_results


@pytest.mark.slow
def test_each_kind_of_study_is_a_png_and_an_svg(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    names = ("crop-jitter", "crop", "jitter")
    pairs = with_results(book(*map(planned, names), study="augmentations"), {name: {0: 0.4} for name in names})
    heads = with_results(book(planned("a"), planned("b"), study="simclr-head"), {"a": {0: 0.4, 1: 0.5}, "b": {0: 0.1}})
    all_labels = replace(ROAD.arms[1], name="scratch-100pct", group="all labels")
    road = replace(ROAD, arms=(*ROAD.arms, all_labels))
    for name in ("scratch-1pct", "layer1-1pct", "scratch-100pct"):
        road = road.with_result(Result(name, 0, "finished", numbers={"classifier": 0.4}))
    for number, found in enumerate((CLEAR, heads, pairs, road)):
        place = tmp_path / str(number)
        place.mkdir()
        png, svg = draw(Summary(found), place)
        with Image.open(png) as image:
            assert min(image.size) > 200
            assert len(image.convert("L").getcolors(256) or ()) > 10
        assert len(svg.read_bytes()) > 5000
        assert "svg" in ET.parse(svg).getroot().tag
        assert sorted(path.name for path in place.iterdir()) == ["study.png", "study.svg"]


def test_nothing_is_drawn_without_results_or_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert draw(Summary(TWO), tmp_path) == []
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert draw(Summary(CLEAR), tmp_path) == []
    assert list(tmp_path.iterdir()) == []
