"""What each command hands to the engine, and what it makes of the answer."""

import json
from pathlib import Path

import pytest

from ssl_cli import status
from ssl_cli.cli import main
from ssl_cli.commands import options
from ssl_cli.config.methods import MethodSettings
from ssl_cli.config.tree import Settings, leaves
from tests.cli.engine import FakeEngine
from tests.ui.events import stopped

FLAGS = {
    "--method": ("moco-v2", "method.name", "moco-v2"),
    "--backbone": ("resnet34", "model.backbone", "resnet34"),
    "--width": ("0.5", "model.width", 0.5),
    "--batch": ("64", "run.batch", 64),
    "--epochs": ("3", "schedule.epochs", 3),
    "--image-size": ("48", "data.size", 48),
    "--lr": ("0.5", "optim.lr", 0.5),
    "--recipe": ("cifar", "run.recipe", "cifar"),
    "--seed": ("7", "run.seed", 7),
    "--device": ("cpu", "hardware.device", "cpu"),
    "--precision": ("fp32", "hardware.precision", "fp32"),
    "--micro-batch": ("32", "hardware.micro_batch", 32),
    "--memory": ("4GB", "hardware.memory", 4_000_000_000),
    "--time": ("20m", "run.time", 1200.0),
    "--compile": ("off", "hardware.compile", "off"),
    "--max-time": ("10m", "run.max_time", 600.0),
    "--out": ("runs/y", "run.out", "runs/y"),
    "--test-data": ("tests", "data.test", "tests"),
    "--download": (None, "data.download", True),
    "--group-by": ("{parent}", "data.group_by", "{parent}"),
    "--on-bad-image": ("fail", "data.on_bad_image", "fail"),
    "--threads": ("2", "data.threads", 2),
    "--init-from": ("runs/x", "model.init_from", "runs/x"),
    "--pretrained": (None, "model.pretrained", True),
    "--tracker": ("wandb", "run.trackers", ("wandb",)),
    "--set": ("run.keep=5", "run.keep", 5),
}
BENCH_FLAGS = FLAGS.keys() - {"--lr", "--seed", "--compile", "--time", "--max-time", "--out", "--test-data"}
BENCH_FLAGS -= {"--tracker", "--init-from", "--pretrained", "--group-by", "--on-bad-image"}
EVALUATION_FLAGS = {
    "--baselines": (None, "baselines", True),
    "--test-data": ("tests", "test_data", "tests"),
    "--limit": ("5", "limit", 5),
    "--device": ("cpu", "device", "cpu"),
    "--method": ("mine.py:Mine", "method", "mine.py:Mine"),
}
KNN_FLAGS = {
    "-k": ("20", "ks", (20,)),
    "--k": ("1,5, 20", "ks", (1, 5, 20)),
    "--temperature": ("0.07", "temperatures", (0.07,)),
    "--protocol": ("instdisc", "protocol", "instdisc"),
    "--confusion": ("c.png", "confusion", Path("c.png")),
    "--feature": ("z", "feature", "z"),
}


def passed(engine: FakeEngine, key: str) -> object:
    settings = engine.calls[-1][1][0]
    assert isinstance(settings, Settings)
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_reaches_its_setting(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, flag: str) -> None:
    monkeypatch.setattr("ssl_cli.packages.is_installed", lambda name: True)
    value, key, meant = FLAGS[flag]
    assert main(["pretrain", "photos", flag, *([value] if value else [])]) == 0
    assert passed(engine, key) == meant
    origins = engine.calls[-1][2]["origins"]
    assert origins[key] == flag


def test_every_flag_is_a_setting() -> None:
    assert set(options.SETTINGS.values()) <= set(leaves(MethodSettings))
    assert {flag for flag in options.FLAG_NAMES.values() if flag != "DATA"} <= FLAGS.keys()


@pytest.mark.parametrize("flag", sorted(BENCH_FLAGS))
def test_every_flag_of_bench_reaches_its_setting(engine: FakeEngine, flag: str) -> None:
    value, key, meant = FLAGS[flag]
    assert main(["bench", "all", "photos", flag, *([value] if value else [])]) == 0
    assert passed(engine, key) == meant


