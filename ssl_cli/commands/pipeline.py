"""`sslcli pipeline`: pretrain, fine-tune and distil, a command after another, in one folder that can be resumed."""

import contextlib
import io
import json as documents
import shlex
import sys
import time as clock
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ssl_cli import disk, lock
from ssl_cli.commands import distill, options
from ssl_cli.config.units import format_seconds, format_time, parse_seconds
from ssl_cli.errors import DONE, UsageError

EPILOG = options.examples(
    "A classifier from a tenth of the labels, in two hours: sslcli pipeline photos/ --labels 10% --time 2h",
    "Distilled into a smaller network: sslcli pipeline photos/ --labels 10% --student resnet18 --width 0.5",
    "Continue after an interruption: sslcli pipeline photos/ --labels 10% --out runs/road --resume",
)
FEW = "10%"
FewLabels = Annotated[
    str,
    typer.Option(metavar="L", help="10%, 4-per-class, or FILE of paths, or CSV", rich_help_panel=options.DATA),
]
FILE, SCHEMA = "pipeline.json", 1
SHARES = {"pretrain": 0.6, "distill": 0.25}
"""Parts of --time. Training on labels takes the epochs of its recipe, for which the rest is meant."""
ROWS = {"scratch": "from scratch", "linear": "linear", "finetune": "fine-tuned", "distill": "distilled"}
"""Stages of which an accuracy is reported."""


@dataclass(frozen=True)
class Asked:
    """What the command line asks for, which a pipeline that is resumed must repeat.

    Attributes:
        data: images; None: shapes.
        labels: as of `sslcli finetune`.
        method: of pretraining; None: the default.
        time: seconds of all stages; None: pretraining takes its own default, distillation the epochs of its recipe.
        student: network of the student; None: that of the teacher.
        width: of the student.
        seed: of all stages.
    """

    data: str | None
    labels: str
    method: str | None
    time: float | None
    student: str | None
    width: float | None
    seed: int | None


def pipeline(
    data: options.Data = None,
    labels: FewLabels = FEW,
    method: options.Method = None,
    time: options.Time = None,
    student: distill.Student = None,
    width: distill.StudentWidth = None,
    seed: options.Seed = None,
    test_data: options.TestData = None,
    download: options.Download = None,
    device: options.Device = None,
    out: options.Out = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    json: options.Json = False,
    debug: options.Debug = False,
) -> int:
    """Pretrain, fine-tune with few labels and distil; compare with the same network from scratch and a linear probe."""
    from ssl_cli.run_path import default_path

    seconds = None if time is None else parse_seconds(time)
    asked = Asked(data, labels, method, seconds, student, width, seed)
    more = [
        *(["--test-data", test_data] if test_data else []),
        *(["--download"] if download else []),
        *(["--device", device] if device else []),
    ]
    if out is None and (resume or overwrite):
        raise UsageError("A pipeline is named by its folder.", "Name it with --out.")
    folder = Path(out) if out is not None else default_path("pipeline")
    done = _open(folder, asked, resume=resume, overwrite=overwrite)
    disk.make_folder(folder)
    with lock.acquire(folder):
        _write(folder, asked, done)
        for name, words in commands(asked, folder):
            if name in done:
                continue
            code, found = _run(name, words, more, folder / name, overwrite=overwrite)
            if code != DONE:
                return _ended(code, found, folder, as_json=json)
            done[name] = found
            _write(folder, asked, done)
    return _report(folder, asked, done, as_json=json)


def _write(folder: Path, asked: Asked, done: Mapping[str, Any]) -> None:
    disk.write_json(folder / FILE, {"schema": SCHEMA, "asked": asdict(asked), "stages": done})


