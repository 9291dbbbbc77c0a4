"""A study is runs in a folder: the same images and weights, a table at the end, resumable at any point."""

import contextlib
import io
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from ssl_cli import checkpoint, lock, status
from ssl_cli.cli import main
from ssl_cli.config.resume import settings_of
from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.errors import ResourceError
from ssl_cli.runs import find_runs
from ssl_cli.signals import StopRequest
from ssl_cli.study import chart, child, prepare
from ssl_cli.study.book import Asked, read, write
from ssl_cli.study.run import Runner
from ssl_cli.study.table import STUDIES
from tests.data.pictures import save
from tests.engine.plan.test_suited import pictures
from tests.processes import start, steps_logged, wait

SETS = (
    "model.width=0.0625", "data.size=8", "data.images=96", "run.batch=32", "hardware.precision=fp32",
    "hardware.memory_format=channels_last",
)  # fmt: skip
WORDS = ["--seeds", "2", *(word for item in SETS for word in ("--set", item))]
ONE, OTHER = "moco-v2-t0.2", "moco-v2-t0.5"
ARMS = ["--arms", f"{ONE},{OTHER}"]


def run(*words: str) -> tuple[int, dict[str, Any], str]:
    """Return exit code, JSON document and stderr of a study."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["study", *words, "--json"])
    return code, json.loads(out.getvalue()), err.getvalue()


def in_process(words: Any, folder: Path, request: StopRequest) -> int:
    """Stands in for a process of its own, which takes seconds to start."""
    variables = mock.patch.dict(os.environ, child.environment(), clear=True)
    with contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()), variables:
        return main(list(words))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs in this process, and estimates of nothing: they would depend on the load of the machine."""
    make_it_quick(monkeypatch)


