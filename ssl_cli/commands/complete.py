"""What the shell may offer behind a flag; no torch, and never more than a few folders are looked into."""

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

import typer

from ssl_cli.names import is_file, is_folder, shown
from ssl_cli.registry import BACKBONE_LIBRARIES, BACKBONES, BENCHES, FAMILIES, METHODS

_FOLDERS = 300
"""Folders looked into for runs: a TAB must not walk a disk."""


def _starting(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def methods(incomplete: str) -> list[str]:
    """Methods that begin so."""
    return _starting(sorted(METHODS), incomplete)


def backbones(incomplete: str) -> list[str]:
    """Backbones that begin so; of other libraries' only the prefix, since their names cost an import of torch."""
    return _starting((*BACKBONES, *(f"{library}:" for library in BACKBONE_LIBRARIES)), incomplete)


def devices(incomplete: str) -> list[str]:
    """Devices that begin so."""
    return _starting(("auto", "cpu", "cuda", "mps"), incomplete)


def benches(incomplete: str) -> list[str]:
    """Parts of the benchmark that begin so."""
    return _starting((*BENCHES, "all"), incomplete)


def precisions(incomplete: str) -> list[str]:
    """Precisions that begin so."""
    return _starting(("auto", "fp32", "bf16"), incomplete)


def compilations(incomplete: str) -> list[str]:
    """Ways to compile that begin so."""
    return _starting(("auto", "on", "off", "graphs"), incomplete)


def recipes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Recipe families that begin so, those that the method on the line has."""
    method = ctx.params.get("method")
    folder = Path(str(resources.files("ssl_cli") / "recipes"))
    named = method if method in METHODS else "simclr"
    return _starting((family for family in FAMILIES if is_file(folder / f"{named}.{family}.toml")), incomplete)


def runs(incomplete: str) -> list[tuple[str, str]]:
    """Run folders that begin so, each with its state; names that a shell might take for something else are left out."""
    return sorted(_runs(incomplete))


def _runs(incomplete: str) -> Iterator[tuple[str, str]]:
    start = incomplete.rpartition("/")[0] + "/" if "/" in incomplete else ""
    waiting = deque([start])
    for _ in range(_FOLDERS):
        if not waiting:
            return
        folder = waiting.popleft()
        for name in _folders(folder or "."):
            path = f"{folder}{name}"
            if not (f"{path}/".startswith(incomplete) and path.isprintable()):
                continue
            state = _state(Path(path, "status.json"))
            if state is None:
                waiting.append(f"{path}/")
            else:
                yield path, state


def _folders(path: str) -> list[str]:
    try:
        with os.scandir(path) as scan:
            return sorted(e.name for e in scan if not e.name.startswith(".") and is_folder(Path(e.path)))
    except OSError:
        return []


def _state(status: Path) -> str | None:
    """What a run's `status.json` says of it; None where there is none."""
    try:
        return shown(str(json.loads(status.read_text(encoding="utf-8"))["state"]), 20)
    except OSError:
        return None
    except (ValueError, KeyError, TypeError):
        return "damaged"
