"""Every error is one sentence, a hint and an exit code; never a traceback unless it is asked for."""

import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ssl_cli import errors
from ssl_cli.cli import app, main
from ssl_cli.commands.suggestions import SUGGESTIONS
from ssl_cli.events import Event
from tests.cli.engine import FakeEngine
from tests.selection import slow

TYPOS = {
    # commands
    "pretrian": "pretrain", "knn-evl": "knn-eval", "linear": "linear-eval", "exprot": "export",
    "inspect": "inspect-augs",
    # flags
    "pretrain --lrr 3": "--lr", "pretrain --bacth 3": "--batch", "pretrain --epoch 3": "--epochs",
    "pretrain --overwrit": "--overwrite", "pretrain --micro_batch 3": "--micro-batch",
    "pretrain --presicion bf16": "--precision", "pretrain --batch-size 3": "--batch",
    "knn-eval x --baseline": "--baselines",
    "export x --ouput y": "--output", "inspect-augs -o x --view 3": "--views",
    # methods, backbones, recipes, words of a choice
    "pretrain --method simcrl": "simclr", "pretrain --method SimCRL": "simclr", "pretrain --method moco": "moco-v",
    "pretrain --backbone resnt18": "resnet18", "pretrain --backbone ResNet-50": "resnet50",
    "pretrain --recipe cifr": "cifar", "pretrain --recipe image-net": "imagenet", "pretrain --precision b16": "bf16",
    # settings and operations
    "pretrain --set run.bach=3": "run.batch", "pretrain --set temperature=3": "method.temperature",
    "pretrain --set shedule.epochs=3": "schedule.epochs", "pretrain --set optim.name=lasr": "lars",
    "pretrain --set augment.order=['crop','blurr']": "blur",
    "pretrain --set augment.jiter.strength=1": "augment.jitter",
    # data sets, splits and folders
    "pretrain cifar1O": "cifar10", "pretrain STL-10": "stl10", "pretrain stl10:unlabelled": "unlabeled",
    "pretrain photoss/": "photos", "pretrain phots": "photos", "knn-eval runs/X1": "runs/x",
}  # fmt: skip


@pytest.mark.parametrize("line", TYPOS)
def test_a_typo_gets_the_right_word(engine: FakeEngine, capsys: pytest.CaptureFixture[str], line: str) -> None:
    assert main(line.split()) in {2, 3, 4}
    out, err = capsys.readouterr()
    assert out == ""
    assert TYPOS[line] in err.split("Did you mean")[1]
    assert "Traceback" not in err


USAGE = [
    ["export", "x"],
    ["knn-eval"],
    ["knn-eval", "x", "-k", "0"],
    ["pretrain", "--batch", "x"],
    ["pretrain", "--batch", "-3"],
    ["pretrain", "--lr", "nan"],
    ["pretrain", "--memory", "much"],
    ["pretrain", "--config", "none.toml"],
    ["methods", "a", "b"],
    ["inspect-augs", "-o", "x", "--views", "0"],
]


