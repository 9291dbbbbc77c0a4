"""Where settings come from: the precedence of every pair of places, and what is said of wrong ones."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from pydantic import ValidationError

from ssl_cli.config.methods import CustomMethodSettings, method_settings
from ssl_cli.config.refusal import env_name
from ssl_cli.config.sources import Settled, settle, settle_machine
from ssl_cli.config.toml_file import nest
from ssl_cli.config.tree import Settings, leaves
from ssl_cli.errors import UsageError
from ssl_cli.registry import METHODS

PLACES = ("flag", "set", "env", "config", "project", "recipe", "default")
KEYS: dict[str, tuple[Any, Any]] = {
    "run.batch": (111, 222),
    "optim.lr": (0.5, 0.25),
    "method.temperature": (0.3, 0.7),
    "augment.jitter.strength": (0.1, 0.9),
    "augment.crop.scale": ([0.1, 1.0], [0.2, 0.8]),
}


@pytest.fixture
def settled(tmp_path: Path) -> Callable[..., Settled]:
    """`settle` in an empty folder, with an empty environment and no user file unless given."""

    def call(flags: dict[str, Any] | None = None, sets: tuple[str, ...] = (), **more: Any) -> Settled:
        more = {"env": {}, "cwd": tmp_path, "user_file": tmp_path / "user.toml", **more}
        return settle(flags or {}, sets, **more)

    return call


def value_at(settled: Settled, key: str) -> Any:
    value: Any = settled.settings
    for part in key.split("."):
        value = getattr(value, part)
    return list(value) if isinstance(value, tuple) else value


def write(path: Path, *pairs: tuple[str, Any]) -> Path:
    path.write_bytes(tomli_w.dumps(nest(dict(pairs))).encode())
    return path


PAIRS = list(itertools.combinations(PLACES[:-1], 2))


@pytest.mark.parametrize(("stronger", "weaker"), PAIRS)
@pytest.mark.parametrize("key", KEYS)
def test_a_stronger_place_wins(
    settled: Callable[..., Settled], tmp_path: Path, key: str, stronger: str, weaker: str
) -> None:
    given: dict[str, Any] = {}
    for place, value in zip((stronger, weaker), KEYS[key], strict=True):
        if place == "flag":
            given["flags"] = nest({key: value})
        elif place == "set":
            given["sets"] = (f"{key}={value}",)
        elif place == "env":
            given["env"] = {env_name(key): str(value)}
        elif place == "config":
            given["config"] = write(tmp_path / "run.toml", (key, value))
        elif place == "project":
            write(tmp_path / "sslcli.toml", (key, value))
        else:
            recipe = write(tmp_path / "recipe.toml", (key, value))
    if "recipe" in (stronger, weaker):
        given.setdefault("flags", {}).setdefault("run", {})["recipe"] = str(recipe)
    result = settled(**given)
    assert value_at(result, key) == KEYS[key][0]
    origin = {
        "flag": "the command line",
        "set": "--set",
        "env": env_name(key),
        "config": f"line 2 of {tmp_path / 'run.toml'}",
        "project": f"line 2 of {tmp_path / 'sslcli.toml'}",
    }[stronger]
    assert result.origins[key] == origin


def test_tables_of_several_places_are_merged(settled: Callable[..., Settled], tmp_path: Path) -> None:
    write(tmp_path / "sslcli.toml", ("optim.weight_decay", 0.5), ("optim.momentum", 0.5))
    result = settled({"optim": {"lr": 3.0}}, ("optim.momentum=0.25",))
    assert (result.settings.optim.lr, result.settings.optim.momentum) == (3.0, 0.25)
    assert result.settings.optim.weight_decay == 0.5
    assert result.origins["optim.name"] == "recipe simclr.shapes"
    assert result.origins["run.keep"] == "default"


def test_without_anything_it_is_simclr_on_shapes(settled: Callable[..., Settled]) -> None:
    settings = settled().settings
    assert (settings.method.name, settings.run.recipe, settings.model.width) == ("simclr", "shapes", 0.25)


def test_what_is_given_is_no_longer_open(settled: Callable[..., Settled], tmp_path: Path) -> None:
    """From any place stronger than the recipe, also in a table, and as a value that the recipe has too."""
    own = {"data": {"source": "cifar10"}}
    write(tmp_path / "sslcli.toml", ("schedule.epochs", 7))
    env = {"SSLCLI_MODEL": "{width = 0.25}"}
    sets = ("data.size=32", "augment.flip.p=0.5")
    left = settled({**own, "run": {"batch": 256}}, sets, env=env).settings.run.fit
    assert left == ("model.backbone", "schedule.warmup", "augment.crop.scale")
    assert not {"augment.crop.scale", "augment.flip.p"} & {*settled(own, gentle=True).settings.run.fit}
    library = settled({**own, "model": {"backbone": "torchvision:resnet18"}}).settings.run.fit
    assert not {"model.backbone", "model.width"} & set(library)
    assert settled({**own, "run": {"recipe": "cifar"}}).settings.run.fit == ()
    assert settled(own, ("run.fit=['run.batch']", "run.batch=9")).settings.run.fit == ("run.batch",)


def test_a_time_needs_a_unit(settled: Callable[..., Settled], tmp_path: Path) -> None:
    for key in ("run.time", "run.max_time"):
        with pytest.raises(UsageError, match=f"{key} = '5'.*has no unit, write it like 5m or 5s"):
            settled({"run": {key.removeprefix("run."): "5"}})
        write(tmp_path / "sslcli.toml", (key, 90))
        assert value_at(settled(), key) == 90


@pytest.mark.parametrize(("typed", "epochs"), [("0.4", 0.4), ("2.5", 2.5), ("3.0", 3), ("7", 7)])
def test_epochs_may_have_a_fraction(settled: Callable[..., Settled], typed: str, epochs: float) -> None:
    settings = settled({}, (f"schedule.epochs={typed}",)).settings
    assert (settings.schedule.epochs, type(settings.schedule.epochs)) == (epochs, type(epochs))
    assert f"epochs = {epochs}\n" in tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
    assert [settings.schedule.steps(n) for n in (1, 5, 100)] == [max(1, round(epochs * n)) for n in (1, 5, 100)]


def test_a_flag_that_was_not_given_overrides_nothing(settled: Callable[..., Settled]) -> None:
    assert settled({"run": {"batch": None}}, ("run.batch=77",)).settings.run.batch == 77


def test_the_last_set_wins(settled: Callable[..., Settled]) -> None:
    assert settled({}, ("run.batch=1", "run.batch=2")).settings.run.batch == 2


@pytest.mark.parametrize(
    ("typed", "key", "value"),
    [
        ("run.out=1e3", "run.out", "1e3"),
        ("run.out='quoted'", "run.out", "quoted"),
        ("data.source=2024-01-01", "data.source", "2024-01-01"),
        ("run.max_time=10m", "run.max_time", 600.0),
        ("hardware.memory=4GB", "hardware.memory", 4_000_000_000),
        ("hardware.memory=auto", "hardware.memory", None),
        ("model.bn_group=global", "model.bn_group", "global"),
        ("model.bn_group=64", "model.bn_group", 64),
        ("optim={lr=2.0}", "optim.lr", 2.0),
        ("run.out=a=b", "run.out", "a=b"),
        ("run.evaluate=false", "run.evaluate", False),
    ],
)
def test_values_as_they_are_typed(settled: Callable[..., Settled], typed: str, key: str, value: Any) -> None:
    assert value_at(settled({}, (typed,)), key) == value


def test_the_users_file_speaks_of_the_machine_alone(settled: Callable[..., Settled], tmp_path: Path) -> None:
    user = write(tmp_path / "user.toml", ("hardware.device", "cpu"), ("data.threads", 3), ("data.folder", "/data"))
    result = settled()
    assert (result.settings.hardware.device, result.settings.data.threads) == ("cpu", 3)
    assert result.origins["data.folder"] == f"line 6 of {user}"
    assert settled({"data": {"threads": 1}}).settings.data.threads == 1
    write(tmp_path / "user.toml", ("run.batch", 3))
    with pytest.raises(UsageError, match=r"run\.batch.*has no place"):
        settled()


def test_a_users_own_method_takes_names_of_its_own(settled: Callable[..., Settled], tmp_path: Path) -> None:
    name = f"{tmp_path}/mine.py:Mine"
    with pytest.raises(UsageError, match=r"There is no file .*mine\.py"):
        settled({"method": {"name": name}})
    (tmp_path / "mine.py").touch()
    result = settled({"method": {"name": name}}, ("method.margin=[1, 2]", "method.temperature=0.4"))
    method = result.settings.method
    assert isinstance(method, CustomMethodSettings)
    assert method.model_dump()["margin"] == [1, 2]
    assert (method.name, method.temperature, method.head_layers) == (name, 0.4, 2)
    assert result.settings.optim.name == "adamw"


WRONG = [
    ({"sets": ("run.bach=3",)}, "'run.bach' (from --set)", "'run.batch'"),
    ({"sets": ("batch=3",)}, "'batch' (from --set)", "'run.batch'"),
    ({"sets": ("optim.learning=3",)}, "'optim.learning'", ""),
    ({"sets": ("method.queue=3",)}, "'method.queue'", ""),
    ({"sets": ("nonsense=3",)}, "'nonsense'", "run"),
    ({"sets": ("x",)}, "--set x", "section.key=value"),
    ({"sets": ("=x",)}, "--set =x", ""),
    ({"sets": ("optim=3",)}, "'optim' is a table", "optim.name"),
    ({"sets": ("optim.lr=nan",)}, "optim.lr = nan (from --set)", ""),
    ({"sets": ("run.batch=" + "9" * 40,)}, "too large", ""),
    ({"sets": ("run.batch=" + "9" * 9000,)}, "run.batch", ""),
    ({"sets": ("model.bn_group=x",)}, "valid integer or 'global'", ""),
    ({"sets": ("augment.order=['crop','blurr']",)}, "there is no operation 'blurr'", ""),
    (
        {"flags": {"run": {"batch": -3}}, "flag_names": {"run.batch": "--batch"}},
        "run.batch = -3 (from --batch)",
        "Give --batch another value",
    ),
    ({"flags": {"method": {"name": "simcrl"}}}, "'simcrl'", "'simclr'"),
    ({"flags": {"run": {"recipe": "cifr"}}}, "'cifr'", "'cifar'"),
    ({"env": {"SSLCLI_RUN_BATCH": "3"}}, "SSLCLI_RUN_BATCH", "SSLCLI_RUN__BATCH"),
    ({"env": {"SSLCLI_RUN": "3"}}, "'run' is a table", "run."),
    ({"env": {"SSLCLI_RUM__BATCH": "3"}}, "SSLCLI_RUM__BATCH", "SSLCLI_RUN__BATCH"),
    ({"env": {"SSLCLI_BATCH": "3"}}, "SSLCLI_BATCH", "SSLCLI_RUN__BATCH"),
    ({"env": {"SSLCLI_RUN__BATCH": "3x"}}, "run.batch = '3x' (from SSLCLI_RUN__BATCH)", ""),
    ({"env": {"SSLCLI_RUN__BACH": "3"}}, "SSLCLI_RUN__BACH", "SSLCLI_RUN__BATCH"),
]


@pytest.mark.parametrize(("given", "message", "hint"), WRONG)
def test_what_is_wrong_is_named_with_its_origin(
    settled: Callable[..., Settled], given: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as caught:
        settled(**given)
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message) < 300
    assert "\n" not in caught.value.message


def test_validation_reads_neither_environment_nor_files(
    settled: Callable[..., Settled], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = settled({"run": {"batch": 64}}).settings.model_dump(mode="json")
    write(tmp_path / "sslcli.toml", ("run.seed", 5), ("optim.momentum", 0.5))
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "SSLCLI_RUN__BATCH": "3",
        "SSLCLI_RUN": '{"seed": 7}',
        "RUN": '{"seed": 7}',
        "METHOD": "x",
    }.items():
        monkeypatch.setenv(name, value)
    del tables["run"]["seed"], tables["optim"]
    for settings in (
        Settings.model_validate(tables),
        Settings.model_validate_json(json.dumps(tables)),
        Settings(**tables),
    ):
        assert (settings.run.batch, settings.run.seed, settings.optim.momentum) == (64, 0, 0.9)
    with pytest.raises(ValidationError, match="method"):
        Settings.model_validate({})
    with pytest.raises(ValidationError, match="Extra inputs"):
        Settings.model_validate({**tables, "_env_file": "x"})


def test_a_table_in_a_variable_is_merged_with_single_variables(settled: Callable[..., Settled]) -> None:
    env = {"SSLCLI_OPTIM": "{lr = 2.0, nesterov = true}", "SSLCLI_OPTIM__NAME": "sgd"}
    result = settled(env=env)
    assert (result.settings.optim.lr, result.settings.optim.name) == (2.0, "sgd")
    assert (result.origins["optim.lr"], result.origins["optim.name"]) == ("SSLCLI_OPTIM", "SSLCLI_OPTIM__NAME")


def test_debugging_is_no_setting(settled: Callable[..., Settled]) -> None:
    assert settled(env={"SSLCLI_DEBUG": "1", "PATH": "/bin"}) == settled(env={})


HOSTILE = {
    "nested": b"a = " + b"[" * 50_000 + b"]" * 50_000,
    "inline": b"a = " + b"{a = " * 5_000 + b"1" + b"}" * 5_000,
    "not UTF-8": b"a = '\xff'",
    "not TOML": b"[run\nbatch",
    "nan": b"[optim]\nlr = nan",
    "infinite": b"[schedule]\nwarmup = inf",
    "huge": b"[run]\nbatch = " + b"9" * 10_000,
    "large": b"#" * 2_000_000,
    "date": b"[run]\nbatch = 2024-01-01",
    "deep header": b"[" + b"a." * 20_000 + b"a]\nb = 1",
    "list": b"[[run]]\nbatch = 3",
    "unknown": b'[run]\n"ba\\u001btch" = 3',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused_in_one_sentence(
    settled: Callable[..., Settled], tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "sslcli.toml").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        settled()
    assert len(caught.value.message) < 500


def test_a_missing_config_is_named(settled: Callable[..., Settled], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml.*No such file"):
        settled(config=tmp_path / "none.toml")


def test_settings_survive_a_file(settled: Callable[..., Settled], tmp_path: Path) -> None:
    settings = settled({"method": {"name": "moco-v2"}}).settings
    text = tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True))
    (tmp_path / "again.toml").write_text(text, encoding="utf-8")
    assert settled(config=tmp_path / "again.toml").settings == settings


def test_of_the_machine_the_strongest_place_wins(tmp_path: Path) -> None:
    user = write(tmp_path / "user.toml", ("hardware.device", "cpu"), ("data.threads", 3), ("data.folder", "/data"))
    env = {"SSLCLI_DATA__THREADS": "2", "SSLCLI_RUN__BATCH": "64", "SSLCLI_METHOD__EMA": "0.5"}
    flags = {"hardware": {"device": "mps"}, "data": {"download": None}}
    assert settle_machine(flags, env=env, user_file=user) == {
        "hardware.device": "mps",
        "data.threads": 2,
        "data.folder": "/data",
    }
    assert settle_machine({}, env={}, user_file=tmp_path / "none.toml") == {}


MACHINE = [
    ({"SSLCLI_DATA__THREADS": "-2"}, "", "data.threads = -2 (from SSLCLI_DATA__THREADS)", "variable"),
    ({"SSLCLI_DATA__TREADS": "2"}, "", "'data.treads'", "SSLCLI_DATA__THREADS"),
    ({}, "[data]\nthreads = 0\n", "data.threads = 0 (from line 2 of", "Correct line 2"),
    ({}, "[data]\ntreads = 1\n", "has no place in line 2 of", "sslcli.toml"),
]


@pytest.mark.parametrize(("env", "text", "message", "hint"), MACHINE)
def test_a_wrong_word_about_the_machine_is_refused(
    tmp_path: Path, env: dict[str, str], text: str, message: str, hint: str
) -> None:
    (tmp_path / "user.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        settle_machine({}, env=env, user_file=tmp_path / "user.toml")
    assert message in caught.value.message
    assert hint in caught.value.hint


LINES = [
    ("[run]\n\nbatch = 'x'\n", "line 3"),
    ("run.batch = 'x'\n", "line 1"),
    ("# run\nrun = { seed = 1, batch = 'x' }\n", "line 2"),
    ("[optim]\nlr = 1\n[ run ]\nseed = 1\nbatch = 'x'\n", "line 5"),
]


@pytest.mark.parametrize(("text", "line"), LINES)
def test_a_value_in_a_file_is_named_with_its_line(
    settled: Callable[..., Settled], tmp_path: Path, text: str, line: str
) -> None:
    (tmp_path / "sslcli.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=rf"run\.batch = 'x' \(from {line} of .*sslcli\.toml\)") as caught:
        settled()
    assert caught.value.hint.startswith(f"Correct {line} of ")


HOSTILE_VALUES = [
    -1, 0, 2**63 - 1, 1e308, True, "", "\x1b[31m", "a" * 9999, "nan", [[]], [1, "a"], {}, {"x": {}},
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
def test_no_value_of_any_setting_ends_in_anything_but_a_sentence(
    settled: Callable[..., Settled], tmp_path: Path, method: str
) -> None:
    keys = leaves(method_settings(method))
    for number, key in enumerate(key for key in keys if method == "moco-v2" or key.startswith("method.")):
        for value in HOSTILE_VALUES[number % 2 :: 2]:  # each field half of them, its neighbours the other half
            write(tmp_path / "sslcli.toml", (key, value))
            error: UsageError | None = None
            try:
                settled({"method": {"name": method}})
            except UsageError as refusal:
                error = refusal
            assert error is None or (len(error.message) < 1000 and "\n" not in error.message and error.hint), key


GENTLE = {"crop.scale": (0.4, 1.0), "flip.p": 0.0, "jitter.strength": 0.25, "gray.p": 0.1}
"""SimCLR's recipes have a strength of 0.5 for small images."""


