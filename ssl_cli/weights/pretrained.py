"""Weights that torchvision and timm publish: found where those libraries keep them, or downloaded there if allowed."""

import importlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from ssl_cli import disk, packages
from ssl_cli.config.augment import RGB
from ssl_cli.config.tree import CIFAR_UP_TO, Settings
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.names import shown
from ssl_cli.registry import is_library_backbone


@dataclass(frozen=True)
class Published:
    """Weights of a library: what they are called, where they lie on this machine, and where they come from."""

    title: str
    path: Path
    url: str = ""
    repository: str = ""


def pretrained_file(settings: Settings) -> Path:
    """Return the file of the weights that the backbone's library publishes for it.

    Raises:
        UsageError: no library has weights for this backbone, or they are not here and may not be downloaded.
        CheckpointError: the file is damaged, or the download fails.
    """
    name = _library_name(settings)
    library, _, word = name.partition(":")
    try:
        found = (_torchvision if library == "torchvision" else _timm)(word)
    except ModuleNotFoundError as error:
        raise packages.missing(error.name or "timm", name, extra="timm") from error
    if found is None:
        raise UsageError(f"{library} publishes no weights for '{shown(word)}'.", "Leave --pretrained out.")
    path = found.path
    if not path.is_file():
        if not settings.data.download:
            raise UsageError(
                f"The weights {found.title} are not on this machine: {found.path} is not there.",
                "Add --download, or give a file of weights with --init-from.",
            )
        path = _download(found)
    _require_hash(path)
    return path


def _library_name(settings: Settings) -> str:
    """Return the library network whose weights fit: torchvision's for our own ResNets as published."""
    model, size = settings.model, settings.data.size
    if is_library_backbone(model.backbone):
        return model.backbone
    open_, stem = settings.run.fit, model.stem
    if stem == "auto":
        stem = "cifar" if size <= CIFAR_UP_TO and "data.size" not in open_ else "imagenet"
    other_width = model.width != 1 and "model.width" not in open_
    if other_width or stem != "imagenet" or model.sk or settings.data.channels != RGB:
        raise UsageError(
            f"No library has weights for {model.title} with {stem} stem and {settings.data.channels} channels"
            f"{', with selective kernels' if model.sk else ''}.",
            "Those of torchvision fit --width 1 with --set model.stem=imagenet, which suits --image-size 224.",
        )
    return f"torchvision:{model.backbone}"


def _torchvision(word: str) -> Published | None:
    from torchvision import models

    try:
        weights = models.get_model_weights(word).DEFAULT
    except (ValueError, AttributeError):
        return None
    return _of_url(f"{word} {weights.name}", weights.url)


def _of_url(title: str, url: str) -> Published:
    """Return the file in torch's folder of downloads."""
    name = Path(urlsplit(url).path).name
    return Published(title, Path(torch.hub.get_dir()) / "checkpoints" / name, url=url)


def _timm(word: str) -> Published | None:
    timm: Any = importlib.import_module("timm")
    try:
        published = timm.get_pretrained_cfg(word)
    except (ValueError, RuntimeError, KeyError):
        return None
    if published is None or not (published.hf_hub_id or published.url or published.file):
        return None
    title = f"{word} {getattr(published, 'tag', '') or ''}".strip()
    if published.file:
        return Published(title, Path(published.file))
    if not published.hf_hub_id:
        return _of_url(title, published.url)
    hub: Any = importlib.import_module("huggingface_hub")
    repository = str(published.hf_hub_id)
    found = hub.try_to_load_from_cache(repository, "model.safetensors")
    if not isinstance(found, str):
        folder = f"models--{repository.replace('/', '--')}"
        found = Path(hub.constants.HF_HUB_CACHE) / folder / "snapshots" / "main" / "model.safetensors"
    return Published(title, Path(found), repository=repository)


def _download(found: Published) -> Path:
    """Download the file to where its library looks for it; return the path.

    Raises:
        CheckpointError: it fails.
    """
    try:
        if found.repository:
            hub: Any = importlib.import_module("huggingface_hub")
            return Path(hub.hf_hub_download(found.repository, "model.safetensors"))
        disk.make_folder(found.path.parent)
        torch.hub.download_url_to_file(found.url, str(found.path), _hash(found.path), progress=False)
        return found.path
    except Exception as error:  # of a connection, of any type
        what = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"The weights {found.title} could not be downloaded: {shown(what)}.", "Try again later."
        ) from error


def _hash(path: Path) -> str | None:
    """Return the first digits of the sha256 that the file's name ends with, as torch's downloads have."""
    found = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)
    return found[1] if found else None


def _require_hash(path: Path) -> None:
    expected = _hash(path)
    if expected and not disk.sha256(path).startswith(expected):
        raise CheckpointError(
            f"{path} is damaged: its sha256 is not that in its name.", "Delete it, and add --download."
        )
