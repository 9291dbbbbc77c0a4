"""Weights for other libraries: their own network, with the file loaded as the result says, computes the same."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from ssl_cli.cli import main
from ssl_cli.config.tree import Settings
from ssl_cli.engine.evaluation.features import open_run
from ssl_cli.errors import CheckpointError, SslcliError, UsageError
from ssl_cli.exports.weights import export_weights
from ssl_cli.weights.file import read
from tests.engine.toy_run import result_of, toy_settings, write_run


def large(**model: Any) -> Settings:
    """Settings of a network that torchvision has, with images that are small for it."""
    return toy_settings({"width": 1.0, "stem": "imagenet", **model}, size=32)


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a whole ResNet-18 whose BatchNorm statistics are not those of the start."""
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, large())
    return folder


def h_of(run: Path, x: Tensor) -> Tensor:
    with torch.no_grad():
        return open_run(str(run), "cpu").objective.eval().represent(x)


def loaded(line: str, folder: Path, **modules: Any) -> nn.Module:
    """The network that the line of Python in a result makes."""
    names = {"torch": torch, "torchvision": torchvision, **modules}
    exec(re.sub(r"'(encoder\.\w+)'", rf"'{folder}/\1'", line), names)
    net: nn.Module = names["net"]
    return net.eval() if isinstance(net, nn.Module) and not hasattr(net, "graph") else net


@pytest.mark.parametrize("form", ["torchvision", "timm"])
def test_the_library_s_own_network_loads_it(resnet: Path, tmp_path: Path, form: str) -> None:
    modules = {"timm": pytest.importorskip("timm")} if form == "timm" else {}
    result = result_of(export_weights(str(resnet), tmp_path / "encoder.pth", form))
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = loaded(result["load"], tmp_path, **modules)(x)
    torch.testing.assert_close(found, h_of(resnet, x), atol=1e-5, rtol=1e-4)
    assert result["max_error"] < 1e-5
    assert json.loads((resnet / "export" / "encoder.pth.json").read_text())["result"]["format"] == form


def test_safetensors_hold_the_state_dict_and_what_it_is(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "encoder.safetensors"
    result_of(export_weights(str(run), file, "safetensors"))
    wanted = open_run(str(run), "cpu").objective.backbone.state_dict()
    found = read(file).tensors
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], value) for name, value in wanted.items())
    data = file.read_bytes()
    about = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    assert (about["sslcli.backbone"], about["sslcli.step"]) == ("resnet18, width 0.0625", "7")
    library = pytest.importorskip("safetensors.torch")
    assert all(torch.equal(value, wanted[name]) for name, value in library.load_file(file).items())


def test_a_program_runs_alone_at_any_batch_and_names_no_path(run: Path, tmp_path: Path) -> None:
    result = result_of(export_weights(str(run), tmp_path / "encoder.pt2", "pt2"))
    for rows in (1, 7):
        x = torch.rand(rows, 3, 16, 16)
        found = loaded(result["load"], tmp_path)(x)
        torch.testing.assert_close(found, h_of(run, x), atol=1e-5, rtol=1e-4)
    data = (tmp_path / "encoder.pt2").read_bytes()
    for trace in (str(Path(__file__).parents[2]), str(run), str(tmp_path)):
        assert trace.encode() not in data


@pytest.mark.parametrize("model", [{"width": 0.5}, {"stem": "cifar"}, {"backbone": "resnet50", "sk": True}])
def test_what_the_library_has_not_is_refused(tmp_path: Path, model: dict[str, Any]) -> None:
    write_run(tmp_path / "run", large(**{"width": 0.0625} | model))
    for form in ("torchvision", "timm"):
        with pytest.raises(UsageError, match=f"{form} has no resnet"):
            list(export_weights(str(tmp_path / "run"), tmp_path / "encoder.pth", form))
    assert not (tmp_path / "encoder.pth").exists()


def test_wrong_weights_are_not_written(resnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_cli.exports import weights

    honest = weights._state

    def wrong(*args: Any) -> dict[str, Tensor]:
        state = honest(*args)
        state["layer1.0.conv1.weight"] *= 1.01
        return state

    monkeypatch.setattr(weights, "_state", wrong)
    with pytest.raises(CheckpointError, match="disagrees"):
        list(export_weights(str(resnet), tmp_path / "encoder.pth", "torchvision"))
    assert not (tmp_path / "encoder.pth").exists()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["torchvision", "pt2", "safetensors"])
def test_a_classifier_is_written_whole(resnet: Path, tmp_path: Path, form: str) -> None:
    tuned = tmp_path / "tuned"
    words = ["finetune", str(resnet), "--labels", "2-per-class", "--epochs", "1", "--batch", "8", "--out", str(tuned)]
    assert main(words) == 0
    ending = {"torchvision": ".pth", "pt2": ".pt2", "safetensors": ".safetensors"}[form]
    result = result_of(export_weights(str(tuned), tmp_path / f"encoder{ending}", form, classifier=True))
    assert len(result["classes"]) == 12
    trained = open_run(str(tuned), "cpu", projector=True).objective.eval()
    x = torch.rand(2, 3, 32, 32)
    if form == "safetensors":
        assert read(tmp_path / "encoder.safetensors").tensors["fc.weight"].shape == (12, 512)
        return
    with torch.no_grad():
        found, wanted = loaded(result["load"], tmp_path)(x), trained(x)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "e.pth"], "can be for torchvision or timm"),
        (["-o", "e.onnx", "--to", "pt2"], "does not end in .pt2"),
        (["-o", "e.pt2", "--to", "tensorflow"], "There is no --to"),
        (["-o", "e.pt2", "--l2"], "--l2 is for ONNX"),
        (["-o", "e.safetensors", "--opset", "20"], "--opset is for ONNX"),
        (["-o", "e.pth", "--to", "torchvision"], "torchvision has no resnet18 with width 0.0625"),
        (["-o", "e.pt2", "--classifier"], "never fine-tuned"),
    ],
)
def test_wrong_words_get_one_sentence(
    run: Path, words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(run), *words]) == UsageError.code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_command_takes_the_format_from_the_ending(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(run), "-o", str(tmp_path / "e.safetensors")]) == 0
    assert "net.load_state_dict(safetensors.torch.load_file('e.safetensors'))" in capsys.readouterr().out
    assert issubclass(CheckpointError, SslcliError)
