"""Hostile settings: whatever is given, `settle` ends at once, with settings that survive their file, or a sentence."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from ssl_cli.cli import app
from ssl_cli.config.methods import CustomMethodSettings, MethodSettings, method_settings
from ssl_cli.config.refusal import env_name
from ssl_cli.config.resume import continued
from ssl_cli.config.sources import settle
from ssl_cli.config.toml_file import nest
from ssl_cli.config.tree import leaves
from ssl_cli.engine.run.folder import RunFolder
from ssl_cli.errors import UsageError
from ssl_cli.registry import METHODS

MEMORY = 3 << 29
"""Bytes of address space of a process that refuses its settings: 1.5 GB."""


@dataclass(frozen=True)
class Hostile:
    """Settings from one of their places, and words of the refusal."""

    words: str
    sets: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    toml: bytes | None = None
    """Content of a file; it is tried as --config, ./sslcli.toml, the user's file and a recipe."""


def of_sets(words: str, *items: str) -> list[Hostile]:
    return [Hostile(words, (item,)) for item in items]


def of_files(words: str, *contents: bytes) -> list[Hostile]:
    return [Hostile(words, toml=content) for content in contents]


HUGE, LONG = "1" + "0" * 400, "x" * 100_000
CASES = [
    # numbers that are none, that nothing can hold, or that no run can use
    *of_sets("finite", "hardware.memory=inf", "hardware.memory=-inf", "hardware.memory=nan", "run.max_time=inf"),
    *of_sets("finite", "schedule.warmup=inf", "optim.lr=nan", "augment.crop.scale=[nan,1]"),
    *of_sets("finite", "augment.noise.sigma=[1,inf]", "method.temperature=-inf"),
    *of_sets("less than or equal", "hardware.memory=1e308", "schedule.warmup=1e308", "schedule.gamma=1e308"),
    *of_sets("less than or equal", "run.max_time=1e308", "optim.lr=1e308", "optim.base_lr=1e308", "optim.trust=1e308"),
    *of_sets("less than or equal", "optim.weight_decay=1e308", "method.temperature=1e308", "method.loss_scale=1e308"),
    *of_sets("less than or equal", "augment.jitter.strength=1e308", "augment.jitter.brightness=1e308"),
    *of_sets("less than or equal", "augment.normalize.mean=[1e308,0,0]", "augment.normalize.std=[1e308,1,1]"),
    *of_sets("greater than or equal", "method.temperature=1e-320", "model.width=1e-320", "optim.trust=1e-320"),
    *of_sets("positive numbers", "augment.blur.sigma=[1e-320,1e308]", "augment.crop.ratio=[1e308,1e308]"),
    *of_sets("positive numbers", "augment.crop.scale=[-1,1]", "augment.cutout.size=[0,0]"),
    *of_sets("less than or equal", "run.batch=2147483648", "data.images=2147483648", "data.threads=2147483648"),
    *of_sets("less than or equal", "schedule.epochs=2147483648", "method.head_dim=2147483648", "run.keep=2147483648"),
    *of_sets("less than or equal", "hardware.micro_batch=9223372036854775807", "data.limit=9223372036854775807"),
    *of_sets("too large", f"run.batch={HUGE}", "run.batch=9223372036854775808", f"hardware.memory={HUGE}"),
    *of_sets("greater than", "run.batch=-1", "schedule.epochs=0", "data.threads=0", "run.keep=0", "data.size=-1"),
    *of_sets("greater than", "optim.lr=0", "optim.lr=-0.0", "hardware.micro_batch=-1"),
    # what is no number where one is needed, and no text where that is
    *of_sets("run.batch", "run.batch=", "run.batch=''", "run.batch=[[1,[2]]]", "run.batch={a=1}"),
    *of_sets("run.batch", f"run.batch={'9' * 5000}"),
    *of_sets("milestones", "schedule.milestones=[1,[2,[3]]]", "schedule.milestones=[-1]"),
    *of_sets("milestones", f"schedule.milestones=[{'1,' * 20_000}]"),
    *of_sets("zero byte", 'run.out="a\\u0000b"', "data.source='a\0b'", 'hardware.device="\\u0000"'),
    *of_sets("longer than 4,096", f"run.out={LONG}", f"data.source={LONG}", f"hardware.device={LONG}"),
    *of_sets("at least", "hardware.memory=0", "hardware.memory=-1", "hardware.memory=8", "hardware.memory=999kB"),
    *of_sets("no such device", "hardware.device=gpu", "hardware.device=cuda:x", "hardware.device=''"),
    *of_sets("amount", "hardware.memory=\udcff", "run.max_time=\udcff"),
    *of_sets("no backbone", "model.backbone=\udcff", f"model.backbone={'y' * 4000}"),
    *of_sets("no operation", "augment.order=['crop','\udcff']"),
    # names
    *of_sets("There is no setting", "nonsense=1", "run.\x1b[31m=1", "run..batch=1", f"{LONG}=1", f"run.{LONG}=1"),
    *of_sets("There is no setting", f"{'a.' * 8000}a=1", "optim={a={a={a={a={a={a={a={a={a=1}}}}}}}}}", "run.\udcff=1"),
    *of_sets("Cannot read --set", "", "=", "=1", "run.batch", LONG),
    Hostile("There is no setting", env={"SSLCLI_" + "A__" * 8000: "1"}),
    Hostile("There is no setting", env={f"SSLCLI_{LONG}": "1"}),
    Hostile("There is no setting", env={"SSLCLI_RUN__\x1b": "1"}),
    Hostile("finite", env={"SSLCLI_HARDWARE__MEMORY": "inf"}),
    Hostile("table", env={"SSLCLI_OPTIM": "[" * 60_000}),
    Hostile("run.batch", env={"SSLCLI_RUN__BATCH": "{" + "a." * 30_000 + "a=1}"}),
    # files
    *of_files("larger than 1 MB", b"#" * 50_000_000, b"\n" * 2_000_000),
    *of_files("nested too deeply", b"a = " + b"[" * 200_000, b"a = " + b"{a=" * 100_000),
    *of_files("too many dots", b"a." * 8000 + b"a = 1", b"[" + b"a." * 8000 + b"a]", b"'a'." * 8000 + b"a = 1"),
    *of_files("too many dots", b"a = {" + b"a." * 200_000 + b"a = 1}", b"[[" + b"a . " * 8000 + b"a]]"),
    *of_files("settings", b"".join(b"a%d = 1\n" % i for i in range(100_000))),
    *of_files("not TOML", b"run.batch = " + b"9" * 100_000, b"run.out = '\xff'", b"\xff\xfe[run]", b"run.out = 'a\0b'"),
    *of_files("not TOML", b"[run\nbatch", b'"' * 99_999, b"'''" + b"x" * 99_999, b'\\"' * 400_000),
    *of_files("There is no setting", b'[""]\n"\\u001b" = 1', b"'" + b"x" * 10_000 + b"' = 1", b'"\\u202e" = 1'),
]  # fmt: skip
PLACES = ("config", "project", "user", "recipe")


