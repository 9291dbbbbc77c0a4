"""Run what is left of a study: each run as `sslcli pretrain` in a folder of its own, which is then measured."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from ssl_cli import disk, lock, records, spinning, status
from ssl_cli.errors import BY_CODE, INTERRUPTED, STOPPED, DivergedError, Interrupted, ResourceError, SslcliError
from ssl_cli.planning.reached import timed
from ssl_cli.run_path import is_started
from ssl_cli.signals import StopRequest
from ssl_cli.study import child
from ssl_cli.study.book import FINISHED, SHARE, Book, Planned, Result, finite

PATIENCE = 120.0
"""Seconds to wait for a run whose study was killed to save and stop."""
SETTINGS = "arms"
"""Folder of the arms' settings, a file each, which their runs are started with."""
Train = Callable[[list[str], Path, StopRequest], int]
"""`child.run`: the words of a command line, the folder where it runs, the request to stop; returns the exit code."""
Measure = Callable[[Path, Book, Planned], Mapping[str, Any]]


@dataclass(frozen=True)
class Runner:
    """What runs a study.

    Attributes:
        folder: of the study.
        request: to stop.
        measure: measures a finished run.
        train: trains one.
    """

    folder: Path
    request: StopRequest
    measure: Measure
    train: Train = child.run

    def run(self, book: Book, arm: Planned, seed: int) -> Result:
        """Train and measure one run, or what is left of it. A run that diverges or does not fit memory is a result.

        Raises:
            Interrupted: a signal stopped it; it can be resumed.
            SslcliError: any other error, which would end the other runs, too.
        """
        self.request.raise_if_signalled()
        before = book.result(arm.start, seed)
        if before is not None and before.state != FINISHED:
            return Result(arm.name, seed, "not started", f"it starts from {arm.start}, which ended: {before.state}")
        out, began = run_folder(self.folder, arm.place, seed), spinning.cpu_time()
        whole = not is_started(out)
        for attempt in range(2):
            if status.state(out) == status.FINISHED:
                break
            code = self.train(self._words(arm, seed, out), self.folder, self.request)
            self.request.raise_if_signalled()
            if code == 0:
                break
            if code < 0 and not attempt:
                continue  # killed, as by the kernel out of memory: a resumed run takes smaller micro-batches
            return _failed(arm, seed, out, code)
        share = spinning.share_left(began, spinning.cpu_time()) if whole else None
        took = {**trained(out), SHARE: share} if arm.place == arm.name else {}
        numbers = {**took, **self.measure(out, book, arm)}
        return Result(arm.name, seed, FINISHED, numbers=finite(numbers))

    def _words(self, arm: Planned, seed: int, out: Path) -> list[str]:
        """Return the command line that starts or resumes a run.

        Raises:
            LockedError: another process trains it.
        """
        until = time.monotonic() + PATIENCE
        while lock.is_held(out) and time.monotonic() < until:
            self.request.raise_if_signalled()
            time.sleep(0.2)
        lock.require_free(out)
        place = ["--out", str(out.absolute())]
        if is_started(out):
            return [arm.command, "--resume", *place]
        start = [str(run_folder(self.folder, arm.start, seed).absolute())] if arm.start else []
        return [arm.command, *start, *_start_words(self.folder, arm), "--seed", str(seed), *place]


def run_folder(folder: Path, arm: str, seed: int) -> Path:
    """Return the folder of a run."""
    return folder / f"{arm}-seed{seed}"


def _start_words(folder: Path, arm: Planned) -> list[str]:
    """Write the settings of an arm to their file, but for paths, which a command line can hold whatever they are."""
    table: dict[str, dict[str, Any]] = {"data": {}, "model": {}, "run": {}}
    table |= {section: dict(values) for section, values in arm.settings.items()}
    data, words = table["data"], list[str]()
    source = data.pop("source", None)
    words += [source] if isinstance(source, str) else source or []
    flags = [("data", "test", "--test-data"), ("model", "init_from", "--init-from")]
    flags += [("model", "width", "--width")] if arm.start else []  # a student's, which is not its teacher's
    for section, name, flag in flags:
        value = table[section].pop(name, None)
        words += [] if value is None else [flag, str(value)]
    words += ["--set", f"data.folder={data.pop('folder')}"] if "folder" in data else []
    for name in ("out", "seed"):
        table["run"].pop(name, None)
    disk.make_folder(folder / SETTINGS)
    file = folder / SETTINGS / f"{arm.name}.toml"
    disk.write_bytes(file, tomli_w.dumps(table).encode())
    return [*words, "--config", str(file.absolute())]


def trained(run: Path) -> dict[str, Any]:
    """Return what a finished run took, from its own files: of memory the peak of its last process."""
    events = list(records.events(run))
    last = {event["event"]: event for event in events}
    finished, stepped = last.get("finished", {}), last.get("stepped", {})
    seconds, rate = timed(events)
    found = {"steps": finished.get("steps"), "peak_memory": finished.get("peak_memory"), "epochs": stepped.get("epoch")}
    return {**found, "seconds": seconds, "rate": rate, "per_thousand": 1000 / rate if rate else None}


def _failed(arm: Planned, seed: int, out: Path, code: int) -> Result:
    """Return the result of a run that ended with an error of its own.

    Raises:
        Interrupted: it was stopped.
        SslcliError: the error is not the run's own.
    """
    reason = str(status.read(out).get("reason") or "")
    if code in (STOPPED, INTERRUPTED):
        raise Interrupted(reason or "the run was stopped", code)
    if code == DivergedError.code:
        return Result(arm.name, seed, "diverged", reason)
    if code == ResourceError.code:
        return Result(arm.name, seed, "no memory or disk", reason)
    if code < 0:
        return Result(arm.name, seed, "killed", f"by signal {-code}, twice")
    what = f"The run {out} failed: {reason or 'its message is above.'}"
    hint = f"sslcli study --resume --out {out.parent} continues once that is mended."
    raise BY_CODE.get(code, SslcliError)(what, hint)
