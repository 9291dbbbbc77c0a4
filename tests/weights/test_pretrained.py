"""Weights that libraries publish: found where the library keeps them, and downloaded only if that is allowed."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchvision.models import get_model

from ssl_cli import disk
from ssl_cli.config.tree import Settings
from ssl_cli.engine.build import build_objective
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.weights import pretrained
from ssl_cli.weights.initial import read_initial
from ssl_cli.weights.pretrained import pretrained_file

NAME = "mobilenet_v3_small"


def settings(backbone: str = f"torchvision:{NAME}", download: bool = False, **model: Any) -> Settings:
    return Settings.model_validate(
        {
            "method": {"name": "simclr"},
            "model": {"backbone": backbone, "pretrained": True, **model},
            "data": {"size": 224, "download": download},
        }
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make torch's folder of downloads an empty one, in which downloads fail."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", _no_network)
    return tmp_path / "checkpoints"


def _no_network(url: str, *_: Any, **__: Any) -> None:
    raise OSError(f"{url} was asked for")


def write(path: Path) -> Path:
    """Write weights to `path`, with the first digits of their sha256 in its name as torch's downloads have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(2)
    torch.save(get_model(NAME, weights=None).state_dict(), path)
    return path.rename(path.with_name(f"{NAME}-{disk.sha256(path)[:8]}.pth"))


def test_they_are_not_here_and_nothing_is_downloaded(folder: Path) -> None:
    with pytest.raises(UsageError) as caught:
        pretrained_file(settings())
    assert f"{folder}/{NAME}-" in caught.value.message
    assert "mobilenet_v3_small IMAGENET1K_V1 are not on this machine" in caught.value.message
    assert "--download" in caught.value.hint
    assert not folder.exists()
    with pytest.raises(CheckpointError, match="could not be downloaded: https://download"):
        pretrained_file(settings(download=True))


def test_they_are_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(folder / "weights.pth")
    real = pretrained._of_url
    monkeypatch.setattr(pretrained, "_of_url", lambda title, url: real(title, f"https://host/{file.name}?x=1"))
    chosen = settings()
    initial = read_initial(chosen)
    assert initial is not None
    assert initial.file == file
    objective = build_objective(chosen, torch.device("cpu"), initial=initial)
    expected = torch.load(file, weights_only=True)
    assert torch.equal(objective.backbone.state_dict()["features.0.0.weight"], expected["features.0.0.weight"])
    reason = initial.choice(objective, chosen).reason
    assert "state dict of torchvision or timm: all 242 tensors" in reason
    assert "left out: classifier.3 (2 tensors)" in reason
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(CheckpointError, match="its sha256 is not that in its name"):
        read_initial(chosen)


def test_they_are_downloaded_to_the_library_s_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(url: str, place: str, prefix: str, *, progress: bool) -> None:
        assert url.endswith(Path(place).name)
        assert prefix in Path(place).name
        Path(place).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    monkeypatch.setattr(pretrained, "_require_hash", lambda path: None)
    assert pretrained_file(settings(download=True)).read_bytes() == b"weights"


@pytest.mark.parametrize("shape", [{"width": 0.5}, {"stem": "cifar"}, {"sk": True}])
def test_our_own_resnets_take_torchvision_s_where_they_are_the_published_ones(
    folder: Path, shape: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match="weights resnet50 IMAGENET1K_V2 are not on this machine"):
        pretrained_file(settings("resnet50"))
    with pytest.raises(UsageError, match="No library has weights for resnet50"):
        pretrained_file(settings("resnet50", **shape))


class FakeHub:
    """Stands in for huggingface_hub and timm, with the weights of one network."""

    def __init__(self, place: Path) -> None:
        self.place, self.constants = place, SimpleNamespace(HF_HUB_CACHE=str(place.parent))

    def get_pretrained_cfg(self, word: str) -> Any:
        found = SimpleNamespace(hf_hub_id=f"timm/{word}.a1", url="", file="", tag="a1")
        return found if word == "resnet18" else None

    def try_to_load_from_cache(self, repository: str, name: str) -> str | None:
        assert (repository, name) == ("timm/resnet18.a1", "model.safetensors")
        return str(self.place) if self.place.exists() else None

    def hf_hub_download(self, repository: str, name: str) -> str:
        self.place.touch()
        return str(self.place)


def test_those_of_timm(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeHub(tmp_path / "model.safetensors")
    for name in ("timm", "huggingface_hub"):
        monkeypatch.setitem(sys.modules, name, fake)
    with pytest.raises(UsageError, match=r"resnet18 a1 are not on this machine: .*models--timm--resnet18\.a1/"):
        pretrained_file(settings("timm:resnet18"))
    assert pretrained_file(settings("timm:resnet18", download=True)) == fake.place
    assert pretrained_file(settings("timm:resnet18")) == fake.place
    with pytest.raises(UsageError, match="timm publishes no weights for 'other'"):
        pretrained_file(settings("timm:other"))


def test_timm_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match="needs timm, which is not installed"):
        pretrained_file(settings("timm:resnet18"))


def test_a_network_without_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "_torchvision", lambda word: None)
    with pytest.raises(UsageError, match="torchvision publishes no weights"):
        pretrained_file(settings())
