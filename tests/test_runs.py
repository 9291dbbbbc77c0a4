"""The list of runs: what their files say, whatever is in them."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ssl_cli import records, runs, status
from ssl_cli.cli import main
from ssl_cli.registry import TRANSFERS
from ssl_cli.runs import Run, find_runs, read_run

SETTINGS = """
[method]
name = "moco-v2"
[model]
backbone = "resnet18"
width = 0.5
[data]
source = "photos"
[run]
batch = 256
"""


def made(folder: Path, state: Any = "finished", **files: Any) -> Path:
    """A run folder with these files besides the usual ones."""
    (folder / "eval").mkdir(parents=True)
    status.write(folder, "0" * 32, state, 0, "", None)
    (folder / "settings.toml").write_text(SETTINGS)
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_json", ".json").replace("metrics", "metrics.jsonl")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder


def stepped(step: int, **values: Any) -> str:
    return json.dumps({"event": "stepped", "step": step, "epoch": step / 10, "loss": 5 - step / 100, **values}) + "\n"


def test_a_run_is_read_from_its_files(tmp_path: Path) -> None:
    steps = stepped(10) + stepped(20) + '{"event": "saved"}\n' + '{"event": "step'
    plan = {"resolved": {"sized": {"run.batch": 64, "model.width": 0.25}}}
    results = {"eval__knn_json": {"result": {"top1": 0.5}}, "eval__linear_json": {"result": {"top1": 0.625}}}
    found = read_run(made(tmp_path / "a", metrics=steps, plan_json=plan, **results))
    assert found is not None
    size = sum(path.stat().st_size for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert found == Run(
        str(tmp_path / "a"), "finished", "", "moco-v2", "resnet18 x 0.25", "photos", 20, 2.0, 64, 4.8, 0.5, 0.625,
        None, size, found.time,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["knn", "linear", *TRANSFERS])
def test_the_result_of_every_kind_of_run_is_read(name: str, tmp_path: Path) -> None:
    found = read_run(made(tmp_path / "a", **{f"eval__{name}_json": {"result": {"top1": 0.625}}}))
    assert found is not None
    assert [found.knn, found.linear, found.classifier].count(0.625) == 1
    assert (found.classifier == 0.625) == (name in TRANSFERS)


def test_top5_of_five_classes_is_left_out_of_what_was_written_before(tmp_path: Path) -> None:
    for classes, expected in ((5, None), (6, 1.0)):
        file = tmp_path / f"{classes}.json"
        of_each = {str(number): {"images": 1, "top1": 1} for number in range(classes)}
        file.write_text(json.dumps({"result": {"top1": 0.5, "top5": 1.0, "per_class": of_each}}))
        assert records.result_in(file).get("top5") == expected


def test_without_an_evaluation_the_accuracy_at_the_end_of_training_counts(tmp_path: Path) -> None:
    folder = made(tmp_path / "a")
    for measure, expected in (("knn", 0.25), ("consistency", None)):
        status.write(folder, "0" * 32, "finished", 0, "", {"measure": measure, "trained": {"top1": 0.25}})
        found = read_run(folder)
        assert found is not None
        assert found.knn == expected


def test_runs_are_compared_by_the_knn_at_the_end_of_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A later evaluation with another k does not replace it, and k is named where those of a table differ."""
    later = {"eval__knn_json": {"result": {"top1": 0.525, "k": 1}}}
    event = {"event": "evaluated", "name": "knn", "step": 20, "result": {"top1": 0.5, "k": 40}}
    first = read_run(made(tmp_path / "runs" / "a", metrics=stepped(20) + json.dumps(event) + "\n", **later))
    second = read_run(made(tmp_path / "runs" / "b", metrics=stepped(20), **later))
    assert first is not None
    assert second is not None
    assert (first.knn, first.knn_k, second.knn, second.knn_k) == (0.5, 40, 0.525, 1)
    assert main(["runs", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "50.0 % (k 40)" in out
    assert "52.5 % (k 1)" in out
    assert main(["runs", "compare", first.path, second.path]) == 0
    assert "50.0 % (k 40)" in capsys.readouterr().out
    assert main(["runs", first.path]) == 0
    assert "(k" not in capsys.readouterr().out


def test_runs_are_found_below_a_folder_and_within_runs_the_newest_last(tmp_path: Path) -> None:
    for name in ("x/y/c", "b", "b/inner", "x/a"):
        made(tmp_path / name)
    (tmp_path / "b" / "checkpoints" / "no").mkdir(parents=True)
    made(tmp_path / "b" / "checkpoints" / "run")
    (tmp_path / "x" / "loop").symlink_to(tmp_path)
    found, whole = find_runs(tmp_path)
    assert whole
    assert [os.path.relpath(run.path, tmp_path) for run in found] == ["x/y/c", "b", "b/inner", "x/a"]


def test_more_folders_than_are_looked_into_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        made(tmp_path / name)
    monkeypatch.setattr(runs, "FOLDERS", 2)
    assert not find_runs(tmp_path)[1]


def test_a_run_that_nobody_finished_has_died(tmp_path: Path) -> None:
    found = read_run(made(tmp_path / "a", state="running"))
    assert found is not None
    assert found.state == "died"


HOSTILE: list[dict[str, Any]] = [
    {"metrics": "[" * 100_000 + "\n" + stepped(3)},
    {"metrics": stepped(3) + '{"event": "stepped", "step": -1, "epoch": "x", "loss": [1]}\n'},
    {"metrics": stepped(3, loss=float("nan"), epoch=1e308)},
    {"metrics": "\0" * 600_000},
    {"settings.toml": "a" * 3_000_000},
    {"settings.toml": "[method]\nname = 3\n[model]\nbackbone = []\nwidth = 'x'\n[run]\nbatch = true"},
    {"settings.toml": "method = 3\nmodel = 'x'"},
    {"plan_json": "[]"},
    {"plan_json": {"resolved": {"sized": {"run": 1, "": 2, "model.backbone": {}}}}},
    {"eval__knn_json": {"result": {"top1": "high"}}},
    {"eval__knn_json": {"result": 7}},
    {"eval__knn_json": {"result": {"top1": 1e9}}},
    {"eval__knn_json": "{" * 5000},
]


@pytest.mark.parametrize("files", HOSTILE)
def test_whatever_stands_in_the_files_is_left_out(
    files: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path / "a\x1b[31m", **files)
    assert main(["runs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "finished" in out
    assert "\x1b" not in out
    assert main(["runs", str(tmp_path), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["knn"] is None


def test_the_table_has_the_columns_that_say_something(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "a", metrics=stepped(20), eval__knn_json={"result": {"top1": 0.5}})
    assert main(["runs", str(tmp_path)]) == 0
    head, _, row, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == [
        "run",
        "state",
        "method",
        "network",
        "images",
        "epoch",
        "batch",
        "loss",
        "kNN",
        "size",
        "age",
    ]
    assert row.split()[:7] == ["a", "finished", "moco-v2", "resnet18", "x", "0.5", "photos"]


def test_few_labels_are_said_of_a_linear_probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "a", eval__linear_json={"result": {"top1": 0.5, "labels": "4-per-class"}})
    assert main(["runs", str(tmp_path)]) == 0
    assert "50.0 % (4-per-class)" in capsys.readouterr().out


def test_no_run_and_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(tmp_path)]) == 0
    assert "no run" in capsys.readouterr().out
    assert main(["runs", str(tmp_path / "none")]) == 3
    assert "There is no folder" in capsys.readouterr().err
