"""What a command of several runs was asked for: recorded in its folder, read back within limits, and not changed."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssl_cli import __version__, disk, lock
from ssl_cli.config.refusal import ENV
from ssl_cli.config.sources import SWITCHES
from ssl_cli.config.toml_file import PROJECT_FILE, read_toml
from ssl_cli.config.units import parse_seconds
from ssl_cli.errors import CheckpointError, UsageError
from ssl_cli.names import expanded, is_there, shown
from ssl_cli.run_path import not_empty, refuse_no_folder


@dataclass(frozen=True)
class Kind:
    """A command of several runs: its name, the format of its file, and flags that are named otherwise than in it."""

    command: str
    schema: int = 1
    flags: Mapping[str, str] | None = None

    @property
    def file(self) -> str:
        """Return the name of its file."""
        return f"{self.command}.json"

    def flag(self, name: str) -> str:
        """Return the flag that gives what is recorded under this name."""
        return (self.flags or {}).get(name, f"--{name.replace('_', '-')}")


def surroundings(cwd: Path | None = None) -> tuple[dict[str, str], str]:
    """Return the variables that are settings, and the text of ./sslcli.toml."""
    env = {name: value for name, value in os.environ.items() if name.startswith(ENV) and name not in SWITCHES}
    file = (cwd or Path()) / PROJECT_FILE
    return env, read_toml(file).text if is_there(file) else ""


def absolute(place: str | None) -> str | None:
    """Return the absolute path where there is such a file or folder; else the name as it is, that of a data set."""
    return str(expanded(place).absolute()) if place is not None and is_there(expanded(place)) else place


def seconds(time: str) -> float:
    """Return the seconds of --time.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return float(parse_seconds(time))  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(f"--time: {error}.", "Write it like 20m or 2h.") from error


def is_recorded(folder: Path, kind: Kind, *, resume: bool, overwrite: bool = False) -> bool:
    """Return whether the folder holds what such a command wrote; False where it is empty or not there.

    Raises:
        UsageError: the folder holds something else, or what it holds and neither flag is set, or both are.
        LockedError: another process uses it.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other.", "Give one of them.")
    refuse_no_folder(folder)
    try:
        if not folder.is_dir() or all(entry.name.startswith(".") for entry in folder.iterdir()):
            return False
    except OSError as error:
        raise UsageError(f"--out {folder} cannot be used: {error.strerror}.", "Choose another --out.") from error
    if not os.path.lexists(folder / kind.file):
        what = f"{folder} is not empty and holds no {kind.command}."
        raise UsageError(what, "Choose another --out; nothing was touched.")
    lock.require_free(folder)
    if not (resume or overwrite):
        raise not_empty(folder)
    return True


def read(folder: Path, kind: Kind) -> dict[str, Any]:
    """Read the file of a command.

    Raises:
        OSError: it cannot be read.
        ValueError: it is none, or has another format.
    """
    found = disk.read_json(folder / kind.file)
    if found.get("schema") != kind.schema:
        raise ValueError(f"it has format {found.get('schema')!r:.40}, and this version reads {kind.schema}")
    return found


def unreadable(folder: Path, kind: Kind, error: Exception) -> CheckpointError:
    """Return the error about a file that cannot be read, or whose content is not valid."""
    if isinstance(error, FileNotFoundError):
        name = kind.command
        return CheckpointError(f"{folder} holds no {name}.", f"Give the folder that {name} --out named.")
    why = shown(" ".join(str(getattr(error, "strerror", None) or error).split()))
    hint = f"Restore it, or choose another --out. Finished runs in {folder} are usable: sslcli export RUN"
    return CheckpointError(f"{folder / kind.file} cannot be read: {why}.", hint)


def write(folder: Path, kind: Kind, facts: Mapping[str, Any]) -> None:
    """Write the file of a command; errors as `disk.write_atomic`."""
    disk.write_json(folder / kind.file, {"schema": kind.schema, "version": __version__, **facts})


def require_same(before: object, given: Mapping[str, Any], kind: Kind) -> None:
    """Refuse flags that would change what is resumed; those that are not given are as before.

    Raises:
        UsageError: one differs.
    """
    for name, value in given.items():
        old = getattr(before, name)
        if value not in (None, ()) and value != old:
            old, value = (", ".join(map(str, v)) if isinstance(v, tuple) else v for v in (old, value))
            what = f"{kind.flag(name)} is {shown(str(old))} in this {kind.command} and cannot become"
            hint = f"Leave it out to continue as before, or start another {kind.command} with another --out."
            raise UsageError(f"{what} {shown(str(value))}.", hint)
