"""A run of the command, for what measures whole runs."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def pretrained(words: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The result of `sslcli pretrain WORDS` in a process and a folder of its own, or `{"error": ...}`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "ssl_cli", "pretrain", *words, "--json", "--out", str(Path(folder) / "run")]
        env = {**os.environ, **(environment or {})}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    document: dict[str, Any] = json.loads(done.stdout)
    return document
