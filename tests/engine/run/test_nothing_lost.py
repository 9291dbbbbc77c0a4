"""What happens to a run folder between two commands: a resume continues it or says why not, and deletes nothing."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_cli import checkpoint, status
from ssl_cli.cli import main
from ssl_cli.config.sources import settle
from ssl_cli.engine.pretrain import pretrain as trained
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import DataError, Interrupted
from ssl_cli.events import Event, Started
from ssl_cli.registry import METHODS
from tests.engine.run.test_paths import SMALL
from tests.selection import slow

EVERY = ["--set", "run.checkpoint_every=1", "--set", "data.images=32", "--seed", "1"]
MOCO = ["--method", "moco-v2", "--set", "method.queue=64"]
"""A queue longer than half of the images, so the plan caps it."""


def pretrain(out: Path, *words: str) -> int:
    return main(["pretrain", "--out", str(out), *words])


def resume(out: Path) -> int:
    return pretrain(out, "--resume", "--epochs", "2")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps with a checkpoint after each, of which three are kept."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert pretrain(out, *MOCO, *SMALL, *EVERY) == 0
    return out


@pytest.fixture(scope="module")
def continued(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, resumed for another epoch with nothing in its way."""
    out = shutil.copytree(finished, tmp_path_factory.mktemp("continued") / "run")
    assert resume(out) == 0
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run, to damage."""
    return shutil.copytree(finished, tmp_path / "run")


def weights(out: Path, step: int) -> dict[str, Tensor]:
    objective: dict[str, Tensor] = checkpoint.load(out / "checkpoints" / f"step_{step:08d}.pt")["objective"]
    return objective


def files(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def rewrite(out: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the newest checkpoint, and write the sha256 of the changed file with it."""
    path = checkpoint.locate(str(out))[0]
    state = torch.load(path, weights_only=True)
    change(state)
    step = state["step"]
    path.unlink()
    checkpoint.save(path.parent, state, keep=9)
    assert path.stem == f"step_{step:08d}"


@pytest.mark.parametrize(
    "gone", ["*.json", "settings", "newest", *slow("status", "emptied settings", "plan", "metrics")]
)
def test_a_resume_needs_one_whole_checkpoint_and_nothing_else(run: Path, continued: Path, gone: str) -> None:
    (run / "checkpoints" / "step_00000002.json").rename(run / "second.json")  # is another's affair
    if gone == "*.json":
        for path in (run / "checkpoints").glob(gone):
            path.unlink()
    elif gone == "emptied settings":
        (run / "settings.toml").write_bytes(b"")
    elif gone == "newest":
        (run / "checkpoints" / "step_00000004.pt").write_bytes(b"")
    else:
        (
            run
            / {"status": "status.json", "settings": "settings.toml", "plan": "plan.json", "metrics": "metrics.jsonl"}[
                gone
            ]
        ).unlink()
    assert resume(run) == 0
    ours, theirs = weights(run, 8), weights(continued, 8)
    # from an earlier checkpoint, the fourth step has the learning rate of the longer schedule
    assert gone == "newest" or all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert (run / "checkpoints" / "step_00000002.pt").exists()  # it was never verified, so it is never deleted


METHOD = """
import torch
from ssl_cli.methods.simclr import SimCLR

class Odd(SimCLR):
    def __init__(self, *args, **words):
        super().__init__(*args, **words)
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        self.register_buffer("part", torch.zeros(4, 4)[:, 1:3])
        self.register_buffer("rotation", torch.ones(2, 2, dtype=torch.complex64))
"""


def test_a_method_with_odd_buffers_is_saved_resumed_and_evaluated(tmp_path: Path) -> None:
    """An infinite mask, a slice and complex numbers."""
    (tmp_path / "odd.py").write_text(METHOD)
    method = ["--method", f"{tmp_path}/odd.py:Odd"]
    words = [*method, "--set", "optim.name=adamw", *SMALL, *EVERY]
    assert pretrain(tmp_path / "run", *words) == 0
    assert pretrain(tmp_path / "run", *words, "--resume", "--epochs", "2") == 0
    assert main(["knn-eval", str(tmp_path / "run"), "--device", "cpu", *method]) == 0


def test_a_checkpoint_of_another_run_is_not_overwritten(run: Path) -> None:
    foreign = run / "checkpoints" / "step_00000006.pt"
    shutil.copy(run / "checkpoints" / "step_00000004.pt", foreign)
    facts = json.loads((run / "checkpoints" / "step_00000004.json").read_text())
    foreign.with_suffix(".json").write_text(json.dumps({**facts, "run": "another"}))
    data = foreign.read_bytes()
    assert resume(run) == 0
    assert foreign.with_name("step_00000006.pt.corrupt").read_bytes() == data


def test_reading_a_run_in_its_own_process_does_not_release_its_lock(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert status.state(tmp_path / "run") == "running"
    code = "import sys; from pathlib import Path; from ssl_cli import lock; sys.exit(lock.is_held(Path(sys.argv[1])))"
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "run"], check=False).returncode == 1
    folder.close()
    assert status.state(tmp_path / "run") == "died"


