"""One stage: a process of its own that writes a JSON document, within a time."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
LIMIT = 540.0
"""Seconds that a stage may take."""
MARGIN = 75.0
"""Of them, those that a timed stage leaves for starting, evaluating and ending."""
PARTIAL = 75
"""The exit code of a stage that has more to do, and continues in the next call."""


@dataclass(frozen=True)
class Stage:
    """Something to find out.

    Attributes:
        name: of the stage.
        words: what stands behind `python`; its standard output is the result.
        least: seconds below which it is not worth starting.
        most: of a stage that does as much as fits `--seconds`, how many to give it; none for the others.
    """

    name: str
    words: tuple[str, ...]
    least: float = 120.0
    most: float | None = None

    def command(self, seconds: float) -> list[str]:
        """The command line of a stage that may take so long."""
        command = [sys.executable, *self.words]
        if self.most is None:
            return command
        return [*command, "--seconds", f"{min(self.most, max(seconds - MARGIN, seconds / 4)):.0f}"]

    def run(self, place: Path, seconds: float) -> dict[str, Any]:
        """Its outcome: `state`, `seconds`, and `result` or `error`; what it says is in a log in `place`."""
        place.mkdir(parents=True, exist_ok=True)
        command, start = self.command(seconds), time.monotonic()
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SSLCLI_")}
        with (
            (place / f"{self.name}.log").open("a", encoding="utf-8") as log,
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, process_group=0
            ) as process,
        ):
            try:
                out, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                return _outcome("failed", start, error=f"It took longer than {seconds:.0f} s.")
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)  # its workers too
        try:
            result = json.loads(out)
        except ValueError:
            result = None
        if isinstance(result, dict) and process.returncode in (0, PARTIAL):
            return _outcome("done" if process.returncode == 0 else "partial", start, result=result)
        return _outcome("failed", start, error=self._why(place, process.returncode, result), result=result)

    def _why(self, place: Path, code: int, result: Any) -> str:
        if isinstance(result, dict) and "error" in result:
            return str(result["error"])
        lines = (place / f"{self.name}.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"exit code {code}: {lines[-1] if lines else 'nothing was said'}"


def _outcome(state: str, start: float, **more: Any) -> dict[str, Any]:
    return {"state": state, "seconds": round(time.monotonic() - start, 1), **more}
