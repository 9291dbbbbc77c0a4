"""Where trackers write in a run folder, and the ids by which they know the run."""

import shutil
from pathlib import Path

from ssl_cli import disk
from ssl_cli.records import json_of
from ssl_cli.registry import TRACKERS

FOLDER = "trackers"
"""In a run folder: for each tracker a file with the id by which it knows the run."""
LOCAL = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlruns"}
"""By the name of a tracker its own folder in the run folder."""
FOLDERS = (FOLDER, *LOCAL.values())


def earlier_id(run: Path, name: str) -> str:
    """Return the id by which a tracker knows the run; empty where it does not."""
    found = json_of(run / FOLDER / f"{name}.json").get("id")
    return found if isinstance(found, str) else ""


def keep_id(run: Path, name: str, id: str) -> None:
    """Write the id by which a tracker knows the run.

    Raises:
        OSError: the folder cannot be written.
        ResourceError: the file cannot be written.
    """
    disk.make_folder(run / FOLDER)
    disk.write_json(run / FOLDER / f"{name}.json", {"schema": 1, "tracker": name, "id": id})


def delete(run: Path) -> None:
    """Delete what trackers wrote in a run folder; folders of these names that none of them has opened stay.

    Raises:
        OSError: something cannot be deleted.
    """
    for name in TRACKERS:
        if not earlier_id(run, name):
            continue
        place = run / LOCAL[name] if name in LOCAL else None
        if place is not None and place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        (run / FOLDER / f"{name}.json").unlink(missing_ok=True)
    if (run / FOLDER).is_dir() and not any((run / FOLDER).iterdir()):
        (run / FOLDER).rmdir()