def make_it_quick(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Runner, "train", staticmethod(in_process), raising=False)
    patch.setattr(Runner.__init__, "__defaults__", (in_process,))
    patch.setattr(prepare.Trial, "rate", 96.0)  # an epoch takes a second
    patch.setitem(STUDIES, "temperature", replace(STUDIES["temperature"], steps=3))
    patch.setattr(chart, "draw", lambda summary, folder: [])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A study that nothing interrupted, its document and what stood on stderr: two arms, two seeds."""
    out = tmp_path_factory.mktemp("whole") / "heads"
    with pytest.MonkeyPatch.context() as patch:
        make_it_quick(patch)
        code, document, err = run("temperature", *ARMS, "--time", "76s", *WORDS, "--out", str(out))
    assert code == 0, err
    return out, document, err


def settings(run: Path) -> Settings:
    return settings_of(checkpoint.load(checkpoint.locate(str(run))[0])["settings"])


def test_arms_take_turns_and_each_run_is_a_row(whole: tuple[Path, dict[str, Any], str]) -> None:
    _, document, err = whole
    titles = [line for line in err.splitlines() if line.startswith("run ")]
    assert [title.partition("  ")[2] for title in titles if "," in title] == [
        f"{ONE}, seed 0", f"{OTHER}, seed 0", f"{OTHER}, seed 1", f"{ONE}, seed 1",
    ]  # fmt: skip
    assert {(run["arm"], run["seed"], run["state"]) for run in document["runs"]} == {
        (arm, seed, "finished") for arm in (ONE, OTHER) for seed in (0, 1)
    }
    assert all(run["peak_memory"] > 0 and run["seconds"] > 0 and 0 <= run["knn"] <= 1 for run in document["runs"])
    arms = {arm["name"]: arm for arm in document["arms"]}
    assert arms[OTHER]["knn"]["n"] == 2
    assert arms[OTHER][f"against {ONE}"]["seeds"] == 2
    assert "untrained" in arms[ONE]
    assert ONE in document["advice"]


def test_runs_are_ordinary_and_differ_in_what_the_study_asks(whole: tuple[Path, dict[str, Any], str]) -> None:
    out = whole[0]
    assert {status.state(path) for path in out.glob("*-seed*")} == {"finished"}
    one, other = (settings(out / f"{arm}-seed1") for arm in (ONE, OTHER))
    assert (one.method.temperature, other.method.temperature) == (0.2, 0.5)
    assert one.model_copy(update={"method": other.method, "run": other.run}) == other
    assert (one.run.seed, one.schedule.epochs) == (1, other.schedule.epochs)
    assert {Path(found.path).name for found in find_runs(out)[0]} == {path.name for path in out.glob("*-seed*")}


def test_views_grow_in_all_runs_or_in_none(whole: tuple[Path, dict[str, Any], str]) -> None:
    found = {settings(path).schedule.resolution for path in whole[0].glob("*-seed*")}
    assert found == {(1.0, 1.0)}  # as the recipe of the first arm's method has it, which has none


def test_of_a_seed_the_weights_at_the_start_are_the_same(whole: tuple[Path, dict[str, Any], str]) -> None:
    settled = (settings(whole[0] / f"{arm}-seed1") for arm in (ONE, OTHER))
    one, other = (build_objective(each, torch.device("cpu")) for each in settled)
    for name, value in one.backbone.state_dict().items():
        assert value.equal(other.backbone.state_dict()[name]), name


def test_no_test_image_is_read(whole: tuple[Path, dict[str, Any], str]) -> None:
    for path in whole[0].glob("*-seed*"):
        assert not list(path.glob("eval/*"))
        text = (path / "metrics.jsonl").read_text()
        assert '"evaluated"' not in text


def test_a_finished_study_is_not_run_again(whole: tuple[Path, dict[str, Any], str], quick: None) -> None:
    files = {path: path.stat().st_mtime_ns for path in whole[0].rglob("*.pt")}
    code, document, err = run("--resume", "--out", str(whole[0]))
    assert (code, document) == (0, whole[1])
    assert "run 1/4" not in err
    assert {path: path.stat().st_mtime_ns for path in whole[0].rglob("*.pt")} == files
    assert run("show", str(whole[0]))[1] == document


def test_what_is_left_is_run_as_it_would_have_been(
    whole: tuple[Path, dict[str, Any], str], tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four runs the third was killed before its last checkpoint, and the last never started."""
    out = shutil.copytree(whole[0], tmp_path / "heads")
    book = read(out)
    write(out, type(book)(book.asked, book.about, book.arms, book.results[:2]))
    shutil.rmtree(out / f"{ONE}-seed1")
    killed = out / f"{OTHER}-seed1"
    for path in (killed / "checkpoints").iterdir():
        path.unlink()
    (killed / "metrics.jsonl").write_text("")
    written = json.loads((killed / "status.json").read_text())
    (killed / "status.json").write_text(json.dumps({**written, "state": "running", "exit_code": None}))
    monkeypatch.setenv("SSLCLI_SCHEDULE__EPOCHS", "2")
    code, document, err = run("--resume", "--out", str(out))
    assert code == 0, err
    assert "run 1/4" not in err
    assert "run 3/4" in err
    measured = {(run["arm"], run["seed"]): (run["knn"], run["linear"], run["steps"]) for run in document["runs"]}
    assert measured == {
        (run["arm"], run["seed"]): (run["knn"], run["linear"], run["steps"]) for run in whole[1]["runs"]
    }


def test_people_get_a_table_a_chart_and_advice(
    whole: tuple[Path, dict[str, Any], str], quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "show", str(whole[0])]) == 0
    text = capsys.readouterr().out
    assert "no test image was read" in text
    assert text.count("●") == 2
    for line in ("study      temperature", "advice     ", "paper      ", "next       sslcli export", "chart      "):
        assert f"\n{line}" in f"\n{text}"


