"""Shell completion of values; imports no torch, and reads a bounded number of folders."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path

import typer

from ssl_cli.disk import read_json
from ssl_cli.names import is_file, is_folder, shown
from ssl_cli.registry import BACKBONE_LIBRARIES, BACKBONES, BENCHES, FAMILIES, METHODS
from ssl_cli.study.table import STUDIES

_FOLDERS = 300
"""The most folders searched for runs: a TAB must not walk a disk."""


def among(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return what completes one of these names."""
    known = tuple(names)

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete)]

    return complete


methods = among(sorted(METHODS))
backbones = among((*BACKBONES, *(f"{library}:" for library in BACKBONE_LIBRARIES)))
"""Of another library only the prefix, since listing its networks imports torch."""
studies = among((*STUDIES, "list", "show"))
devices = among(("auto", "cpu", "cuda", "mps"))
benches = among((*BENCHES, "all"))
precisions = among(("auto", "fp32", "bf16"))
bad_images = among(("skip", "fail"))
compilations = among(("auto", "on", "off", "graphs"))


def recipes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete a recipe family, one that the method on the command line has."""
    method = ctx.params.get("method")
    folder = Path(str(resources.files("ssl_cli") / "recipes"))
    named = method if method in METHODS else "simclr"
    return among(family for family in FAMILIES if is_file(folder / f"{named}.{family}.toml"))(incomplete)


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
