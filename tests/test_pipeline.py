"""A pipeline is its commands in a row: one table, ordinary runs, and a resume at any point that changes no bit."""

import contextlib
import io
import json
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli import checkpoint, lock, pipeline, status
from ssl_cli.cli import main
from ssl_cli.config.resume import settings_of
from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.errors import DivergedError
from ssl_cli.events import Event, Stopped, Warned
from ssl_cli.planning import stages
from ssl_cli.planning.stages import STAGES
from tests import processes
from tests.data.pictures import folder, save
from tests.processes import wait

TINY = {
    "SSLCLI_SCHEDULE__EPOCHS": "1", "SSLCLI_HARDWARE__PRECISION": "fp32", "SSLCLI_HARDWARE__DEVICE": "cpu",
    "SSLCLI_HARDWARE__MEMORY_FORMAT": "channels_last", "SSLCLI_RUN__CHECKPOINT_EVERY": "1",
}  # fmt: skip
"""What holds for all stages: three steps on labels."""
SETS = (
    "model.width=0.0625",
    "data.size=8",
    "data.images=96",
    "run.batch=32",
    "run.monitor=false",
    "run.evaluate=false",
)
WORDS = [
    "--labels",
    "2-per-class",
    "--method",
    "simclr-v2",
    "--seed",
    "2",
    *(w for key in SETS for w in ("--set", key)),
]
RUNS = [stage.name for stage in STAGES if stage.name != "linear"]


def run(*words: str) -> tuple[int, dict[str, Any], str]:
    """Return exit code, JSON document and stderr of a pipeline."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["pipeline", *words, "--json"])
    return code, json.loads(out.getvalue()), err.getvalue()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    """A pipeline that nothing interrupted, its document and what stood on stderr."""
    out = tmp_path_factory.mktemp("whole") / "road"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TINY.items():
            patch.setenv(name, value)
        code, document, err = run(*WORDS, "--out", str(out))
    assert code == 0, err
    return out, document, err


def state(out: Path) -> dict[str, Any]:
    return checkpoint.load(checkpoint.locate(str(out))[0])


def settings(out: Path) -> Settings:
    return settings_of(state(out)["settings"])


def same_bits(ours: Path, theirs: Path, names: list[str] = RUNS) -> None:
    for name in names:
        one, two = state(ours / name), state(theirs / name)
        assert one["step"] == two["step"], name
        assert one["objective"].keys() == two["objective"].keys()
        for key, value in two["objective"].items():
            assert isinstance(value, Tensor)
            assert value.equal(one["objective"][key]), f"{name}: {key}"


def results(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of a table without what no two runs share: times and places."""
    return [{key: row[key] for key in row if key not in {"seconds", "out"}} for row in document["rows"]]


def test_the_table_compares_the_same_images(whole: tuple[Path, dict[str, Any], str]) -> None:
    rows = {row["name"]: row for row in whole[1]["rows"]}
    assert list(rows) == ["pretrain", "linear", "scratch", "finetune", "distill"]
    assert rows["pretrain"]["top1"] is None
    for name in ("linear", "scratch", "finetune", "distill"):
        assert 0 <= rows[name]["top1"] <= rows[name]["top5"] <= 1
        assert rows[name]["test"] == 12
        assert rows[name]["standard_error"] == pytest.approx(
            (rows[name]["top1"] * (1 - rows[name]["top1"]) / 12) ** 0.5
        )
    assert [rows[name]["labelled"] for name in ("linear", "scratch", "finetune", "distill")] == [24, 24, 24, 0]
    assert rows["scratch"]["parameters"] == rows["finetune"]["parameters"] > rows["linear"]["parameters"]
    assert 3 * rows["distill"]["parameters"] < rows["finetune"]["parameters"]  # half as wide
    assert all(row["seconds"] > 0 for row in rows.values())


def test_each_stage_has_a_title_and_its_own_display(whole: tuple[Path, dict[str, Any], str]) -> None:
    lines = whole[2].splitlines()
    assert [line for line in lines if re.match(r"\d/5 ", line)] == [
        f"{number}/5  {stage.name}: {stage.what}" for number, stage in enumerate(STAGES, 1)
    ]
    assert sum(line.startswith("run: ") for line in lines) == len(RUNS)