@pytest.mark.parametrize("gone", ["checkpoints", "checkpoints and settings", "contents", "truncated"])
def test_a_run_whose_checkpoints_are_gone_does_not_start_over(
    run: Path, gone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"") if gone == "truncated" else path.unlink()
    if gone.startswith("checkpoints"):
        (run / "checkpoints").rmdir()
    if "settings" in gone:
        (run / "settings.toml").unlink()
    for _ in range(2):
        before = files(run)
        assert resume(run) == 4
        assert "--overwrite" in capsys.readouterr().err
        changed = {name for name, data in files(run).items() if before.get(name) != data}
        assert changed <= {"status.json", "train.log", ".lock"} | {name for name in changed if "corrupt" in name}


def test_the_same_command_line_resumes_a_run_whose_queue_was_capped(run: Path) -> None:
    assert pretrain(run, *MOCO, *SMALL, *EVERY, "--resume") == 0
    assert weights(run, 4)["queue.rows"].shape[0] == 16


@pytest.mark.parametrize(
    "content", ['{"resolved": {"micro_batch": -1, "mode": "huge"}, "expected": {"rate": "fast"}}', "[" * 100_000,
                *slow("", "{}", "[]", '{"resolved": 3}', '{"resolved": {"device": "cpu"}}',
                      '{"expected": [1], "resolved": null}')],
)  # fmt: skip
def test_an_odd_plan_is_replaced_by_that_of_the_checkpoint(run: Path, continued: Path, content: str) -> None:
    (run / "plan.json").write_text(content)
    assert resume(run) == 0
    assert torch.equal(weights(run, 8)["queue.rows"], weights(continued, 8)["queue.rows"])


def moment(change: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Any]], Any]:
    """Change the first tensor in the optimiser's state."""

    def changed(state: dict[str, Any]) -> None:
        of_param = state["optimiser"]["state"][0]
        name = next(name for name, value in of_param.items() if value.ndim)
        of_param[name] = change(of_param[name])

    return changed


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "shape": moment(lambda x: x[:1].clone()),
    "dtype": moment(Tensor.double),
    "stride": moment(lambda x: torch.zeros(1).expand(x.shape)),
    "no state": lambda state: state.update(optimiser={}),
    "foreign state": lambda state: state["optimiser"]["state"][0].update(exp_avg=torch.zeros(1)),
    "too many": lambda state: state["optimiser"]["state"].update({9999: {"momentum_buffer": torch.zeros(1)}}),
    "objective's shape": lambda state: state["objective"].update({"queue.rows": torch.zeros(2, 2)}),
    "objective lacks": lambda state: state["objective"].popitem(),
    "objective has more": lambda state: state["objective"].update(more=torch.zeros(1)),
    "no tensor": lambda state: state["objective"].update({"queue.rows": "text"}),
    "step": lambda state: state.update(step=4, epoch="one"),
    "versions": lambda state: state.update(versions=[]),
    "settings": lambda state: state.update(settings=[1]),
    "rng": lambda state: state.update(rng=None),
    "shared": lambda state: state["versions"].update(wide=_wide(40)),
}


def _wide(depth: int) -> Any:
    """Lists that each hold the one before twice: a small file of 2^depth entries."""
    value: Any = []
    for _ in range(depth):
        value = [value, value]
    return value