def gentle_values(settled: Settled) -> dict[str, Any]:
    found = ("augment." + key for key in GENTLE)
    return {key.removeprefix("augment."): value_at(settled, key) for key in found}


def test_gentle_weakens_the_recipe_and_is_the_origin(settled: Callable[..., Settled]) -> None:
    found = settled(gentle=True)
    assert gentle_values(found) == {**GENTLE, "crop.scale": [0.4, 1.0]}
    assert {found.origins[f"augment.{key}"] for key in GENTLE} == {"--gentle"}
    assert found.origins["augment.jitter.brightness"] == "recipe simclr.shapes"


def test_gentle_never_strengthens(settled: Callable[..., Settled], tmp_path: Path) -> None:
    weak = (("augment.crop.scale", [0.9, 0.9]), ("augment.gray.p", 0.0), ("augment.jitter.strength", 0.0))
    found = gentle_values(settled(config=write(tmp_path / "c.toml", *weak), gentle=True))
    assert found == {"crop.scale": [0.9, 0.9], "flip.p": 0.0, "jitter.strength": 0.0, "gray.p": 0.0}
    small = settled(config=write(tmp_path / "c.toml", ("augment.crop.scale", [0.1, 0.2])), gentle=True)
    assert value_at(small, "augment.crop.scale") == [0.4, 0.4]


def test_a_set_of_the_same_key_wins_over_gentle_and_gentle_over_files(
    settled: Callable[..., Settled], tmp_path: Path
) -> None:
    file = write(tmp_path / "c.toml", ("augment.flip.p", 0.7), ("augment.crop.scale", [0.2, 1.0]))
    found = settled(sets=("augment.flip.p=0.3",), config=file, gentle=True)
    assert (value_at(found, "augment.flip.p"), found.origins["augment.flip.p"]) == (0.3, "--set")
    assert (value_at(found, "augment.crop.scale"), found.origins["augment.crop.scale"]) == ([0.4, 1.0], "--gentle")


@pytest.mark.parametrize("method", METHODS)
def test_gentle_is_a_setting_like_others(settled: Callable[..., Settled], method: str) -> None:
    found = settled({"method": {"name": method}}, gentle=True)
    assert Settings.model_validate(found.settings.model_dump(mode="json")) == found.settings
