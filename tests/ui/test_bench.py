"""A benchmark's tables and document."""

import io
import json
from functools import reduce

import pytest
from rich.console import Console

from ssl_cli.ui import bench, report
from ssl_cli.ui.screen import Screen, fold
from ssl_cli.ui.view import panel
from tests.ui.events import HOSTILE, MEASURED, benchmark

WHOLE = reduce(fold, benchmark(), Screen())


def shown(screen: Screen, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as written:
        console.print(bench.tables(screen, width))
    return written.get()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_tables_fit_and_are_complete(width: int) -> None:
    text = shown(WHOLE, width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "\x1b" not in text
    assert "\x07" not in text
    words = " ".join(text.split())
    for expected in (
        "simclr, resnet18, width 0.25, 32 px, batch 256; cpu, 2 threads, bf16 channels_last, direct",
        "88.6 GB/s 86 to 89, n 7", "1.02 TFLOP/s 980 GFLOP/s to 1.1 TFLOP/s, n 7", "1,100 images/s 1,050 to 1,120, n 7",
        "50.0 % of matrix bf16", "1,023 images/s: network 93.0 %, augmentation 7.0 %",
    ):  # fmt: skip
        assert expected in words, expected


def test_at_120_columns_a_part_is_a_line() -> None:
    (line,) = [line for line in shown(WHOLE, 120).splitlines() if line.startswith("step")]
    assert "50.0 % of matrix bf16  3.4 x plain PyTorch, float32" in line


def test_the_machine_comes_first_in_a_settled_order() -> None:
    starts = [line.split("  ")[0] for line in shown(WHOLE, 120).splitlines() if line and not line.startswith(" ")]
    assert starts[1:8] == ["this machine", "matrix bf16", "memory copy", "this run", "step", "augment", "together"]
    assert starts[-1] == "advice"


def test_part_of_a_benchmark() -> None:
    alone = reduce(fold, [MEASURED], Screen())
    assert "this machine" not in shown(alone, 80)
    assert shown(alone, 80).startswith("this run")
    document = report.document("bench", alone)
    assert (document["machine"], document["run"]) == ({}, {})
    assert "advice" not in document


@pytest.mark.parametrize(
    ("rate", "unit", "expected"),
    [
        (234.4e9, "FLOP/s", "234 GFLOP/s"), (1.5e12, "B/s", "1.5 TB/s"), (99.5e6, "B/s", "99.5 MB/s"),
        (16_712.4, "images/s", "16,712 images/s"), (3.14159, "images/s", "3.14 images/s"), (12.0, "B/s", "12 B/s"),
    ],
)  # fmt: skip
def test_amounts(rate: float, unit: str, expected: str) -> None:
    assert bench.amount(rate, unit) == expected


def test_the_document() -> None:
    document = json.loads(json.dumps(report.document("bench", WHOLE)))
    assert (document["schema"], document["command"], document["warnings"]) == (1, "bench", [])
    assert document["machine"]["memory copy"] == {"rate": 88.6e9, "unit": "B/s", "quartiles": [86e9, 89e9], "n": 7}
    step = document["parts"]["step"]
    assert step["bounds"] == {"matrix bf16": 2200.0, "memory": 5900.0}
    assert (step["bound"], step["share"]) == ("matrix bf16", 0.5)
    assert step["reference"] == {"what": "plain PyTorch, float32", "rate": 320.0, "ratio": 1100 / 320}
    assert document["advice"]["setting"] == "--set data.cache=ram"
    assert document["advice"]["gain"] == 1.3
    assert document["shares"] == {"network": 0.93, "augmentation": 0.07, "loss": 0.0}
    assert (document["images_per_second"], document["run"]["data"]) == (1023.3, HOSTILE)


def test_on_the_way_the_newest_is_shown() -> None:
    assert bench.line(MEASURED) == "step: 1,100 images/s, 50.0 % of matrix bf16"
    console = Console(file=io.StringIO(), width=80, color_system=None)
    with console.capture() as written:
        console.print(panel("bench", reduce(fold, [MEASURED], Screen()), 12.0, 0.0))
    assert "working, 12 s; step: 1,100 images/s, 50.0 % of matrix bf16" in written.get()