@pytest.mark.parametrize(
    ("command", "flag"),
    [("knn-eval", flag) for flag in (*EVALUATION_FLAGS, *KNN_FLAGS)]
    + [("linear-eval", flag) for flag in EVALUATION_FLAGS],
)
def test_every_flag_of_an_evaluation_reaches_the_engine(engine: FakeEngine, command: str, flag: str) -> None:
    value, name, meant = (EVALUATION_FLAGS | KNN_FLAGS)[flag]
    assert main([command, "runs/x"]) == 0
    assert engine.calls[-1][2][name] != meant
    assert main([command, "runs/x", flag, *([value] if value else [])]) == 0
    assert engine.calls[-1][2][name] == meant


def test_the_headline_line(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--method", "simclr", "--batch", "4096"]) == 0
    assert (passed(engine, "run.batch"), passed(engine, "run.recipe")) == (4096, "shapes")
    assert engine.calls[-1][2]["resume"] is False
    assert "by the same network untrained" in capsys.readouterr().out


def test_data_and_files(engine: FakeEngine) -> None:
    Path("sslcli.toml").write_text("[run]\nbatch = 33\nseed = 4\n", encoding="utf-8")
    Path("more.toml").write_text("[run]\nseed = 5\n", encoding="utf-8")
    Path("data").mkdir()
    assert main(["pretrain", "cifar10", "--config", "more.toml", "--out", "x", "--resume"]) == 0
    assert passed(engine, "data.source") == "cifar10"
    assert (passed(engine, "run.batch"), passed(engine, "run.seed")) == (33, 5)
    assert (passed(engine, "method.temperature"), passed(engine, "run.recipe")) == (0.2, "own")
    assert (engine.calls[-1][2]["resume"], engine.calls[-1][2]["overwrite"]) == (True, False)


def test_evaluations(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["knn-eval", "runs/x", "photos", "-k", "20", "--temperature", "0.07", "--baselines", "--json"]
    assert main(words) == 0
    name, args, given = engine.calls[-1]
    assert (name, args) == ("knn_eval", ("runs/x", "photos"))
    assert (given["ks"], given["temperatures"], given["baselines"], given["device"]) == ((20,), (0.07,), True, "auto")
    assert given["machine"] == {}
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["command"], document["top1"]) == (1, "knn-eval", 0.81)
    words = ["--limit", "5", "--test-data", "tests", "--device", "cpu", "--labels", "10%"]
    assert main(["linear-eval", "runs/x", *words]) == 0
    name, args, given = engine.calls[-1]
    assert (name, args) == ("linear_eval", ("runs/x", None))
    assert (given["limit"], given["test_data"], given["device"], given["labels"]) == (5, "tests", "cpu", "10%")
    assert main(["linear-eval", "runs/x", "--labels", "0%"]) == 2
    assert len(engine.calls) == 2


@pytest.mark.parametrize("command", ["knn-eval", "linear-eval"])
def test_evaluations_take_the_machine_from_flag_variable_and_users_file(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    user = Path("config/sslcli/config.toml")
    user.parent.mkdir(parents=True)
    user.write_text("[hardware]\ndevice = 'mps'\n[data]\nthreads = 3\nfolder = 'sets'\n", encoding="utf-8")
    assert main([command, "runs/x"]) == 0
    assert engine.calls[-1][2]["device"] == "mps"
    assert engine.calls[-1][2]["machine"] == {"threads": 3, "folder": "sets"}
    monkeypatch.setenv("SSLCLI_HARDWARE__DEVICE", "cuda")
    monkeypatch.setenv("SSLCLI_DATA__THREADS", "2")
    monkeypatch.setenv("SSLCLI_METHOD__QUEUE", "64")  # a setting of training, and of another method: none of ours here
    assert main([command, "runs/x", "--download"]) == 0
    assert engine.calls[-1][2]["device"] == "cuda"
    assert engine.calls[-1][2]["machine"] == {"threads": 2, "folder": "sets", "download": True}
    assert main([command, "runs/x", "--device", "cpu"]) == 0
    assert engine.calls[-1][2]["device"] == "cpu"


@pytest.mark.parametrize("command", ["knn-eval", "linear-eval"])
def test_evaluations_refuse_a_variable_that_is_none(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.setenv("SSLCLI_HARDWARE__DEVISE", "cpu")
    assert main([command, "runs/x"]) == 2
    assert "Did you mean 'SSLCLI_HARDWARE__DEVICE'?" in capsys.readouterr().err
    monkeypatch.delenv("SSLCLI_HARDWARE__DEVISE")
    monkeypatch.setenv("SSLCLI_METHOD__MARGIN", "1")
    assert main([command, "runs/x"]) == 2
    assert main([command, "runs/x", "--method", "mine.py:Mine"]) == 0  # a method of one's own may have a margin


def test_a_dry_run_is_refused_what_its_run_would_be(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/old").mkdir()
    status.write(Path("runs/old"), "its id", "finished", 0, "")
    Path("runs/old/settings.toml").touch()
    assert main(["pretrain", "--dry-run", "--out", "runs/old"]) == 2
    assert main(["pretrain", "--dry-run", "--out", "runs/old", "--resume"]) == 2
    assert engine.calls == []
    assert main(["pretrain", "--dry-run", "--out", "runs/old", "--overwrite"]) == 0
    assert engine.calls[-1][0] == "dry_run"
    assert Path("runs/old/settings.toml").exists()
    assert capsys.readouterr().err.count("error: ") == 2


def test_export_and_sheet(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "runs/x", "-o", "e.onnx", "--opset", "20"]) == 0
    name, args, given = engine.calls[-1]
    assert (name, args, given["opset"]) == ("export_run", ("runs/x", Path("e.onnx")), 20)
    assert main(["inspect-augs", "--method", "moco-v2", "-o", "s.png", "--images", "3", "--views", "4"]) == 0
    settings, output, images, views = engine.calls[-1][1][:4]
    assert (settings.method.name, output, images, views) == ("moco-v2", Path("s.png"), 3, 4)
    assert "s.png" in capsys.readouterr().out


def test_bench(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 0
    assert engine.calls[-1][0] == "bench"
    assert engine.calls[-1][1][1] == "all"
    assert (passed(engine, "method.name"), passed(engine, "run.recipe")) == ("simclr", "shapes")
    capsys.readouterr()
    words = ["bench", "step", "photos", "--batch", "64", "--precision", "bf16", "--method", "moco-v2", "--json"]
    assert main([*words, "--set", "data.cache=ram", "--epochs", "3", "--threads", "2"]) == 0
    assert engine.calls[-1][1][1] == "step"
    keys = ("data.source", "run.batch", "hardware.precision", "method.name", "data.cache", "schedule.epochs")
    assert [passed(engine, key) for key in keys] == ["photos", 64, "bf16", "moco-v2", "ram", 3]
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["command"], document["parts"]["step"]["share"]) == (1, "bench", 0.5)


@pytest.mark.parametrize("code", [75, 130, 6])
def test_a_stopped_run_ends_with_its_code(engine: FakeEngine, code: int) -> None:
    engine.answers["pretrain"] = lambda: stopped(code)
    assert main(["pretrain"]) == code


@pytest.mark.parametrize(
    ("command", "words", "fit"),
    [
        ("finetune", ["--time", "20m"], ("run.batch", "schedule.epochs")),
        ("distill", ["--time", "20m"], ("run.batch", "schedule.epochs", "schedule.warmup")),
        ("finetune", ["--time", "20m", "--recipe", "imagenet"], ("run.batch", "schedule.epochs")),
        ("finetune", ["--time", "20m", "--batch", "8"], ("schedule.epochs",)),
        ("distill", ["--time", "20m", "--set", "run.batch=8"], ("schedule.epochs", "schedule.warmup")),
        ("finetune", ["--time", "20m", "--epochs", "3"], ("run.batch",)),
        ("finetune", [], ("run.batch",)),
    ],
)
def test_a_time_leaves_the_epochs_of_what_starts_from_a_run_open(
    engine: FakeEngine, command: str, words: list[str], fit: tuple[str, ...]
) -> None:
    assert main([command, "runs/x", "photos", *words]) == 0
    (settings,) = engine.calls[0][1]
    assert settings.run.fit == fit
    assert settings.run.time == (1200 if words else None)
