"""Shell completion of values; imports no torch, and reads a bounded number of folders."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

import typer

from ssl_cli.disk import read_json
from ssl_cli.names import is_file, is_folder, shown
from ssl_cli.registry import BACKBONE_LIBRARIES, BACKBONES, BENCHES, FAMILIES, METHODS
from ssl_cli.study.table import STUDIES

_FOLDERS = 300
"""The most folders searched for runs: a TAB must not walk a disk."""


def _starting(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def methods(incomplete: str) -> list[str]:
    """Complete the name of a method."""
    return _starting(sorted(METHODS), incomplete)


def backbones(incomplete: str) -> list[str]:
    """Complete a backbone; of another library only the prefix, since listing its networks imports torch."""
    return _starting((*BACKBONES, *(f"{library}:" for library in BACKBONE_LIBRARIES)), incomplete)


def studies(incomplete: str) -> list[str]:
    """Complete the name of a study, or what else `study` does."""
    return _starting((*STUDIES, "list", "show"), incomplete)


def devices(incomplete: str) -> list[str]:
    """Complete a device."""
    return _starting(("auto", "cpu", "cuda", "mps"), incomplete)


def benches(incomplete: str) -> list[str]:
    """Complete a part of the benchmark."""
    return _starting((*BENCHES, "all"), incomplete)


def precisions(incomplete: str) -> list[str]:
    """Complete a precision."""
    return _starting(("auto", "fp32", "bf16"), incomplete)


def bad_images(incomplete: str) -> list[str]:
    """Complete what an image that cannot be read does."""
    return _starting(("skip", "fail"), incomplete)


def compilations(incomplete: str) -> list[str]:
    """Complete a mode of --compile."""
    return _starting(("auto", "on", "off", "graphs"), incomplete)


def recipes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a recipe family, one that the method on the command line has."""
    method = ctx.params.get("method")
    folder = Path(str(resources.files("ssl_cli") / "recipes"))
    named = method if method in METHODS else "simclr"
    return _starting((family for family in FAMILIES if is_file(folder / f"{named}.{family}.toml")), incomplete)


def runs(incomplete: str) -> list[tuple[str, str]]:
    """Complete a run folder, with its state as the help; unprintable names, which a shell might obey, are left out."""
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
    """Return the state in a run's `status.json`, or None if there is no such file."""
    try:
        return shown(str(read_json(status)["state"]), 20)
    except OSError:
        return None
    except (ValueError, KeyError):
        return "damaged"