@pytest.fixture(autouse=True)
def hang_guard() -> Iterator[None]:
    """Fail where a case never ends."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError("it does not end")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def from_file(place: str, path: Path, content: bytes | None) -> dict[str, Any]:
    """Return the arguments by which `settle` reads its settings in `path` from this place; write the content to it."""
    names = {"project": "sslcli.toml", "user": "user.toml"}
    file = path / names.get(place, "file.toml")
    if content is not None:
        file.write_bytes(content)
    more: dict[str, Any] = {"config": file} if place == "config" else {}
    return {"flags": {"run": {"recipe": str(file)}} if place == "recipe" else {}, **more}


def refused(path: Path, **given: Any) -> UsageError:
    """Return how `settle` refuses this."""
    given = {"flags": {}, "env": {}, "cwd": path, "user_file": path / "user.toml", **given}
    with pytest.raises(UsageError) as caught:
        settle(**given)
    require_sentence(caught.value)
    return caught.value


def require_sentence(error: UsageError) -> None:
    """Look at what is said: one sentence without control characters, and a hint."""
    assert error.message.endswith(".")
    assert error.message.isprintable()
    assert len(error.message) < 1000
    assert 0 < len(error.hint) < 1000


def test_there_are_ninety() -> None:
    assert len({(case.sets, *case.env.items(), case.toml) for case in CASES}) == len(CASES) >= 90


@pytest.mark.parametrize("number", range(len(CASES)))
def test_a_hostile_setting_is_refused_in_a_sentence(tmp_path: Path, number: int) -> None:
    case = CASES[number]
    if case.toml is None:
        assert case.words in refused(tmp_path, sets=case.sets, env=case.env).message
        return
    place = PLACES[number % len(PLACES)]
    assert case.words in refused(tmp_path, **from_file(place, tmp_path, case.toml)).message


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("number", [number for number, case in enumerate(CASES) if case.toml is not None])
def test_a_hostile_file_is_refused_wherever_it_is(tmp_path: Path, number: int, place: str) -> None:
    assert CASES[number].words in refused(tmp_path, **from_file(place, tmp_path, CASES[number].toml)).message


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "socket"])
@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_is_not_opened(tmp_path: Path, place: str, kind: str) -> None:
    given = from_file(place, tmp_path, b"")
    file = next(path for path in tmp_path.iterdir())
    file.unlink()
    make: dict[str, Callable[[], object]] = {
        "pipe": lambda: os.mkfifo(file),
        "folder": file.mkdir,
        "device": lambda: file.symlink_to("/dev/zero"),
        "socket": lambda: os.mknod(file, 0o140600),
    }
    make[kind]()
    assert ("a folder" if kind == "folder" else "not a regular file") in refused(tmp_path, **given).message


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf[run]\nbatch = 64\n", b"[run]\r\nbatch = 64\r\n"])
def test_files_of_other_editors_are_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "sslcli.toml").write_bytes(content)
    settled = settle({}, env={}, cwd=tmp_path, user_file=tmp_path / "none")
    assert settled.settings.run.batch == 64
    assert settled.origins["run.batch"].startswith("line 2 of ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = nan", "finite"),
        ("a = 99999999999999999999", "too large"),
        ("a = 2026-01-01", "should be text, a number"),
        ("a = [[[[[[[[[1]]]]]]]]]", "too deeply"),
        ('a = ["\\u0000"]', "zero byte"),
        (f"a = [{'1,' * 5000}]", "4,096 entries"),
        ('"\\u001b" = 1', "There is no setting"),
    ],
)
def test_settings_of_a_method_of_ones_own_are_bounded_too(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.py").touch()
    (tmp_path / "sslcli.toml").write_text(f"[method]\n{text}\n", encoding="utf-8")
    flags = {"method": {"name": f"{tmp_path}/mine.py:Mine"}}
    assert words in refused(tmp_path, flags=flags).message


COMMANDS = {
    "pretrain": [], "methods": [], "inspect-augs": [], "knn-eval": ["run"], "linear-eval": ["run"], "bench": [],
    "data": ["check"], "export": ["run", "-o", "e.onnx"], "finetune": ["run"], "distill": ["run"],
    "runs": [], "watch": ["run"], "embed": ["run", "-o", "e.npy"], "neighbors": ["run", "a.png"],
    "pipeline": ["--labels", "10%"],
    "map": ["run", "-o", "map.png"], "config": ["show"], "doctor": [],
    "study": ["rivalry"],
}  # fmt: skip


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the real command within 1.5 GB."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SSLCLI_")}
    return subprocess.run(
        [sys.executable, "-m", "ssl_cli", *words],
        cwd=cwd,
        env={**environment, "HOME": str(cwd), "GLIBC_TUNABLES": ""},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "words",
    [["--config", "/dev/zero"], ["--set", "hardware.memory=inf"], ["--out", "x", "--resume", "--config", "fifo"]],
)
def test_the_command_refuses_within_its_memory(tmp_path: Path, words: list[str]) -> None:
    os.mkfifo(tmp_path / "fifo")
    done = command("pretrain", *words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


def test_every_command_is_tried_in_a_folder_that_is_gone() -> None:
    assert COMMANDS.keys() == {known.name for known in app.registered_commands}


@pytest.mark.parametrize(
    "name", [name if name == "pretrain" else pytest.param(name, marks=pytest.mark.slow) for name in COMMANDS]
)
def test_a_current_folder_that_is_gone_is_said(tmp_path: Path, name: str) -> None:
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    (tmp_path / "gone").mkdir()
    words = ["bash", "-c", script, "-", str(tmp_path / "gone"), sys.executable, "-m", "ssl_cli", name, *COMMANDS[name]]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        words, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: The current directory cannot be found")
    assert len(done.stderr.splitlines()) == 2


# Hypothesis on the settings tree

TEXT = st.text(max_size=20) | st.text("\udc80\udcff\0\x1b\u202e\r\n\"'\\a/.~", max_size=8) | st.just("a" * 5000)
NUMBERS = (
    st.integers()
    | st.integers(-1, 300)
    | st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63), 10**400])
    | st.floats()
    | st.floats(0, 1)
)
WORDS = st.sampled_from(
    ["auto", "none", "cpu", "global", "full", "cifar", "shapes", "resnet50", "torchvision:vit_b_16", "timm:x", "fp32",
     "bf16", "lars", "sgd", "adamw", "cosine", "step", "constant", "linear", "sqrt", "8GB", "1e999GB", "10m", "5d", "h",
     "crop", "crop,flip", ".", "..", "/", "photos", "cifar10", "stl10:unlabeled"]
)  # fmt: skip
LEAVES = st.booleans() | NUMBERS | WORDS | TEXT
NAMES = st.sampled_from(["a", "lr", "name", "p", "scale", "a.b", "", "é", "\x1b", "\udcff", "x" * 300])
VALUES = st.recursive(
    LEAVES | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)
ORDERS = st.permutations(["flip", "rotate", "jitter", "gray", "blur"]).map(lambda order: ["crop", *order])
RANGES = st.lists(st.floats(0, 1000), min_size=2, max_size=2).map(sorted)
EVERY_KEY = sorted(
    {key for name in METHODS for key in leaves(method_settings(name))}
    | {"method.margin", "method.x.y", "run", "augment"}
)
KEYS = st.sampled_from(EVERY_KEY) | st.text(max_size=12) | st.tuples(st.sampled_from(EVERY_KEY), NAMES).map(".".join)
VALID = {
    key: list(field.default) if isinstance(field.default, tuple) else field.default
    for key, field in leaves(MethodSettings).items()
    if isinstance(field.default, str | int | float | tuple)
}
LIKELY = (
    st.sampled_from(list(VALID.items()))
    | st.tuples(st.sampled_from([key for key in VALID if key.endswith(".p")]), st.floats(0, 1))
    | st.tuples(st.sampled_from([key for key, value in VALID.items() if type(value) is int]), st.integers(2, 5000))
    | st.tuples(st.sampled_from(["augment.crop.scale", "augment.blur.sigma", "augment.noise.sigma"]), RANGES)
    | st.tuples(st.sampled_from(["run.out", "data.source", "data.test", "method.margin", "hardware.device"]), TEXT)
    | st.tuples(st.just("augment.order"), ORDERS)
)
PAIRS = st.tuples(st.lists(LIKELY, max_size=4), st.lists(st.tuples(KEYS, VALUES), max_size=1)).map(
    lambda two: [*two[0], *two[1]]
)
METHOD = st.sampled_from([*METHODS, "mine.py:Mine"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """A run folder that the settings of each example are written to, beside the file of a method of one's own."""
    path = tmp_path_factory.mktemp("tree")
    (path / "mine.py").touch()
    run = RunFolder(path / "run")
    yield run
    run.close()