def test_stages_are_ordinary_runs(whole: tuple[Path, dict[str, Any], str]) -> None:
    out = whole[0]
    assert [status.state(out / name) for name in RUNS] == ["finished"] * 4
    scratch, tuned, student = (settings(out / name) for name in ("scratch", "finetune", "distill"))
    assert scratch.method.model_dump() | {"scratch": False} == tuned.method.model_dump()
    assert scratch.model_copy(update={"method": tuned.method, "run": tuned.run}) == tuned
    assert (tuned.model.width, student.model.width) == (0.0625, 0.03125)
    plan = json.loads((out / "scratch" / "plan.json").read_text())["choices"]
    assert [choice["value"] for choice in plan if choice["name"] == "starts from"] == ["random weights"]
    assert main(["knn-eval", str(out / "scratch"), "--json"]) == 0
    (file,) = (out / "pretrain" / "eval").glob("linear-*.json")
    assert main(["linear-eval", str(out / "pretrain"), "--json"]) == 0  # with all labels
    assert len(list((out / "pretrain" / "eval").glob("linear-*.json"))) == 2
    assert json.loads(file.read_text())["result"]["labels"] == "2-per-class"


def test_scratch_starts_from_the_network_before_pretraining(whole: tuple[Path, dict[str, Any], str]) -> None:
    scratch, before = (build_objective(settings(whole[0] / name), torch.device("cpu")) for name in RUNS[:2][::-1])
    scratch.load_start()
    assert before.backbone.state_dict().keys() == scratch.backbone.state_dict().keys()
    for name, value in before.backbone.state_dict().items():
        assert value.equal(scratch.backbone.state_dict()[name]), name


def test_a_finished_pipeline_is_not_run_again(whole: tuple[Path, dict[str, Any], str]) -> None:
    files = {path: path.stat().st_mtime_ns for path in whole[0].rglob("*.pt")}
    code, document, err = run("--resume", "--out", str(whole[0]))
    assert code == 0
    assert document == whole[1]
    assert err.count("done before") == len(STAGES)
    assert {path: path.stat().st_mtime_ns for path in whole[0].rglob("*.pt")} == files


