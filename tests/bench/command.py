"""A run of the command, for what measures whole runs."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def answered(words: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The document that `sslcli WORDS --json` prints in a process of its own; `{"error": ...}` where it failed."""
    command = [sys.executable, "-m", "ssl_cli", *words, "--json"]
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def pretrained(words: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The result of `sslcli pretrain WORDS` in a folder of its own, or `{"error": ...}`."""
    with tempfile.TemporaryDirectory() as folder:
        return answered(["pretrain", *words, "--out", str(Path(folder) / "run")], environment)