def typed(value: Any) -> str:
    """Return the value as it is typed behind --set."""
    if isinstance(value, str):
        return value
    return tomli_w.dumps({"a": value}).partition("=")[2].strip().replace("\n", " ")


def check(folder: RunFolder, method: str, pairs: list[tuple[str, Any]], place: str) -> None:
    """Give these settings from this place: they are refused, or the settings are equal after their file."""
    home = folder.path.parent
    given: dict[str, Any] = {"flags": {"method": {"name": method.replace("mine", f"{home}/mine")}}}
    try:
        if place == "flags":
            given["flags"] |= nest({key: value for key, value in pairs if not key.startswith("method")})
        elif place == "sets":
            given["sets"] = [f"{key}={typed(value)}" for key, value in pairs]
        elif place == "env":
            given["env"] = {env_name(key): typed(value) for key, value in pairs}
        else:
            (home / "file.toml").write_bytes(tomli_w.dumps(nest(dict(pairs))).encode())
            given["config"] = home / "file.toml"
    except (UnicodeEncodeError, ValueError, TypeError):  # no TOML can hold it
        return
    try:
        settled = settle(**{"env": {}, "cwd": home, "user_file": home / "none", **given})
    except UsageError as error:
        require_sentence(error)
        event("refused")
        return
    event("accepted")
    folder.write_settings(settled.settings)
    run, data = settled.settings.run, settled.settings.data  # but for what was of one process
    kept = {"run": run.model_copy(update={"max_time": None}), "data": data.model_copy(update={"download": False})}
    before = settled.settings.model_copy(update=kept)
    assert continued(settled.settings, {}, folder.settings_file).settings == before