@pytest.mark.parametrize("words", USAGE, ids=" ".join)
def test_a_wrong_command_line_ends_with_2(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert main([*words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == 2
    assert error["message"].endswith(".")
    assert "\n" not in error["message"]
    assert engine.calls == []


def raising(error: BaseException) -> Callable[[], list[Event]]:
    def answer() -> list[Event]:
        raise error

    return answer


ERRORS = [
    (errors.DataError("No images here.", "Look elsewhere."), 3),
    (errors.CheckpointError("No checkpoint."), 4),
    (errors.ResourceError("No room."), 5),
    (errors.DivergedError("It diverged."), 6),
    (errors.LockedError("It is in use."), 7),
    (errors.SslcliError("Our fault."), 1),
    (MemoryError(), 5),
    (RuntimeError("tensors\nof many lines"), 1),
    (KeyError(161), 1),
    (OSError(errno.ENOSPC, "full"), 5),
    (OSError(errno.EMFILE, "too many"), 5),
    (EOFError(), 1),
    (RuntimeError("can't start new thread"), 5),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: repr(value)[:30])
def test_errors_of_the_engine(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    engine.answers["pretrain"] = raising(error)
    assert main(["pretrain"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.strip().startswith("error: ")
    assert len(err.strip().splitlines()) <= 2
    assert main(["pretrain", "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert set(document) == {"error"}
    assert document["error"]["code"] == code
    assert set(document["error"]) == {"code", "message", "hint"}


def test_control_bytes_in_a_message_are_not_obeyed(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--method", "\x1b[31mred"]) == 2
    assert "\x1b" not in capsys.readouterr().err


@pytest.mark.parametrize("words", [["pretrain", "--debug"], ["pretrain"]])
def test_a_traceback_is_there_for_who_asks(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    if "--debug" not in words:
        monkeypatch.setenv("SSLCLI_DEBUG", "1")
    engine.answers["pretrain"] = raising(RuntimeError("deep inside"))
    assert main(words) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_package_that_another_one_lacks_is_no_bug() -> None:
    for name, hint in (("tqdm", "pip install tqdm"), ("tqdm.auto", "pip install --upgrade tqdm")):
        found = errors.convert_exception(ModuleNotFoundError(f"No module named '{name}'", name=name))
        assert (found.code, found.hint) == (2, hint)
        assert f"module {name}," in found.message
    of_sslcli = errors.convert_exception(ModuleNotFoundError("No module named 'ssl_cli.gone'", name="ssl_cli.gone"))
    assert of_sslcli.code == 1


def test_ctrl_c(engine: FakeEngine) -> None:
    engine.answers["pretrain"] = raising(KeyboardInterrupt())
    assert main(["pretrain"]) == 130


@pytest.mark.parametrize(("command", "hint"), [("pretrain", "--resume"), ("knn-eval", "the same command again")])
def test_ctrl_c_is_said_as_json_too(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, hint: str
) -> None:
    engine.answers[command.replace("-", "_")] = raising(KeyboardInterrupt())
    (tmp_path / "run.pt").touch()
    words = [command, "--json", *([str(tmp_path / "run.pt")] * (command == "knn-eval"))]
    assert main(words) == 130
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], error["message"]) == (130, "Stopped: SIGINT was received.")
    assert hint in error["hint"]


IMPORTED = """
import os, signal, sys
from ssl_cli import __main__

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "ssl_cli.cli":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Finder())
sys.exit(__main__.run())
"""


def test_ctrl_c_while_modules_are_imported_shows_no_traceback() -> None:
    words = [sys.executable, "-c", IMPORTED, "runs", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (130, "")
    assert json.loads(done.stdout)["error"]["code"] == 130


def test_a_signal_before_the_first_step(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    def stops() -> list[Event]:
        raise errors.Interrupted("SIGTERM was received", 75)

    engine.answers["pretrain"] = stops
    assert main(["pretrain"]) == 75
    assert capsys.readouterr() == ("", "stopped: SIGTERM was received\n")
    assert main(["pretrain", "--json"]) == 75
    assert json.loads(capsys.readouterr().out)["error"]["message"] == "Stopped: SIGTERM was received."


@pytest.mark.parametrize(
    "words", ["knn-eval x", "linear-eval x", "export x -o e.onnx", "methods", "bench", "pretrain --dry-run"]
)
def test_of_several_processes_one_answers(
    engine: FakeEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main(words.split()) == 0
    assert capsys.readouterr() == ("", "")
    assert engine.calls == []


def test_the_error_file_holds_sentence_code_and_hint(
    engine: FakeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    for error, code in (
        (errors.DataError("No such image.", "Look."), 3),
        (errors.OutOfMemoryError("Full.", "Less."), 5),
    ):
        engine.answers["pretrain"] = raising(error)
        assert main(["pretrain"]) == code
        written = json.loads((tmp_path / "error.json").read_text())["message"]
        extra = written["extraInfo"]
        assert (written["message"], written["errorCode"], extra["hint"]) == (error.message, code, error.hint)
        assert extra["out_of_memory"] == (code == 5)
        assert extra["timestamp"].isdigit()


STREAMS = {
    "(sslcli pretrain --help; echo $? >&3) | true": 0,
    "(sslcli pretrain --help; echo $? >&3) 2>&1 | true": 0,
    "(sslcli pretrian; echo $? >&3) 2>&1 | true": 2,
    "sslcli pretrain --help >&-; echo $? >&3": 0,
    "sslcli pretrian 2>&-; echo $? >&3": 2,
    "sslcli pretrian --json <&- >&- 2>&-; echo $? >&3": 2,
    "sslcli pretrain --help >/dev/full; echo $? >&3": 5,
    "COLUMNS=30 sslcli pretrain --help >/dev/full; echo $? >&3": 5,
    "sslcli pretrian --json >/dev/full; echo $? >&3": 5,
    "(sslcli methods; echo $? >&3) | true": 0,
    "(sslcli methods --json; echo $? >&3) | head -1 >/dev/null": 0,
    "sslcli methods 2>/dev/full; echo $? >&3": 0,
    "sslcli methods --json >/dev/full 2>/dev/full; echo $? >&3": 5,
    "sslcli pretrian 2>/dev/full; echo $? >&3": 2,
    "sslcli pretrian --json 2>/dev/full; echo $? >&3": 2,
}


@pytest.mark.parametrize("line", [*list(STREAMS)[::3], *slow(*list(STREAMS)[1::3], *list(STREAMS)[2::3])])
def test_streams_that_are_closed_or_full_end_with_a_code(line: str) -> None:
    script = f'exec 3>&2; sslcli() {{ "{sys.executable}" -m ssl_cli "$@"; }}; {line}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300, check=False)
    assert done.stderr.split()[-1] == str(STREAMS[line])
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


BRIEF = (
    "pretrain --out run --epochs 1 --batch 16 --image-size 8 --width 0.0625 --precision fp32 --set data.images=64"
    " --set hardware.memory_format=contiguous --compile off"
)


@pytest.mark.slow
@pytest.mark.parametrize("display", ["2>/dev/full", "2>&-", "2> >(true)"])
@pytest.mark.parametrize(("result", "code"), [(">out", 0), ("> >(true)", 0), (">/dev/full", 5), (">&-", 0)])
def test_a_run_ends_whatever_becomes_of_its_streams(tmp_path: Path, display: str, result: str, code: int) -> None:
    script = f'"{sys.executable}" -m ssl_cli {BRIEF} {result} {display}'
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, timeout=300, check=False)
    assert done.returncode == code
    assert json.loads((tmp_path / "run" / "status.json").read_text(encoding="utf-8"))["state"] == "finished"
    if result == ">out":
        assert "sslcli export run" in (tmp_path / "out").read_text(encoding="utf-8")


def test_a_traceback_is_in_the_log_of_the_run_and_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "ph\x1b[31motos"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", str(folder), "--out", "run", "--batch", "2", "--recipe", "cifar", "--debug"]) == 3
    err = capsys.readouterr().err
    assert "Traceback" in err
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert "Traceback" in log
    assert "\x1b" not in err + log
    assert len(log.splitlines()) > 5
    assert "--debug" not in err.splitlines()[-1]


def test_a_terminal_that_knows_ascii_alone_ends_no_run(engine: FakeEngine) -> None:
    program = "import sys; from ssl_cli.cli import main; sys.exit(main(['pretrain', '--method', 'é写\\udcff']))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONIOENCODING": "ascii", "HOME": "."},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 2
    assert "There is no method" in done.stderr


@pytest.mark.parametrize("word", SUGGESTIONS)
def test_commands_of_other_programs_lead_to_ours(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    assert main([word, "runs/x"]) == 2
    message, hint, *more = capsys.readouterr().err.splitlines()
    assert message == f"error: No such command '{word}'."
    assert "sslcli " in hint
    assert more == []
    commands = {command.name for command in app.registered_commands}
    assert set(re.findall(r"sslcli ([a-z-]+) ", hint)) <= commands
