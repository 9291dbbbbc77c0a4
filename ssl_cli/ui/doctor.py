"""Report the checks of a machine: a line each, then what is wrong, then whether runs would work."""

from collections.abc import Iterator, Sequence
from typing import Any

from ssl_cli.doctor.check import Check
from ssl_cli.errors import DONE, EXIT_CODES
from ssl_cli.ui.accuracy import Line
from ssl_cli.ui.text import safe


def document(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the JSON document."""
    return {
        "schema": 1,
        "command": "doctor",
        "works": all(check.code == DONE for check in checks),
        "checks": {check.name: {"value": check.value, **check.facts} for check in checks},
        "problems": [
            {"check": check.name, "message": check.problem, "hint": check.hint, "code": check.code}
            for check in checks
            if check.problem
        ],
    }


def lines(checks: Sequence[Check]) -> Iterator[Line]:
    """Yield the lines for people."""
    for check in checks:
        yield check.name, safe(check.value)
    wrong = [check for check in checks if check.problem]
    for check in wrong:
        yield "problem" if check.code != DONE else "warning", f"{safe(check.problem)} {safe(check.hint)}".rstrip()
    fatal = next((check for check in wrong if check.code != DONE), None)
    if fatal is None:
        yield "verdict", "runs work here" + (", with the warnings above" if wrong else "")
    else:
        yield "verdict", f"runs would end with exit code {fatal.code}: {EXIT_CODES[fatal.code]}"
