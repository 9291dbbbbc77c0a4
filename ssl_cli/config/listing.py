"""Settings as text: all that are in force with their origins, and a file to start from."""

import textwrap
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import tomli_w

from ssl_cli.config.sources import Settled
from ssl_cli.config.toml_file import flatten
from ssl_cli.config.tree import leaves

PLANNED = "the plan chooses it by images, machine and time"
WIDTH, COLUMN = 100, 36
"""Of a comment's lines, and where the comment behind a setting begins."""
HEAD = """\
Settings of sslcli for the commands that are started in this folder, as sslcli.toml; or pass the file with --config.
Each commented line is a value as it is now: remove the # in front of it and of its [section] to set it.
Flags, --set and variables SSLCLI_SECTION__KEY come before this file; a recipe and defaults after it.
"""


@dataclass(frozen=True)
class Line:
    """A setting in force: its dotted key, its value, where that comes from, and whether the plan will choose it."""

    key: str
    value: Any
    origin: str
    planned: bool

    @property
    def name(self) -> str:
        """The key within its section."""
        return self.key.partition(".")[2]

    @property
    def section(self) -> str:
        """The section."""
        return self.key.partition(".")[0]


def lines_of(settled: Settled) -> list[Line]:
    """Return all settings in force, in the order of the tree."""
    values = dict(flatten(settled.settings.model_dump(mode="json")))
    fit = settled.settings.run.fit
    return [Line(key, values[key], settled.origins.get(key, "default"), key in fit) for key in values]


def shown_settings(lines: Collection[Line], *, origin: bool) -> Iterator[str]:
    """Yield the settings as TOML that --config takes, with a comment behind those that the plan chooses.

    With `origin` a comment behind each says where it comes from.
    """
    for number, (section, entries) in enumerate(groupby(lines, lambda line: line.section)):
        yield from ([""] if number else [])
        yield f"[{section}]"
        for line in entries:
            why = "; ".join([line.origin] * origin + [PLANNED] * line.planned)
            words = f"# {line.name} is not set" if line.value is None else f"{line.name} = {as_toml(line.value)}"
            yield f"{words:<{COLUMN}}  # {why}" if why else words


def template(settled: Settled, given: Collection[str]) -> str:
    """Return a file of settings: those that were `given` are set in it, all others are comments with what they mean."""
    about = {key: field.description or "" for key, field in leaves(type(settled.settings.method)).items()}
    text = [*(f"# {line}" for line in textwrap.wrap(HEAD, WIDTH))]
    for section, entries in groupby(lines_of(settled), lambda line: line.section):
        own = list(entries)
        text += ["", f"[{section}]" if any(line.key in given for line in own) else f"# [{section}]"]
        for line in own:
            text += [f"#   {words}" for words in textwrap.wrap(about.get(line.key, ""), WIDTH)]
            if line.value is None:
                text.append(f"# {line.name} =")
            else:
                mark = "" if line.key in given else "# "
                note = f"  # now: {PLANNED}" if line.planned and line.key not in given else ""
                text.append(f"{mark}{line.name} = {as_toml(line.value)}{note}")
    return "\n".join([*text, ""])


def as_toml(value: Any) -> str:
    """Return a value as TOML on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    return tomli_w.dumps({"k": value}).removeprefix("k = ").rstrip("\n")
