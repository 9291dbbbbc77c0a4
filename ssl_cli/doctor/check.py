"""One thing that was looked at: what it is, and what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ssl_cli.errors import DONE


@dataclass(frozen=True)
class Check:
    """Hold what was found.

    Attributes:
        name: of what was looked at.
        value: in words.
        facts: for programs.
        problem: a sentence on what is wrong; empty: nothing is.
        hint: what to do about it.
        code: the exit code with which runs would end; `DONE` where they would work all the same.
    """

    name: str
    value: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    hint: str = ""
    code: int = DONE
