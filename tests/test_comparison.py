"""`sslcli runs compare`: what differs, what was reached, in the shell, as JSON and as a picture."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssl_cli import records
from ssl_cli.cli import main
from ssl_cli.comparison import Comparison, compare
from tests.test_curves import stepped
from tests.test_runs import SETTINGS, made


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two runs that differ in width and temperature; the first is better."""
    monkeypatch.chdir(tmp_path)
    for name, width, temperature, loss, knn in (("a", 0.5, 0.2, 1.0, 0.75), ("b", 0.25, 0.1, 2.0, 0.5)):
        steps = "".join(json.dumps(stepped(step, loss=loss + 1 / step)) + "\n" for step in range(1, 9))
        steps = json.dumps({"event": "started", "step": 0, "time": 0.0}) + "\n" + steps
        finished = {"event": "finished", "step": 8, "time": 2.0, "seconds": 90.0, "rate": 812.0}
        plan = {"expected": {"parameters": 1234567}, "resolved": {"sized": {"model.width": width}}}
        result = {"result": {"top1": knn}}
        made(tmp_path / name, metrics=f"{steps}{json.dumps(finished)}\n", plan_json=plan, eval__knn_json=result)
        text = SETTINGS.replace('"moco-v2"', f'"moco-v2"\ntemperature = {temperature}\nhead_dim = 128')
        (tmp_path / name / "settings.toml").write_text(f'{text}out = "{name}"\n')
    return ["a", "b"]


def compared(runs: list[str]) -> Comparison:
    folders = [Path(name) for name in runs]
    return compare(folders, [list(records.events(folder)) for folder in folders])


def test_settings_that_differ_are_found(runs: list[str]) -> None:
    found = compared(runs)
    assert found.changed == {"method.temperature": [0.2, 0.1], "model.width": [0.5, 0.25]}
    first = found.runs[0]
    assert (first.seconds, first.rate, first.parameters, first.run.knn) == (90.0, 812.0, 1234567, 0.75)


def test_the_time_is_that_of_all_processes(runs: list[str]) -> None:
    """One is stopped at step 6, one is killed at 7, and its work lost; the third ends, the last has nothing left."""
    events = [
        ("started", 0, 10.0, {}), ("stepped", 5, 18.0, {}), ("stopped", 6, 20.0, {}), ("evaluated", 6, 99.0, {}),
        ("planned", 0, 100.0, {}), ("started", 6, 110.0, {}), ("stepped", 7, 113.0, {}),
        ("planned", 0, 200.0, {}), ("started", 6, 210.0, {}), ("stepped", 8, 212.0, {}),
        ("finished", 8, 212.0, {"seconds": 2.5, "rate": 812.0}), ("evaluated", 8, 300.0, {}),
        ("planned", 0, 400.0, {}), ("started", 8, 410.0, {}),
        ("finished", 8, 410.0, {"seconds": 1e-5, "rate": 0.0}), ("evaluated", 8, 420.0, {}),
    ]  # fmt: skip
    lines = [json.dumps({"event": name, "step": step, "time": time, **more}) for name, step, time, more in events]
    Path("a/metrics.jsonl").write_text("\n".join(lines))
    first = compared(runs).runs[0]
    assert (first.seconds, first.rate) == (10.0 + 3.0 + 2.5, 812.0)


def test_curves_are_not_drawn_among_the_images_of_a_run(
    runs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    Path("photos").mkdir()
    assert main(["runs", "compare", *runs, "--plot", "photos/curves.png"]) == 2
    assert "among the images of photos" in capsys.readouterr().err


def test_events_are_read_once(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read, events = list[str](), records.events

    def counted(run: Path) -> Iterator[dict[str, Any]]:
        read.append(str(run))
        return events(run)

    monkeypatch.setattr(records, "events", counted)
    assert main(["runs", "compare", *runs, "--json"]) == 0
    assert read == runs


def test_they_stand_side_by_side(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", *runs]) == 0
    out = capsys.readouterr().out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.strip()}
    assert rows["method.temperature"] == ["0.2", "0.1"]
    assert rows["model.width"] == ["0.5", "0.25"]
    assert rows["kNN"][:4] == ["75.0", "%", "50.0", "%"]
    assert rows["time"] == ["1", "min", "30", "s", "1", "min", "30", "s"]
    assert rows["parameters"] == ["1,234,567", "1,234,567"]
    assert rows["loss"][:2] == ["1.125", "2.125"] or "loss curve" in out
    assert "█" in out
    assert "head_dim" not in out
    assert "linear" not in out  # neither was measured so


def test_as_json_and_as_a_picture(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "compare", *runs, "--plot", "both.png", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["command"], found["plot"]) == ("runs compare", "both.png")
    assert found["changed"]["model.width"] == [0.5, 0.25]
    assert [run["knn"] for run in found["runs"]] == [0.75, 0.5]
    assert found["curves"]["loss"][1][0] == [0.1, 3.0]
    assert Path("both.png").read_bytes().startswith(b"\x89PNG")
    assert main(["runs", "compare", "a", "--plot", "one.png"]) == 0  # of one run the picture is enough of a reason
    assert "one.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["compare", "a"], 2, "Two runs at least"),
        (["compare"], 2, "Two runs at least"),
        (["compare", "a", "none"], 4, "There is no run in none"),
        (["compare", "a", "./a"], 2, "named twice"),
        (["compare", "a", "b", "--plot", "c.jpg"], 2, "c.jpg would not be a PNG"),
        (["a", "b"], 2, "2 folders are given"),
        (["a", "--plot", "c.png"], 2, "--plot is for sslcli runs compare"),
    ],
)
def test_wrong_words_get_one_sentence(
    runs: list[str], words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", *words]) == code
    assert said in capsys.readouterr().err


def test_a_folder_called_compare_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "compare" / "x")
    assert main(["runs", "compare"]) == 0
    assert "x" in capsys.readouterr().out


@pytest.mark.parametrize(
    "files",
    [
        {"settings.toml": "method = 3\nrun = [1]\n[model]\nwidth = 'wide'"},
        {"metrics": '{"event": "finished", "seconds": "x", "rate": [1]}\n' + "[" * 100_000},
        {"plan_json": {"expected": [], "resolved": {"sized": {"": 1, "model.width": {}}}}},
        {"plan_json": {"expected": {"parameters": -1e99}}},
    ],
)
def test_whatever_stands_in_the_files_is_left_out(
    files: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a\x1b[31m", "b"):
        made(tmp_path / name)
        for file, content in files.items():
            path = tmp_path / name / {"plan_json": "plan.json", "metrics": "metrics.jsonl"}.get(file, file)
            path.write_text(content if isinstance(content, str) else json.dumps(content))
    assert main(["runs", "compare", *(str(path) for path in tmp_path.iterdir())]) == 0
    assert "\x1b" not in capsys.readouterr().out