def commands(asked: Asked, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the name and the command line of each stage, in their order."""
    encoder, classifier = str(folder / "pretrain"), str(folder / "finetune")
    seed = [] if asked.seed is None else ["--seed", str(asked.seed)]
    method = [] if asked.method is None else ["--method", asked.method]
    student = [] if asked.student is None else ["--student", asked.student]
    student += [] if asked.width is None else ["--width", f"{asked.width:g}"]
    few = ["--labels", asked.labels]
    yield "pretrain", ["pretrain", *([asked.data] if asked.data else []), *method, *_time(asked, "pretrain"), *seed]
    yield "scratch", ["finetune", encoder, *few, "--set", "method.scratch=true", *seed]
    yield "linear", ["linear-eval", encoder, *few]
    yield "finetune", ["finetune", encoder, *few, *seed]
    yield "distill", ["distill", classifier, *student, *_time(asked, "distill"), *seed]


def _time(asked: Asked, stage: str) -> list[str]:
    return [] if asked.time is None else ["--time", format_time(SHARES[stage] * asked.time)]


def _open(folder: Path, asked: Asked, *, resume: bool, overwrite: bool) -> dict[str, Any]:
    """Return the stages that are done.

    Raises:
        UsageError: the folder is not empty and holds no pipeline, or one that was asked for something else.
    """
    if resume and overwrite:
        raise UsageError("--resume and --overwrite exclude each other.", "Give one of them.")
    if not folder.is_dir() or all(entry.name.startswith(".") for entry in folder.iterdir()):
        return {}
    try:
        found = disk.read_json(folder / FILE)
        before, stages = dict(found["asked"]), dict(found["stages"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"{folder} is not empty and holds no pipeline."
        raise UsageError(what, "Choose another --out; nothing was touched.") from error
    if overwrite:
        return {}
    if not resume:
        hint = "Continue it with --resume, replace it with --overwrite, or choose another --out."
        raise UsageError(f"{folder} is not empty.", hint)
    for name, value in asdict(asked).items():
        if before.get(name) != value:
            what = f"This pipeline was started with {name} {before.get(name)}, not {value}."
            raise UsageError(what, "Repeat its command line, or choose another --out.")
    return stages


def _run(
    name: str, words: Sequence[str], more: Sequence[str], folder: Path, *, overwrite: bool
) -> tuple[int, dict[str, Any]]:
    """Run a command in this process; return its exit code and its JSON document, with its seconds."""
    from ssl_cli.cli import main
    from ssl_cli.run_path import is_started

    line = [*words, *more]
    if name != "linear":
        how = [] if not is_started(folder) else ["--overwrite"] if overwrite else ["--resume"]
        line += ["--out", str(folder), *how]
    sys.stderr.write(f"\n== sslcli {shlex.join(line)}\n")
    start, text = clock.monotonic(), io.StringIO()
    with contextlib.redirect_stdout(text):
        code = main([*line, "--json"])
    found: dict[str, Any] = documents.loads(text.getvalue() or "{}")
    return code, {**found, "wall_seconds": clock.monotonic() - start}


def _ended(code: int, found: Mapping[str, Any], folder: Path, *, as_json: bool) -> int:
    """Report a stage that failed or was stopped; return its exit code."""
    from ssl_cli.ui.sinks import write_json

    again = "The same command line with --resume continues."
    error = found.get("error") or {"message": "The stage did not end.", "hint": again}
    if as_json:
        write_json({"error": {"code": code, "message": error["message"], "hint": error.get("hint") or again}})
    else:
        sys.stderr.write(f"{error['message']} {error.get('hint') or ''}\n{folder}: {again}\n")
    return code


def row(name: str, found: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return a stage's row of the table: accuracy, seconds of training, and trained parameters, None where unknown."""
    result = found if name == "linear" else found.get("distill" if name == "distill" else "finetune") or {}
    plan: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        plan = disk.read_json(folder / name / "plan.json").get("expected") or {}
    return {
        "name": ROWS[name], "top1": result.get("top1"), "top5": result.get("top5"),
        "test": result.get("test"),
        "seconds": found.get("seconds") or found["wall_seconds"], "parameters": plan.get("parameters"),
    }  # fmt: skip


def _report(folder: Path, asked: Asked, done: Mapping[str, Any], *, as_json: bool) -> int:
    """Write the table of all stages to stdout."""
    from ssl_cli.ui.sinks import write_json
    from ssl_cli.ui.stream import write_result
    from ssl_cli.ui.text import percent

    rows = [row(name, done[name], folder) for name in ROWS]
    if as_json:
        write_json({"schema": SCHEMA, "command": "pipeline", "out": str(folder), "labels": asked.labels, "rows": rows})
        return DONE
    lines = [f"labels {asked.labels}, {rows[0]['test'] or 0:,} test images", _line("", "top-1", "time", "parameters")]
    for found in rows:
        top1 = "" if found["top1"] is None else percent(found["top1"])
        size = "" if found["parameters"] is None else f"{found['parameters'] / 1e6:.2f} M"
        lines.append(_line(found["name"], top1, format_seconds(found["seconds"]), size))
    lines.append(_line("pretraining", "", format_seconds(done["pretrain"]["wall_seconds"]), ""))
    lines.append(f"the classifiers are in {folder / 'finetune'} and {folder / 'distill'}")
    write_result("\n".join(lines) + "\n")
    return DONE


def _line(name: str, top1: str, time: str, parameters: str) -> str:
    return f"{name:<13}{top1:>8}{time:>16}{parameters:>14}".rstrip()
