"""Text that is safe on a terminal, and curves of one line."""

import math
import os
from pathlib import Path

import pytest

from ssl_cli.ui.text import per_step, percent, rate, safe, sparkline
from tests.ui.events import HOSTILE


def test_nothing_that_a_terminal_obeys_remains() -> None:
    assert safe(HOSTILE).isprintable()
    assert safe(HOSTILE).encode("utf-8")
    assert safe("naïve/写真 [red]") == "naïve/写真 [red]"
    assert "\n" not in safe("two\nlines")


def test_paths_below_the_current_folder_are_relative_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path)
    here = os.getcwd()  # noqa: PTH109
    for text, short in {
        f"{here}/a b/c.png": "a b/c.png",
        f"Cannot open '{here}/a': no, {here}/b.": "Cannot open 'a': no, b.",
        f"--out={here}/a": "--out=a",
        here: here,
        f"{here}/": f"{here}/",
        f"{here}er/a": f"{here}er/a",
        f"/mnt{here}/a": f"/mnt{here}/a",
        f"{here}/-rf": f"{here}/-rf",
    }.items():
        assert safe(text) == short
    monkeypatch.chdir("/")
    assert safe(f"{here}/a") == f"{here}/a"
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert safe(f"{here}/gone/a") == f"{here}/gone/a"


def test_percent() -> None:
    assert percent(0.8123) == "81.2 %"


def test_rates() -> None:
    assert (per_step(2.0), per_step(0.1234), per_step(0.0004)) == ("2.00 s", "123 ms", "0 ms")
    assert (rate(12345.6), rate(812.4), rate(3.21)) == ("12,346", "812", "3.2")


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([], 5, ""),
        ([1.0, 2.0], 0, ""),
        ([1.0, 1.0], 5, "▁▁"),
        ([7.0, 0.0], 5, "█▁"),
        ([8.0, 6.0, 0.0, 0.0], 2, "█▁"),
        ([math.nan, 0.0, 7.0], 3, " ▁█"),
        ([math.nan, math.inf], 3, ""),
    ],
)
def test_sparkline(values: list[float], width: int, line: str) -> None:
    assert sparkline(values, width) == line


def test_a_sparkline_is_no_wider_than_asked() -> None:
    for count in range(1, 50):
        assert len(sparkline([float(i) for i in range(count)], 20)) == min(count, 20)
