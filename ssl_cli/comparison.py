"""Runs side by side: settings that differ, results, curves; read from their folders, without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ssl_cli import records
from ssl_cli.config.toml_file import flatten
from ssl_cli.errors import CheckpointError
from ssl_cli.names import shown
from ssl_cli.runs import Run, read_run, settings_of

PASSED_OVER = {"run.out", "run.fit", "data.classes", "method.sha256", "model.init_sha256", "data.labels_sha256"}
"""Settings that always differ, or are long and say nothing by themselves."""
RESULTS = ("loss", "knn", "linear", "classifier", "epoch", "step", "seconds", "rate", "parameters", "bytes")
"""What is compared, in order: fields of `Run` and of `Reached`."""


@dataclass(frozen=True)
class Reached:
    """What a run took and reached, beyond what `Run` has; None where it is not known.

    Attributes:
        run: its settings and accuracies.
        settings: by dotted key, with what its plan chose.
        seconds: of training in all its processes.
        rate: images per second of the last of them that trained to the end.
        parameters: of its network.
    """

    run: Run
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    rate: float | None = None
    parameters: int | None = None

    def value(self, name: str) -> Any:
        """Return one of `RESULTS`."""
        return getattr(self.run, name) if hasattr(self.run, name) else getattr(self, name)


@dataclass(frozen=True)
class Comparison:
    """Runs side by side.

    Attributes:
        runs: in the order in which they were named.
        changed: settings that differ, with the value of each run, None where it has none.
    """

    runs: Sequence[Reached]
    changed: Mapping[str, Sequence[Any]]

    def document(self) -> dict[str, Any]:
        """Return JSON's types."""
        names = [name for name in RESULTS if name not in Run.__dataclass_fields__]
        runs = [{**asdict(one.run), **{name: one.value(name) for name in names}} for one in self.runs]
        return {"runs": runs, "changed": {key: list(values) for key, values in self.changed.items()}}


def compare(folders: Sequence[Path], events: Sequence[Sequence[Mapping[str, Any]]]) -> Comparison:
    """Read runs, of which the `events` are known, and find the settings that differ.

    Raises:
        CheckpointError: a folder holds no run.
    """
    runs = list(map(_read, folders, events))
    keys = {key: None for one in runs for key in one.settings if key not in PASSED_OVER}
    values = {key: [one.settings.get(key) for one in runs] for key in sorted(keys)}
    return Comparison(runs, {key: row for key, row in values.items() if any(value != row[0] for value in row)})


def _read(folder: Path, events: Sequence[Mapping[str, Any]]) -> Reached:
    run = read_run(folder)
    if run is None:
        raise CheckpointError(
            f"There is no run in {shown(str(folder))}.", "Give run folders, as sslcli runs lists them."
        )
    rates = [records.number(event.get("rate")) for event in events if event["event"] == "finished"]
    sessions = records.sessions(events)
    expected = records.table(records.json_of(folder / "plan.json"), "expected")
    return Reached(
        run,
        dict(flatten(settings_of(folder))),
        sum(sessions) if sessions else None,
        next(filter(None, reversed(rates)), None),
        records.whole(expected.get("parameters")),
    )
