"""The file that the evidence is kept in: one JSON document, whole at any moment."""

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch
import torchvision

SCHEMA = 1


class Evidence:
    """What was found so far, stage by stage.

    Args:
        path: the file, read if it is there.
        tiny: whether this is a rehearsal.

    Raises:
        ValueError: the file is of another machine, or of a rehearsal where this is none.
    """

    def __init__(self, path: Path, *, tiny: bool) -> None:
        self.path = path
        self.document: dict[str, Any] = {"schema": SCHEMA, "tiny": tiny, "machine": machine(), "stages": {}}
        if path.is_file():
            earlier = json.loads(path.read_text(encoding="utf-8"))
            for what in ("tiny", "machine"):
                if earlier[what] != self.document[what]:
                    raise ValueError(f"{path} is of another kind: its {what} is {earlier[what]}. Give another --out.")
            self.document = earlier

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        """By name, each with its `state` (done, partial or failed), `seconds`, and `result` or `error`."""
        found: dict[str, dict[str, Any]] = self.document["stages"]
        return found

    def done(self, name: str) -> bool:
        """Whether there is nothing left to do of this stage."""
        return self.stages.get(name, {}).get("state") == "done"

    def keep(self, name: str, outcome: dict[str, Any]) -> None:
        """Write the outcome of a stage; a reader finds the file as it was or as it is now."""
        self.stages[name] = outcome
        self.write()

    def write(self) -> None:
        """Write the document."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(self.document, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def machine() -> dict[str, Any]:
    """What the figures are of."""
    gpu = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "gpu": gpu.name if gpu else None,
        "gpu_memory": gpu.total_memory if gpu else None,
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": str(torchvision.__version__),
        "cuda": torch.version.cuda,
    }