def test_a_dry_run_writes_nothing(tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, document, _ = run("rivalry", "--time", "20m", *WORDS, "--dry-run")
    assert code == 0
    assert [(arm["method"], arm["share"]) for arm in document["arms"]] == [
        ("moco-v2", 1.0), ("moco-v2", 0.25), ("simclr", 1.0), ("simclr", 0.25),
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nosuch"], 2, "no study 'nosuch'"),
        ([], 2, "needs a NAME"),
        (["rivalry", "--resume"], 2, "which study"),
        (["rivalry", "--resume", "--dry-run", "--out", "x"], 2, "--dry-run plans a new run"),
        (["rivalry", "--methods", "moco-v2"], 2, "two methods"),
        (["rivalry", "--time", "5"], 2, "no unit"),
        (["rivalry", "--time", "5s", *WORDS], 2, "too short for 8 runs"),
        (["rivalry", "--arms", "x", *WORDS], 2, "no arm 'x'"),
        (["rivalry", "--set", "method.nosuch=1"], 2, "nosuch"),
        (["rivalry", "{gone}"], 3, "does not exist"),
        (["rivalry", "{one}", "--set", "data.size=8", "--time", "1h"], 3, "takes 2 at least"),
        (["simclr-v2", "{plain}"], 3, "have no labels"),
        (["simclr-v2", "--arms", "scratch-1pct", "--time", "20s", *WORDS], 2, "too short for 4 runs"),
        (["show"], 2, "needs the folder"),
        (["show", "{gone}"], 4, "holds no study"),
        (["--resume", "--out", "{gone}"], 2, "no study in"),
        (["--resume", "--out", "{one}"], 2, "holds no study"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_before_anything_trains(
    words: list[str], code: int, message: str, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "one" / "a.png")
    for number in range(8):
        save(tmp_path / "plain" / f"{number}.png", number)
    places = {name: str(tmp_path / name) for name in ("one", "plain", "gone")}
    found, document, err = run(*(word.format(**places) for word in words))
    assert found == document["error"]["code"] == code
    assert message in document["error"]["message"], document
    assert document["error"]["hint"]
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "plain"]


@pytest.mark.usefixtures("quick")
def test_all_arms_have_the_crops_and_flips_of_the_first(tmp_path: Path) -> None:
    sets = tuple(item for item in SETS if not item.startswith("data.images"))
    book = prepare.prepare(Asked("rivalry", str(pictures(tmp_path / "photos", "direction", 64)), sets=sets))
    found = {arm.method: arm.settings["augment"] for arm in book.arms}
    assert {(method, *views["crop"]["scale"], views["flip"]["p"]) for method, views in found.items()} == {
        ("moco-v2", 0.4, 1.0, 0.0), ("simclr", 0.4, 1.0, 0.0),
    }  # fmt: skip


@pytest.mark.slow
def test_classifiers_start_from_the_runs_of_other_arms(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A probe, fine-tuning and a student: ordinary runs of their commands, compared, and resumed."""
    out, arms = tmp_path / "road", "linear-10pct,layer1-10pct,half-distilled-10pct"
    sets = [word for item in SETS for word in ("--set", item)]
    code, document, err = run("simclr-v2", "--arms", arms, "--time", "82s", "--seeds", "1", *sets, "--out", str(out))
    assert code == 0, err
    runs = {found["arm"]: found for found in document["runs"]}
    assert list(runs) == ["pretrain", "linear-10pct", "layer1-10pct", "half-distilled-10pct"]
    assert all(found["state"] == "finished" for found in runs.values()), runs
    assert {name for name, found in runs.items() if "classifier" in found} == set(arms.split(","))
    assert "knn" in runs["pretrain"]
    assert "linear" not in runs["pretrain"]
    assert runs["linear-10pct"]["out"] == runs["pretrain"]["out"]
    tuned, student = (settings(out / f"{name}-seed0") for name in ("layer1-10pct", "half-distilled-10pct"))
    assert (tuned.method.name, tuned.method.model_dump()["from_layer"], tuned.data.labels) == ("finetune", 1, "10%")
    assert (student.method.name, student.model.width) == ("distill", tuned.model.width / 2)
    assert (tuned.hardware, student.hardware.precision) == (settings(out / "pretrain-seed0").hardware, "fp32")
    assert not list(out.glob("*/eval/*"))  # no test image was read
    book = read(out)
    write(out, replace(book, results=book.results[:3]))
    again = run("--resume", "--out", str(out))[1]["runs"]
    assert [found.get("classifier") for found in again] == [found.get("classifier") for found in document["runs"]]
    assert main(["study", "show", str(out)]) == 0
    text = capsys.readouterr().out
    assert "classifier against linear-10pct" in text
    assert "10 % of the labels: " in text


@pytest.mark.slow
def test_signals_and_kills_lose_nothing(tmp_path: Path) -> None:
    """SIGTERM in the first run, a kill of the study in the second; then all is as if nothing had happened."""
    out, words = tmp_path / "study", ["temperature", *ARMS, "--time", "300s", *WORDS]
    place = ["--out", str(out), "--json"]
    process = start("study", *words, *place)
    wait(process, lambda: steps_logged(out / f"{ONE}-seed0") > 0)
    process.send_signal(signal.SIGTERM)
    text, err = process.communicate()
    assert process.returncode == json.loads(text)["error"]["code"] == 75, err
    assert status.state(out / f"{ONE}-seed0") == "stopped"
    assert not lock.is_held(out)
    process = start("study", "--resume", *place)
    wait(process, lambda: steps_logged(out / f"{OTHER}-seed0") > 0)
    process.kill()
    process.communicate()
    process = start("study", "--resume", *place)  # at once: the run of the killed study may still be saving
    text, err = process.communicate()
    assert process.returncode == 0, err
    assert len(json.loads(text)["runs"]) == 4
    assert [run.state for run in read(out).results] == ["finished"] * 4
    for path in out.glob("*-seed*"):
        text = (out / "arms" / f"{path.name.rpartition('-')[0]}.toml").read_text()
        alone = tmp_path / "alone" / path.name
        (tmp_path / "alone").mkdir(exist_ok=True)
        (tmp_path / "arm.toml").write_text(text)
        line = ["pretrain", "--config", str(tmp_path / "arm.toml"), "--seed", path.name[-1], "--out", str(alone)]
        assert main([*line, "--json"]) == 0
        ours, theirs = (checkpoint.load(checkpoint.locate(str(where))[0])["objective"] for where in (path, alone))
        assert all(value.equal(theirs[name]) for name, value in ours.items()), path.name


@pytest.mark.slow
def test_costs_are_measured_or_those_of_the_plan(
    tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The large batch does not fit directly: it is the plan's figure, marked as such, and never run."""
    words = ["--set", "model.width=0.0625", "--set", "data.size=8", "--set", "data.images=64", "--seeds", "1"]
    monkeypatch.setattr(prepare, "_plan", refusing_direct(prepare._plan))
    out = tmp_path / "cost"
    arms = ["--arms", "end-to-end-b64-cached,end-to-end-b64-direct"]
    code, document, err = run("cost", *arms, "--time", "40s", *words, "--out", str(out))
    assert code == 0, err
    direct, cached = sorted(document["arms"], key=lambda arm: arm["trained"])
    assert (direct["trained"], cached["trained"]) == (False, True)
    assert [found["arm"] for found in document["runs"]] == ["end-to-end-b64-cached"]
    assert document["runs"][0]["per_thousand"] > 0
    assert "knn" not in document["runs"][0]
    assert "(plan)" in document["advice"]
    assert main(["study", "show", str(out)]) == 0
    text = capsys.readouterr().out
    assert [line.count("(plan)") for line in text.splitlines() if line.startswith("end-to-end-b64-")] == [2, 0]
    assert "93.0 GB (estimate)" in text


def refusing_direct(plan: Any) -> Any:
    """A plan that does not fit the memory in mode direct, unless all memory there is may be taken."""

    def planned(asked: Settings, source: Any) -> Any:
        if asked.hardware.mode == "direct" and asked.hardware.memory != prepare.ENOUGH:
            raise ResourceError("It does not fit.")
        return plan(asked, source)

    return planned
