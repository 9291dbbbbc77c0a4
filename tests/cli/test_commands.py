"""What each command hands to the engine, and what it makes of the answer."""

import json
from pathlib import Path

import pytest

from ssl_cli.cli import main
from ssl_cli.commands import options
from ssl_cli.config.layer import leaves
from ssl_cli.config.tree import MethodSettings, Settings
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
    "--max-time": ("10m", "run.max_time", 600.0),
    "--out": ("runs/x", "run.out", "runs/x"),
    "--test-data": ("tests", "data.test", "tests"),
    "--download": (None, "data.download", True),
    "--threads": ("2", "data.threads", 2),
    "--set": ("run.keep=5", "run.keep", 5),
}


def passed(engine: FakeEngine, key: str) -> object:
    settings = engine.calls[-1][1][0]
    assert isinstance(settings, Settings)
    section, _, name = key.partition(".")
    return getattr(getattr(settings, section), name)


@pytest.mark.parametrize("flag", FLAGS)
def test_every_flag_reaches_its_setting(engine: FakeEngine, flag: str) -> None:
    value, key, meant = FLAGS[flag]
    assert main(["pretrain", flag, *([value] if value else [])]) == 0
    assert passed(engine, key) == meant
    origins = engine.calls[-1][2]["origins"]
    assert origins[key] == flag


def test_every_flag_is_a_setting() -> None:
    assert set(options.SETTINGS.values()) <= set(leaves(MethodSettings))


def test_the_headline_line(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "--method", "simclr", "--batch", "4096"]) == 0
    assert (passed(engine, "run.batch"), passed(engine, "run.recipe")) == (4096, "shapes")
    assert engine.calls[-1][2]["resume"] is False
    assert "by the same network untrained" in capsys.readouterr().out


def test_data_and_files(engine: FakeEngine) -> None:
    Path("sslcli.toml").write_text("[run]\nbatch = 33\nseed = 4\n", encoding="utf-8")
    Path("more.toml").write_text("[run]\nseed = 5\n", encoding="utf-8")
    assert main(["pretrain", "cifar10", "--config", "more.toml", "--resume", "--overwrite"]) == 0
    assert passed(engine, "data.source") == "cifar10"
    assert (passed(engine, "run.batch"), passed(engine, "run.seed")) == (33, 5)
    assert passed(engine, "method.temperature") == 0.5
    assert (engine.calls[-1][2]["resume"], engine.calls[-1][2]["overwrite"]) == (True, True)


def test_evaluations(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["knn-eval", "runs/x", "birds", "-k", "20", "--temperature", "0.07", "--baselines", "--json"]) == 0
    name, args, given = engine.calls[-1]
    assert (name, args) == ("knn_eval", ("runs/x", "birds"))
    assert (given["k"], given["temperature"], given["baselines"], given["device"]) == (20, 0.07, True, "auto")
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["command"], document["top1"]) == (1, "knn-eval", 0.81)
    assert main(["linear-eval", "runs/x", "--limit", "5", "--test-data", "t", "--device", "cpu"]) == 0
    name, args, given = engine.calls[-1]
    assert (name, args) == ("linear_eval", ("runs/x", None))
    assert (given["limit"], given["test_data"], given["device"]) == (5, "t", "cpu")


def test_export_and_sheet(engine: FakeEngine, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "runs/x", "-o", "e.onnx", "--opset", "20"]) == 0
    name, args, given = engine.calls[-1]
    assert (name, args, given) == ("export_run", ("runs/x", Path("e.onnx")), {"opset": 20, "method": None})
    assert main(["inspect-augs", "--method", "moco-v2", "-o", "s.png", "--images", "3", "--views", "4"]) == 0
    settings, output, images, views = engine.calls[-1][1][:4]
    assert (settings.method.name, output, images, views) == ("moco-v2", Path("s.png"), 3, 4)
    assert "s.png" in capsys.readouterr().out


@pytest.mark.parametrize("code", [75, 130, 6])
def test_a_stopped_run_ends_with_its_code(engine: FakeEngine, code: int) -> None:
    engine.answers["pretrain"] = lambda: stopped(code)
    assert main(["pretrain"]) == code


def test_completion_knows_methods_backbones_and_runs(engine: FakeEngine) -> None:
    assert options.complete_method("sim") == ["simclr"]
    assert options.complete_backbone("resnet5") == ["resnet50"]
    assert options.complete_recipe("") == ["shapes", "cifar", "imagenet"]
    Path("runs/a").mkdir(parents=True)
    Path("runs/a/status.json").write_text("{}", encoding="utf-8")
    assert options.complete_run("") == ["runs/a"]
    assert options.complete_run("runs/b") == []