@pytest.mark.parametrize("kind", [*list(CHANGES)[::2], *slow(*list(CHANGES)[1::2])])
def test_a_checkpoint_of_other_content_is_refused_before_it_is_used(
    run: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(run, CHANGES[kind])
    before = files(run / "checkpoints")
    assert resume(run) == 4
    assert "error: " in capsys.readouterr().err
    assert files(run / "checkpoints") == before


@pytest.mark.parametrize("method", ["moco-v2", "instdisc", *slow(*sorted(METHODS.keys() - {"moco-v2", "instdisc"}))])
def test_every_method_saves_and_resumes_from_its_first_step_on(method: str, tmp_path: Path) -> None:
    words = ["--method", method, *SMALL, *EVERY, *(["--set", "method.queue=16"] if "moco" in method else [])]
    assert pretrain(tmp_path / "run", *words) == 0
    (tmp_path / "run" / "checkpoints" / "step_00000004.pt").unlink()
    assert pretrain(tmp_path / "run", *words, "--resume") == 0


def test_a_newest_checkpoint_that_is_not_finite_is_passed_over(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(run, lambda state: state["objective"]["queue.rows"].fill_(torch.nan))
    assert resume(run) == 0
    assert "not finite, in 'queue.rows'. The one before it is used." in " ".join(capsys.readouterr().err.split())


def test_numbers_that_are_not_finite_are_not_evaluated_or_exported(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(run, lambda state: state["objective"]["backbone.bn1.running_var"].fill_(torch.inf))
    for words in (
        ["knn-eval", str(run)],
        ["linear-eval", str(run)],
        ["export", str(run), "-o", str(tmp_path / "e.onnx")],
    ):
        assert main(words) == 4
        assert "backbone.bn1.running_var" in capsys.readouterr().err
    assert not (tmp_path / "e.onnx").exists()


def test_statistics_that_are_not_finite_are_not_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At such a rate the running variance overflows while loss and gradient are finite."""
    out = tmp_path / "run"
    words = ["--method", "simclr", "--lr", "1e6", "--set", "schedule.warmup=0", "--set", "optim.name=sgd"]
    assert pretrain(out, *words, *SMALL, *EVERY, "--epochs", "9") == 6
    found = [torch.load(path, weights_only=True) for path in (out / "checkpoints").glob("*.pt")]
    assert all(bool(tensor.isfinite().all()) for state in found for tensor in state["objective"].values())
    assert json.loads((out / "status.json").read_text())["exit_code"] == 6


@pytest.mark.parametrize("status", ['{"state": "finished"}', "{}", "[]", '{"schema": 1, "state": "running"}', "["])
def test_a_folder_with_a_status_of_another_program_is_not_a_run(tmp_path: Path, status: str) -> None:
    (tmp_path / "status.json").write_text(status)
    (tmp_path / "metrics.jsonl").write_text("mine, without a newline")
    (tmp_path / "train.log").write_text("mine")
    before = files(tmp_path)
    for flags in ([], ["--resume"], ["--overwrite"]):
        assert pretrain(tmp_path, *SMALL, *EVERY, *flags) == 2
    assert files(tmp_path) == before


INTERRUPTIONS = (Interrupted("SIGINT was received", 130), GeneratorExit(), DataError("gone"), None)


@pytest.mark.parametrize("stop", INTERRUPTIONS, ids=["signal", "closed", "error", "none"])
def test_a_finished_run_stays_finished_whatever_interrupts_its_resume(
    run: Path, stop: BaseException | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = status.read(run)
    seen = list[str | None]()

    def measure(*_: Any, **__: Any) -> Iterator[Event]:
        seen.append(status.read(run)["state"])
        if stop is not None:
            raise stop
        yield from ()

    monkeypatch.setattr("ssl_cli.engine.pretrain.quality", measure)
    settled = settle({"run": {"out": str(run)}}, ["run.evaluate=true"])
    events = trained(settled.settings, origins={"run.evaluate": "--set"}, resume=True, overwrite=False)
    with contextlib.suppress(BaseException):
        list(events)
    assert seen == ["finished"]  # also if it is killed there
    after = status.read(run)
    assert {key: after.get(key) for key in ("state", "exit_code", "reason", "quality")} == {
        key: before.get(key) for key in ("state", "exit_code", "reason", "quality")
    }


def test_a_finished_run_with_more_epochs_is_stopped_as_any_other(run: Path) -> None:
    with closing(
        trained(
            settle({"run": {"out": str(run)}, "schedule": {"epochs": 2}}).settings,
            origins={"schedule.epochs": "--epochs"},
            resume=True,
            overwrite=False,
        )
    ) as events:
        assert next(event for event in events if isinstance(event, Started)).steps == 8
        assert status.state(run) == "running"
    assert status.state(run) == "stopped"


def test_overwrite_deletes_only_what_the_run_wrote(run: Path) -> None:
    assert main(["knn-eval", str(run), "--device", "cpu"]) == 0
    mine = ("checkpoints/best.pt", "checkpoints/step_1.pt", "eval/table.csv", "eval/mine.json", "export/mine.json", "a")
    for name in mine:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text('{"event": "mine"}')
    assert len(list((run / "eval").glob("knn*.json"))) == 2  # of its settings, and the newest
    assert pretrain(run, *SMALL, *EVERY, "--overwrite") == 0
    assert all((run / name).read_text() == '{"event": "mine"}' for name in mine)
    assert not list((run / "eval").glob("knn*.json"))
    assert checkpoint.locate(str(run))[0].stem == "step_00000004"


def test_a_run_that_died_is_said_to_have_died(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "state": "running", "exit_code": None}))
    assert main(["knn-eval", str(run), "--device", "cpu"]) == 0
    assert "(died)" in capsys.readouterr().err
    assert resume(run) == 0
    assert "died" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["link to nothing", "pipe", "file"])
def test_out_that_is_no_folder_is_refused_and_left(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "pipe":
        os.mkfifo(out)
    elif kind == "file":
        out.write_text("")
    else:
        out.symlink_to("nothing")
    assert pretrain(out, *SMALL, *EVERY) == 2
    assert os.path.lexists(out)
    assert not (tmp_path / "nothing").exists()


def test_a_run_of_the_first_format_is_evaluated_and_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It was written before runs had an id. Where the format changes, it stays, and a new one joins."""
    out = shutil.copytree(Path(__file__).parent / "format_1", tmp_path / "run")
    before = checkpoint.load(checkpoint.locate(str(out))[0])
    assert main(["knn-eval", str(out), "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["step"] == before["step"] == 2
    assert resume(out) == 0
    after = checkpoint.load(checkpoint.locate(str(out))[0])
    assert after["step"] == 4
    assert after["objective"].keys() == before["objective"].keys()
