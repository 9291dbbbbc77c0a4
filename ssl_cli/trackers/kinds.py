"""The trackers: each opens a run, or continues it, and takes numbers. A library is imported where it is opened.

None sends anything anywhere unless the variables of its own library ask for it. What the libraries report to their
makers is switched off.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

QUIET = {
    "WANDB_ERROR_REPORTING": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # MLflow's own default is a database, which takes it 20 s to create
}
"""Variables that are set for the libraries, where the user has not set them."""
PROJECT = "sslcli"
LONGEST, BATCH = 500, 100
"""Characters of a setting, and settings in a call, that MLflow takes."""


@dataclass(frozen=True)
class TrackedRun:
    """A run as its trackers know it.

    Attributes:
        folder: of the run.
        id: of the run.
        earlier: the id that the tracker gave in an earlier process; empty: it is new to the tracker.
        settings: by dotted key.
    """

    folder: Path
    id: str
    earlier: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Return the name that is shown: that of the folder, made unique by the first digits of the id."""
        return f"{self.folder.resolve().name}-{self.id[:6]}"


class Tracker(Protocol):
    """Write the numbers of one run to a tracker; called in a thread of its own, where it may raise any exception."""

    id: str
    """By which a later process continues the same run."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Show the numbers at a step."""

    def close(self, state: str) -> None:
        """Finish writing; `state` is one of `status.STATES`."""


class TensorBoard:
    """Write to `tensorboard/` in the run folder."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils import tensorboard

        self.id = "tensorboard"
        library: Any = tensorboard
        self._writer = library.SummaryWriter(str(run.folder / self.id))
        if not run.earlier:
            rows = "".join(f"| {key} | {_text(value)} |\n" for key, value in run.settings.items())
            self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers to the disk."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, state: str) -> None:
        """Close the file."""
        self._writer.close()


class Wandb:
    """Write to `wandb/` in the run folder; `WANDB_MODE=online` sends."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        quiet = wandb.Settings(console="off", silent=True, save_code=False, disable_git=True, x_disable_stats=True)
        self.id = run.earlier or run.id
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), dir=str(run.folder), id=self.id, name=run.title,
            config=dict(run.settings), mode=os.environ.get("WANDB_MODE", "offline"), resume="allow",
            allow_val_change=True, settings=quiet,
        )  # fmt: skip
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")  # W&B's own step never decreases

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Pass the numbers to W&B's process."""
        self._run.log({**numbers, "step": step})

    def close(self, state: str) -> None:
        """Wait until all is written, and sent where it is."""
        self._run.finish(exit_code=int(state == "failed"))


class MLflow:
    """Write to `mlruns/` in the run folder; `MLFLOW_TRACKING_URI` names another place or a server."""

    def __init__(self, run: TrackedRun) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        local = (run.folder.resolve() / "mlruns").as_uri()
        self._client, self._metric = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", local)), Metric
        if run.earlier:
            self.id = run.earlier
            self._client.update_run(self.id, status="RUNNING")
            return
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        place = found.experiment_id if found else self._client.create_experiment(name)
        self.id = self._client.create_run(place, run_name=run.title).info.run_id
        params = [Param(key, _text(value)[:LONGEST]) for key, value in run.settings.items()]
        for start in range(0, len(params), BATCH):
            self._client.log_batch(self.id, params=params[start : start + BATCH])

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write or send the numbers."""
        now = int(1000 * time.time())
        self._client.log_batch(self.id, metrics=[self._metric(key, value, now, step) for key, value in numbers.items()])

    def close(self, state: str) -> None:
        """Write how the run ended."""
        self._client.set_terminated(self.id, {"finished": "FINISHED", "stopped": "KILLED"}.get(state, "FAILED"))


class Trackio:
    """Write to trackio's own folder, `TRACKIO_DIR`; `TRACKIO_SPACE_ID` or `TRACKIO_SERVER_URL` sends."""

    def __init__(self, run: TrackedRun) -> None:
        import trackio

        self.id = run.earlier or run.title
        self._run: Any = trackio.init(
            os.environ.get("TRACKIO_PROJECT", PROJECT), self.id, config=dict(run.settings), resume="allow",
            embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Pass the numbers to trackio's thread."""
        self._run.log(dict(numbers), step=step)

    def close(self, state: str) -> None:
        """Wait until all is written, and sent where it is."""
        self._run.finish()


KINDS: Mapping[str, Callable[[TrackedRun], Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": MLflow,
    "trackio": Trackio,
}


def quieten() -> None:
    """Set the variables `QUIET`."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