def test_what_is_left_is_run_as_it_would_have_been(
    whole: tuple[Path, dict[str, Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scratch is killed within its last step, distillation never started; the variables of the start are others."""
    out = shutil.copytree(whole[0], tmp_path / "road")
    shutil.rmtree(out / "distill")
    last = checkpoint.locate(str(out / "scratch"))[0]
    for path in (last, last.with_suffix(".json")):
        path.unlink()
    written = json.loads((out / "scratch" / "status.json").read_text())
    (out / "scratch" / "status.json").write_text(json.dumps({**written, "state": "running", "exit_code": None}))
    monkeypatch.setenv("SSLCLI_SCHEDULE__EPOCHS", "2")
    code, document, err = run("--resume", "--out", str(out), "--labels", "2-per-class")
    assert code == 0, err
    assert "The last process of this run died" in err
    assert err.count("done before") == 3
    same_bits(out, whole[0])
    assert results(document) == results(whole[1])


@pytest.mark.slow
def test_a_stage_on_labels_has_the_epochs_that_its_time_allows_and_says_so(
    whole: tuple[Path, dict[str, Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[Settings] = []

    def trains(settings: Settings, **given: object) -> Iterator[Event]:
        found.append(settings)
        yield Stopped(exit_code=75, reason="enough")

    out = shutil.copytree(whole[0], tmp_path / "road")
    shutil.rmtree(out / "finetune")
    monkeypatch.setattr(pipeline, "pretrain", trains)
    monkeypatch.setattr(pipeline, "timed", lambda run: (100.0, 4.0))  # images per second
    asked = replace(stages.read(out), env={}, time=60.0)
    first, *_ = pipeline.Pipeline(out, asked).events(stages.FINETUNE)
    assert isinstance(first, Warned)
    assert first.message == "The stage's time allows 3 of the recipe's 60 epochs."  # 9 s, 8 views/s, 24 images
    assert found[0].schedule.epochs == 3
    list(pipeline.Pipeline(out, replace(asked, time=None)).events(stages.FINETUNE))
    assert found[1].schedule.epochs == 60


def test_a_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, document, _ = run(*WORDS, "--time", "2h", "--dry-run")
    assert code == 0
    assert (document["labelled"], document["classes"], document["test"]) == (24, 12, 12)
    assert sum(stage["seconds"] for stage in document["stages"]) == pytest.approx(7200)
    assert list(tmp_path.iterdir()) == []


def test_data_is_several_places(tmp_path: Path) -> None:
    for name, shade in (("one", 0), ("two", 100)):
        for label in ("cat", "dog"):
            for number in range(5):
                save(tmp_path / name / label / f"{number}.png", shade + 10 * number)
    places = [str(tmp_path / name) for name in ("one", "two")]
    for given, labelled in ((places, 16), (places[:1], 8)):  # a fifth of each class is held out
        code, document, err = run(*given, "--labels", "100%", "--out", str(tmp_path / "out"), "--dry-run")
        assert code == 0, err
        assert document["labelled"] == labelled


def test_a_stage_that_diverges_is_named_and_the_stages_before_it_stay(
    whole: tuple[Path, dict[str, Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(*args: object, **given: object) -> Iterator[Event]:
        yield Warned(message="It trains.")
        raise DivergedError("The loss is not finite.")

    out = shutil.copytree(whole[0], tmp_path / "road")
    shutil.rmtree(out / "finetune")
    monkeypatch.setattr(pipeline, "pretrain", diverges)
    code, document, _ = run("--resume", "--out", str(out))
    assert code == document["error"]["code"] == 6
    assert document["error"]["message"] == "In the stage finetune: The loss is not finite."
    assert f"sslcli finetune with a lower --lr, --out {out}/finetune and --overwrite" in document["error"]["hint"]
    assert f"sslcli pipeline --resume --out {out}" in document["error"]["hint"]


def test_a_stage_that_is_stopped_ends_the_pipeline(
    whole: tuple[Path, dict[str, Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = shutil.copytree(whole[0], tmp_path / "road")
    shutil.rmtree(out / "scratch")
    monkeypatch.setattr(
        pipeline, "pretrain", lambda *a, **k: (e for e in [Stopped(exit_code=75, reason="SIGTERM was received")])
    )
    code, document, _ = run("--resume", "--out", str(out))
    assert code == document["error"]["code"] == 75
    assert document["error"]["hint"] == f"sslcli pipeline --resume --out {out}"
    assert document["rows"][1]["top1"] == whole[1]["rows"][1]["top1"]  # what is known so far
    assert main(["pipeline", "--resume", "--out", str(out)]) == 75
    assert "stopped    in scratch: SIGTERM was received" in capsys.readouterr().out


def test_overwrite_replaces_a_pipeline_and_leaves_other_files(
    whole: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    out = shutil.copytree(whole[0], tmp_path / "road")
    (out / "notes.txt").write_text("mine")
    (out / "pretrain" / "notes.txt").write_text("mine")
    pipeline.clear(out)
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file() and path.name[0] != ".")
    assert left == ["notes.txt", "pipeline.json", "pretrain/notes.txt"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "how many images are labelled"),
        (["--labels", "99-per-class"], 3, "has 8 training images, and 99 are asked for"),
        (["{plain}", "--labels", "10%"], 3, "have no labels"),
        (["{one}", "--labels", "10%"], 3, "has one class, and a classifier needs two"),
        (["{gone}", "--labels", "10%"], 3, "does not exist"),
        (["--labels", "10%", "--time", "5s"], 2, "too short for 5 stages"),
        (["--labels", "10%", "--method", "nosuch"], 2, "nosuch"),
        (["--labels", "10%", "--student", "nosuch"], 2, "nosuch"),
        (["--labels", "10%", "--width", "0"], 2, "width"),
        (["--labels", "10%", "--set", "method.queue=8"], 2, "method.queue"),
        (["--labels", "10%", "--resume", "--dry-run"], 2, "--dry-run plans a new run"),
        (["--labels", "10%", "--resume", "--overwrite"], 2, "exclude each other"),
    ],
)
def test_what_cannot_be_run_is_one_sentence_before_anything_trains(
    words: list[str], code: int, message: str, tmp_path: Path
) -> None:
    save(tmp_path / "plain" / "a.png")
    folder(tmp_path / "one", {"cat": 5})
    places = {name: str(tmp_path / name) for name in ("plain", "one", "gone")}
    found, document, err = run(*(word.format(**places) for word in words), "--out", str(tmp_path / "out"), *WORDS[6:])
    assert found == document["error"]["code"] == code
    assert re.search(message, document["error"]["message"]), document
    assert document["error"]["hint"]
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for flag in ([], ["--resume"], ["--overwrite"]):
        code, document, _ = run(*WORDS, "--out", str(tmp_path), *flag)
        assert (code, "holds no pipeline" in document["error"]["message"]) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_pipeline_is_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    code, document, _ = run(*WORDS, "--out", str(tmp_path / "out"))
    assert (code, document["error"]["message"]) == (2, "pipeline runs in one process.")


@pytest.mark.slow
def test_a_pipeline_equals_its_commands_by_hand(
    whole: tuple[Path, dict[str, Any], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in TINY.items():
        monkeypatch.setenv(name, value)
    encoder, labels = str(tmp_path / "pretrain"), ["--labels", "2-per-class"]
    assert main(["pretrain", *WORDS[2:], "--out", encoder]) == 0
    assert main(["linear-eval", encoder, *labels]) == 0
    assert main(["finetune", encoder, *labels, "--set", "method.scratch=true", "--out", str(tmp_path / "scratch")]) == 0
    assert main(["finetune", encoder, *labels, "--out", str(tmp_path / "finetune")]) == 0
    words = ["--width", "0.03125", "--out", str(tmp_path / "distill")]
    assert main(["distill", str(tmp_path / "finetune"), *words]) == 0
    same_bits(tmp_path, whole[0])
    linear = json.loads((tmp_path / "pretrain" / "eval" / "linear.json").read_text())["result"]
    assert linear["top1"] == whole[1]["rows"][1]["top1"]


def start(out: Path, *words: str) -> subprocess.Popen[str]:
    more = {**TINY, "SSLCLI_SCHEDULE__EPOCHS": "20"}
    return processes.start("pipeline", "--out", str(out), "--json", *words, more=more)


def in_training(out: Path) -> bool:
    return len(list(out.glob("checkpoints/step_*.json"))) >= 2


@pytest.mark.slow
def test_kills_in_every_stage_change_no_bit(tmp_path: Path) -> None:
    reference = start(tmp_path / "whole", *WORDS)
    expected = json.loads(reference.communicate()[0])
    assert reference.returncode == 0
    out, struck = tmp_path / "killed", 0
    moments: list[Callable[[], bool]] = [
        lambda: (out / "pipeline.json").exists(),
        *(lambda name=name: in_training(out / name) for name in RUNS[:1]),
        lambda: status.state(out / "pretrain") == "finished",  # about to fit the linear probe
        *(lambda name=name: in_training(out / name) for name in RUNS[1:]),
        lambda: status.state(out / "scratch") == "finished",
    ]
    for happened in moments:
        process = start(out, "shapes", *WORDS, "--resume")
        wait(process, happened)
        struck += process.poll() is None
        process.kill()
        process.communicate()
    assert struck >= len(moments) - 1
    last = start(out, "--resume")
    found = json.loads(last.communicate()[0])
    assert last.returncode == 0
    same_bits(out, tmp_path / "whole")
    assert results(found) == results(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "number", "code"), [("pretrain", signal.SIGTERM, 75), ("scratch", signal.SIGINT, 130)]
)
def test_a_signal_stops_it_and_it_resumes(stage: str, number: signal.Signals, code: int, tmp_path: Path) -> None:
    out = tmp_path / "road"
    process = start(out, *WORDS)
    wait(process, lambda: in_training(out / stage))
    process.send_signal(number)
    text, err = process.communicate()
    assert process.returncode == code, err
    document = json.loads(text)
    assert document["error"]["code"] == code
    assert document["error"]["message"] == f"Stopped in {stage}: {number.name} was received."
    assert status.state(out / stage) == "stopped"
    assert not lock.is_held(out)
    process = start(out, "--resume")
    text, err = process.communicate()
    assert process.returncode == 0, err
    assert all(row["top1"] is not None for row in json.loads(text)["rows"][1:])