def limits(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


CASE = given(METHOD, PAIRS, st.sampled_from(["flags", "sets", "env", "file"]))


@example("mine.py:Mine", [("method.margin", {"a": [1, {"b": -0.0}]})], "file")
@example("moco-v2", [("run.out", "caf\udce9/\x1b\r\n"), ("data.source", "é")], "sets")
@example("moco-v2", [("hardware.memory", float("inf"))], "sets")
@example("instdisc", [("data.download", True), ("run.max_time", 5)], "flags")
@CASE
@limits(100)
def test_whatever_is_given_is_refused_or_survives_its_file(
    folder: RunFolder, method: str, pairs: list[tuple[str, Any]], place: str
) -> None:
    check(folder, method, pairs, place)


@pytest.mark.slow
@CASE
@limits(20_000)
def test_whatever_is_given_is_refused_or_survives_its_file_at_length(
    folder: RunFolder, method: str, pairs: list[tuple[str, Any]], place: str
) -> None:
    signal.alarm(0)  # many examples take their time
    check(folder, method, pairs, place)


def test_a_method_of_ones_own_keeps_what_it_was_given(folder: RunFolder) -> None:
    home = folder.path.parent
    flags = {"method": {"name": f"{home}/mine.py:Mine"}}
    settled = settle(flags, ("method.deep=[[1.5,'é'],{a=[true]}]",), env={}, cwd=home, user_file=home / "none")
    assert isinstance(settled.settings.method, CustomMethodSettings)
    folder.write_settings(settled.settings)
    assert continued(settled.settings, {}, folder.settings_file).settings == settled.settings
