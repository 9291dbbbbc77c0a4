"""Wrong inputs and what is said of them: one sentence, the next thing to try, the right exit code, no traceback."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from ssl_cli import status
from ssl_cli.cli import main


@dataclass(frozen=True)
class Wrong:
    """A command line, and what its error holds."""

    line: str
    code: int
    message: str
    hint: str
    env: dict[str, str] = field(default_factory=dict)
    toml: str = ""


LONG = "a" * 300
ZERO = 'run.out = "a\\u0000b"\n'
SMALL = "--recipe cifar --image-size 16 --backbone resnet18 --width 0.0625 --precision fp32 --compile off"
TABLE = [
    # words of the command line
    Wrong("pretrian", 2, "No such command 'pretrian'", "pretrain?"),
    Wrong("photos/", 2, "No such command 'photos/'", "sslcli pretrain photos/"),
    Wrong("nothing", 2, "No such command 'nothing'", "See sslcli --help."),
    Wrong("--batch pretrain", 2, "No such option: --batch", "sslcli pretrain --batch"),
    Wrong("pretrain --bacth 3", 2, "No such option: --bacth", "Did you mean --batch?"),
    Wrong("pretrain --temperature 0.2", 2, "No such option: --temperature", "--set method.temperature=VALUE"),
    Wrong("finetune runs/first --method simclr", 2, "No such option: --method", "See sslcli finetune --help"),
    Wrong("pretrain --batch", 2, "'--batch' requires an argument", "sslcli pretrain --help"),
    Wrong("pretrain --batch many", 2, "Invalid value for '--batch'", "sslcli pretrain --help"),
    Wrong("pretrain photos birds cifar10", 3, "called 'cifar10'", "stands alone"),
    Wrong("export runs/first photos -o x.onnx", 2, "unexpected extra argument", "sslcli export --help"),
    Wrong("knn-eval", 2, "Missing argument 'RUN'", "sslcli knn-eval --help"),
    Wrong("pretrain photos ''", 2, "is empty.", "variable of the shell"),
    Wrong("knn-eval runs/first ' '", 2, "is empty.", "variable of the shell"),
    Wrong("pretrain photos --out ''", 2, "behind --out is empty.", "variable of the shell"),
    Wrong("export runs/first --output=", 2, "behind --output is empty.", "variable of the shell"),
    # settings, with where they come from
    Wrong("pretrain --batch -3", 2, "run.batch = -3 (from --batch)", "Give --batch another value"),
    Wrong("pretrain --width 99", 2, "model.width = 99.0 (from --width)", "Give --width"),
    Wrong("pretrain --lr nan", 2, "optim.lr = nan (from --lr)", "Give --lr"),
    Wrong("pretrain --memory 4XB", 2, "'4XB' as an amount", "Give --memory"),
    Wrong("pretrain --max-time soon", 2, "'soon' as an amount", "Give --max-time"),
    Wrong(f"pretrain --memory {'9' * 400}GB", 2, "too much", "Give --memory"),
    Wrong("pretrain --method simcrl", 2, "no method 'simcrl' (from --method)", "'simclr'"),
    Wrong("pretrain --method mine.py", 2, "names a file, not a method", "mine.py:Class"),
    Wrong("pretrain --method none.py:Mine", 2, "no file none.py", "file.py:Class"),
    Wrong("pretrain --method mine.py:Mien", 2, "no 'Mien' in mine.py", "'Mine'"),
    Wrong("pretrain --method bad.py:Mine", 2, "division by zero", "--debug"),
    Wrong("pretrain --recipe cifr", 2, "no recipe family 'cifr' (from --recipe)", "'cifar'"),
    Wrong("pretrain --backbone resnet5", 2, "no backbone 'resnet5'", "Did you mean 'resnet"),
    Wrong("pretrain --precision fp23", 2, "'auto', 'fp32' or 'bf16'", "'fp32'"),
    Wrong("pretrain --set run.bach=3", 2, "no setting 'run.bach' (from --set)", "'run.batch'"),
    Wrong("pretrain --set run.batch", 2, "Cannot read --set run.batch", "section.key=value"),
    Wrong("pretrain --set optim=3", 2, "'optim' is a table", "optim.name"),
    Wrong("pretrain --set optim.nesterov=true --set optim.name=adamw", 2, "nesterov belongs to sgd", "--set optim."),
    Wrong("""pretrain --set 'augment.order=["crop","blurr"]'""", 2, "no operation 'blurr'", "'blur'"),
    Wrong("pretrain", 2, "(from SSLCLI_RUN__BATCH)", "variable SSLCLI_RUN__BATCH", env={"SSLCLI_RUN__BATCH": "abc"}),
    Wrong("pretrain", 2, "(from SSLCLI_RUN__BACH)", "'SSLCLI_RUN__BATCH'", env={"SSLCLI_RUN__BACH": "3"}),
    Wrong("pretrain", 2, "(from SSLCLI_METHOD__NAME)", "'simclr'", env={"SSLCLI_METHOD__NAME": "simcl"}),
    Wrong("pretrain", 2, "(from line 3 of sslcli.toml)", "Correct line 3", toml="[run]\nseed = 1\nbatch = 'x'\n"),
    Wrong("pretrain", 2, "'run.bach' (from line 2 of sslcli.toml)", "'run.batch'", toml="[run]\nbach = 3\n"),
    Wrong("pretrain", 2, "'optim.nam' (from line 1 of sslcli.toml)", "'optim.name'", toml="optim.nam = 'sgd'\n"),
    Wrong("pretrain", 2, "sslcli.toml is not TOML", "[run]", toml="[run\n"),
    Wrong(
        "pretrain",
        2,
        "(from line 1 of sslcli.toml) is refused: it holds a zero byte",
        "Correct line 1",
        toml='run.out = "a\\u0000b"\n',
    ),
    Wrong("pretrain --config none.toml", 2, "none.toml: No such file", "TOML file"),
    Wrong("pretrain --config photos", 2, "it is a folder", "TOML file"),
    Wrong("pretrain --recipe none.toml", 2, "none.toml: No such file", "TOML file"),
    Wrong("pretrain --device gpu", 2, "'gpu' (from --device) is refused: there is no such device", "auto, cpu, cuda"),
    Wrong("pretrain --memory 8", 2, "'8' (from --memory) is refused: it should be 64.0 MB at least", "Give --memory"),
    Wrong("bench setp", 2, "no benchmark 'setp'", "Did you mean 'step'?"),
    Wrong("bench photos", 2, "no benchmark 'photos'", "sslcli bench all photos"),
    Wrong("bench zebra", 2, "no benchmark 'zebra'", "Known: all, augment, knn, loader, loss, step."),
    Wrong("bench step none", 3, "none", ""),
    Wrong("bench all photos --batch -3", 2, "run.batch = -3 (from --batch)", "Give --batch another value"),
    Wrong("bench all photos --epoch 3", 2, "No such option: --epoch", "--epochs"),
    Wrong("bench --temperature 0.2", 2, "No such option: --temperature", "--set method.temperature=VALUE"),
    # the run folder
    Wrong("pretrain --out photos", 2, "photos is not empty and holds no run", "another --out"),
    Wrong("pretrain --out old", 2, "old is not empty", "--resume"),
    Wrong("pretrain --out old --resume --overwrite", 2, "exclude each other", "one of them"),
    Wrong("pretrain --out text.txt", 2, "text.txt is a file", "folder"),
    Wrong("pretrain --out /", 2, "/ is not empty", "another --out"),
    Wrong(f"pretrain --out {LONG}", 2, "File name too long", "another --out"),
    Wrong("pretrain --resume", 2, "--resume needs", "--out"),
    Wrong("pretrain --resume --out runs/frist", 2, "no run in runs/frist to resume", "Did you mean 'runs/first'?"),
    Wrong("pretrain --resume --out none", 2, "no run in none to resume", "sslcli pretrain DATA --out none"),
    Wrong("pretrain --resume --out empty", 2, "no run in empty to resume", "sslcli pretrain DATA --out empty"),
    Wrong("finetune --resume --out runs/frist", 2, "no run in runs/frist to resume", "Did you mean 'runs/first'?"),
    Wrong("distill --resume --out none", 2, "no run in none to resume", "sslcli distill TEACHER --out none"),
    Wrong("pipeline --resume --out runs/frist", 2, "no pipeline in runs/frist to resume", "'runs/first'"),
    Wrong("pipeline --resume --out none --labels 10%", 2, "no pipeline in none to resume", "sslcli pipeline DATA"),
    Wrong("study --resume --out runs/frist", 2, "no study in runs/frist to resume", "'runs/first'"),
    Wrong("pretrain --overwrite", 2, "--overwrite needs", "--out"),
    Wrong("pretrain --dry-run --resume --out old", 2, "--dry-run plans a new run", "plan.json"),
    Wrong("pretrain --resume --out used", 7, "used is in use by process", "another --out"),
    # images
    Wrong("pretrain nope/", 3, "folder nope does not exist", "folder that holds images"),
    Wrong("pretrain photoss/", 3, "folder photoss does not exist", "'photos'"),
    Wrong("pretrain phots", 3, "no data set called 'phots'", "'photos'"),
    Wrong("pretrain cifar1O", 3, "no data set called 'cifar1O'", "'cifar10'"),
    Wrong("pretrain stl10:unlabelled", 3, "no split 'unlabelled'", "'unlabeled'"),
    Wrong("pretrain cifar10", 3, "'cifar10' is not in the data folder", "--download"),
    Wrong("pretrain empty", 3, "no image in empty", "Looked for"),
    Wrong("pretrain text.txt", 3, "None of the first files in the list", "relative to the folder of the list"),
    Wrong(f"pretrain {LONG}/", 3, "does not exist", ""),
    Wrong("pretrain photos --test-data nope/", 3, "folder nope does not exist", ""),
    Wrong("pretrain --test-data photos", 2, "test images of its own", "together with DATA"),
    Wrong("pretrain photos ./photos", 3, "./photos is given more than once", "Give it once."),
    Wrong("pretrain birds/a birds", 3, "birds/a lies in birds", "Leave birds/a out"),
    Wrong("knn-eval runs/first birds birds/b", 3, "birds/b lies in birds", "Leave birds/b out"),
    Wrong("pretrain birds --test-data birds", 3, "birds, are among the training images", "Give others"),
    Wrong("knn-eval runs/first birds --test-data birds/a", 3, "are among the training images", "--test-data out"),
    Wrong("pretrain photos --batch 64", 3, "fewer than the batch of 64", "--batch 6 or less"),
    Wrong("pretrain solo --batch 2", 3, "solo holds 1 image, and training takes 2 at least", "another folder"),
    Wrong(f"pretrain broken --batch 2 {SMALL}", 3, "6 of 6 images of", ""),
    # evaluation
    Wrong("knn-eval none", 4, "no run or checkpoint at none", "pretrain --out"),
    Wrong("knn-eval runs/frist", 4, "no run or checkpoint at runs/frist", "'runs/first'"),
    Wrong("knn-eval runs", 4, "runs is no run", "'runs/first'"),
    Wrong("knn-eval photos", 4, "photos is no run", "sslcli runs lists them"),
    Wrong("linear-eval text.txt", 4, "not a checkpoint", "pretrain wrote"),
    Wrong("knn-eval runs/first -k 0", 2, "'-k'", "sslcli knn-eval --help"),
    Wrong("knn-eval runs/first --temperature inf", 2, "not a finite number", "sslcli knn-eval --help"),
    Wrong("linear-eval runs/first --limit 0", 2, "'--limit'", "sslcli linear-eval --help"),
    Wrong("linear-eval runs/first photos", 3, "no labels", "one folder per class"),
    Wrong("knn-eval runs/first nope/", 3, "folder nope does not exist", ""),
    Wrong("linear-eval runs/first --device gpu", 2, "'gpu' (from --device) is refused", "Known: auto, cpu"),
    Wrong("knn-eval encoder.onnx birds --method simclr", 2, "measured without its method", "Leave --method out."),
    Wrong("linear-eval encoder.onnx birds --method simclr", 2, "measured without its method", "Leave --method out."),
    Wrong("knn-eval runs/first --method simcrl", 2, "There is no method 'simcrl'", "'simclr'"),
    Wrong("neighbors runs/first --duplicates -k 3", 2, "-k is for an IMAGE", "--above gives fewer"),
    Wrong("neighbors runs/first photos", 3, "photos is a folder, not an image", "--data says among which"),
    Wrong("pipeline birds --labels 50% --student resnet5", 2, "'resnet5' (from --student)", "'resnet"),
    Wrong("study list --time 2h", 2, "study list takes nothing else", "sslcli study list"),
    Wrong("study list photos", 2, "study list takes nothing else", "sslcli study list"),
    Wrong("study show old used", 2, "the folder of one study", "sslcli study show DIR"),
    Wrong("study show old --seeds 3", 2, "the folder of one study", "sslcli study show DIR"),
    Wrong("study rivalry photos --arms moco", 2, "there is no arm 'moco'", "moco-v2-1x"),
    Wrong("study cost photos --arms moco-b100", 2, "there is no arm 'moco-b100'", "moco-b256"),
    Wrong("config show nope/", 3, "folder nope does not exist", "folder that holds images"),
    Wrong("config init phots -o new.toml", 3, "no data set called 'phots'", "'photos'"),
    Wrong("knn-eval runs/first cifar10", 3, "'cifar10' is not in the data folder", "--download"),
    Wrong("knn-eval runs/first", 2, "SSLCLI_HARDWARE__DEVISE", "DEVICE'", env={"SSLCLI_HARDWARE__DEVISE": "cpu"}),
    # names that a terminal would obey
    Wrong("pretrain 'ev\x1b[31mil/'", 3, r"no image in ev\x1b[31mil", "Looked for"),
    Wrong("pretrain 'ev\x1b[31m/'", 3, r"ev\x1b[31m does not exist", r"ev\x1b[31mil"),
    Wrong("pretrain 'two\nlines/'", 3, r"two\nlines does not exist", ""),
    Wrong("pretrain 'odd\udcff/'", 3, r"odd\udcff does not exist", ""),
    Wrong("pretrain --config 'ev\x1b[31mil.toml'", 2, r"ev\x1b[31mil.toml: No such file", ""),
    Wrong("pretrain --out 'ev\x1b[31mil'", 2, r"ev\x1b[31mil is not empty", ""),
    Wrong("knn-eval 'ev\x1b[31mrun'", 4, r"ev\x1b[31mrun", ""),
]
NAMES = [f"{row.line[:40]!r}{'+toml' * bool(row.toml)}{'+env' * bool(row.env)}" for row in TABLE]


def furnish(place: Path) -> None:
    """A folder with images, runs and what may be taken for either."""
    for name in ("photos", "solo", "birds/a", "birds/b", "empty", "broken", "old", "used", "runs", "ev\x1b[31mil"):
        (place / name).mkdir(parents=True)
    for number in range(6):
        for folder in ("photos", "birds/a", "birds/b"):
            Image.new("RGB", (40, 40), (number * 40, 0, 90)).save(place / folder / f"{number}.png")
        (place / "broken" / f"{number}.png").write_bytes(b"\x89PNG\r\n")
    Image.new("RGB", (40, 40)).save(place / "solo" / "0.png")
    for name in ("text.txt", "ev\x1b[31mil/note"):
        (place / name).write_text("words", encoding="utf-8")
    (place / "mine.py").write_text("class Mine:\n    pass\n", encoding="utf-8")
    (place / "bad.py").write_text("1 / 0\n", encoding="utf-8")
    for run in ("old", "used"):
        status.write(place / run, "its id", "stopped", 75, "SIGTERM was received")
        (place / run / "settings.toml").touch()
    small = (
        "data.images=32 data.size=16 model.width=0.0625 schedule.epochs=1 hardware.precision=fp32 run.evaluate=false"
    )
    words = [word for setting in small.split() for word in ("--set", setting)]
    assert (
        main(
            [
                "pretrain",
                "--batch",
                "32",
                "--epochs",
                "1",
                "--compile",
                "off",
                "--out",
                str(place / "runs" / "first"),
                *words,
            ]
        )
        == 0
    )


HOLDER = """
import fcntl, sys
with open(sys.argv[1], "w") as file:
    file.write("process 1 on elsewhere")
    file.flush()
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that every row of the table runs in; `used` is held by another process."""
    folder = tmp_path_factory.mktemp("place")
    furnish(folder)
    words = [sys.executable, "-c", HOLDER, str(folder / "used" / ".lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield folder


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in [name for name in os.environ if name.startswith("SSLCLI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    monkeypatch.chdir(place)
    yield place
    (place / "sslcli.toml").unlink(missing_ok=True)


@pytest.mark.parametrize("row", TABLE, ids=NAMES)
def test_a_wrong_input_gets_one_sentence(
    row: Wrong, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in row.env.items():
        monkeypatch.setenv(name, value)
    if row.toml:
        (here / "sslcli.toml").write_text(row.toml, encoding="utf-8")
    before = sorted(here.rglob("*"))
    words = shlex.split(row.line)
    assert main([words[0], "--json", *words[1:]]) == row.code
    out, err = capsys.readouterr()
    error = json.loads(out)["error"]
    assert error["code"] == row.code
    assert row.message in error["message"]
    assert row.hint in error["hint"]
    assert error["message"].endswith(".")
    assert not re.search(r"[.!?] +[A-Z]", error["message"]), "more than one sentence"
    assert error["hint"], "nothing to try next"
    assert error["message"].isprintable()
    assert error["hint"].isprintable()
    assert "Traceback" not in err
    assert main(words) == row.code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(f"error: {error['message']}\n  {error['hint']}\n")
    assert "\x1b" not in err
    assert "Traceback" not in err
    left = [path for path in here.rglob("*") if path not in before and "runs" not in path.parts]
    assert left == [] or row.toml, "a refused command left something behind"


def test_checkpoints_that_may_not_be_read_are_said(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: "checkpoints" not in str(path))
    assert main(["knn-eval", "runs/first"]) == 4
    assert "error: runs/first/checkpoints may not be read.\n" in capsys.readouterr().err


def test_the_table_is_long() -> None:
    assert len(TABLE) >= 30
    assert {row.code for row in TABLE} >= {2, 3, 4, 7}


EARLY = [
    "pretrain nope/",
    "pretrain empty",
    "pretrain cifar1O",
    "pretrain --out old",
    "pretrain --resume --out used",
    "knn-eval none",
    "linear-eval runs/first nope/",
    "pretrain cifar10",
    "pretrain --out mine.py/run",
    "pretrain --set data.cache=disk --set data.cache_folder=mine.py/cache",
    "knn-eval runs/first --test-data nope/",
    "knn-eval runs/first --confusion mine.py/matrix.png",
    "neighbors runs/first --duplicates --sheet mine.py/pairs.png",
    "neighbors runs/first --duplicates --data photos --sheet photos/pairs.png",
    "map runs/first photos -o photos/map.png",
    "inspect-augs photos -o mine.py/sheet.png",
    "inspect-augs photos -o photos/sheet.png",
    "data check photos --sheet mine.py/odd.png",
    "finetune runs/first photos --out mine.py/tuned",
    "distill runs/first --out mine.py/student",
    "pipeline photos --out mine.py/road",
    "study rivalry photos --out mine.py/study",
    "runs compare runs/first --plot mine.py/curves.png",
    "config show nope/",
    "pretrain photos --device foo",
    "pretrain photos --memory 1",
    "export runs/first -o /proc/encoder.onnx",
    "neighbors runs/first photos",
    "embed runs/first photos -o photos/vectors.npy",
    "study rivalry photos --arms foo",
    "study rivalry photos --device foo",
    "study rivalry photos --memory 1",
    "pretrain photos --memory 1MB",
    "inspect-augs photos --op normalize",
    "knn-eval runs/first --method simcrl",
    "pipeline birds --labels 50% --student resnet5",
]


def test_what_needs_no_torch_is_refused_without_it(here: Path) -> None:
    program = (
        "import shlex, sys; from ssl_cli.cli import main\nfor line in sys.argv[1:]: assert main(shlex.split(line))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{program}assert 'torch' not in sys.modules and 'numpy' not in sys.modules", *EARLY],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == len(EARLY)
