"""Report the result of a command: lines for people, a JSON document for programs."""

import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ssl_cli.config.units import format_bytes, format_seconds
from ssl_cli.errors import DONE, EXIT_CODES, INTERRUPTED, STOPPED
from ssl_cli.events import SCHEMA, Finished, Stopped
from ssl_cli.names import counted
from ssl_cli.status import DIED
from ssl_cli.ui import accuracy, bench, sizes, vectors
from ssl_cli.ui.accuracy import Line
from ssl_cli.ui.screen import TRAINING, Screen
from ssl_cli.ui.text import percent, rate, safe
from ssl_cli.verdict import Advice, Score, Training, advise

MEASURES: dict[str, tuple[str, Callable[[float], str]]] = {
    "seconds": ("time", format_seconds),
    "peak_memory": ("memory", format_bytes),
    "rate": ("images/s", rate),
    "checkpoint": ("checkpoint", format_bytes),
    "steps": ("steps", "{:,.0f}".format),
}
"""Quantities in which the plan is compared with the run: label, and format."""


def document(command: str, screen: Screen) -> dict[str, Any]:
    """Return the JSON document of `--json`."""
    head: dict[str, Any] = {"schema": SCHEMA, "command": command}
    if command == "bench":
        body = bench.document(screen)
    elif command not in TRAINING:
        body = {key: value for result in screen.results.values() for key, value in result.items()}
    elif screen.plan_alone:
        body = {
            "dry_run": True,
            "plan": [{"name": c.name, "value": c.value, "reason": c.reason} for c in screen.choices],
            "expected": dict(screen.expected),
            **({"sizes": sizes.document(screen.sizes)} if screen.sizes else {}),
        }
    else:
        body = {
            "out": screen.started.out if screen.started else None,
            "starts_from": next((f"{c.value}: {c.reason}" for c in screen.choices if c.name == "starts from"), None),
            "steps": screen.step,
            "of_steps": screen.steps,
            "loss": screen.latest.loss if screen.latest and math.isfinite(screen.latest.loss) else None,
            "checkpoint": screen.saved.path if screen.saved else None,
            "seconds": screen.finished.seconds if screen.finished else None,
            "seconds_in_all": screen.seconds if screen.finished else None,
            "peak_memory": screen.finished.peak_memory if screen.finished else None,
            "skipped": screen.skipped,
            **screen.results,
            "online_knn": [{"step": event.step, "top1": event.result["top1"]} for event in screen.online],
            "plan_against_fact": {
                name: {"expected": expected, "actual": actual} for name, expected, actual in _compared(screen)
            },
            "verdict": _advice(screen).message if command == "pretrain" else "",
        }
    body["warnings"] = [warning.message for warning in screen.warnings]
    if screen.stopped:
        code, reason = screen.stopped.exit_code, screen.stopped.reason
        body["error"] = {
            "code": code,
            "message": f"{screen.stopped.state.capitalize()}: {reason}.",
            "hint": _resume(command, screen),
        }
    return {**head, **body}


def lines(command: str, screen: Screen) -> Iterator[Line]:
    """Yield the summary for people: quality, plan and actual values, paths, next commands.

    For a plan without training only its warnings: `view.plan` renders the rest.
    """
    if command in TRAINING and not screen.plan_alone:
        yield from _trained(command, screen)
    for name, result in screen.results.items():
        if name in {"knn", "linear"} and command not in TRAINING:
            yield from accuracy.lines(name, result)
        elif name == "quality" and command not in TRAINING:
            yield from accuracy.label_free(result)
        elif name == "export":
            yield from _export(result)
        elif name in vectors.LINES:
            yield from vectors.LINES[name](result)
        elif name == "sheet":
            yield "sheet", safe(result["path"])
            yield "shows", _sheet(result)
            if matched := result.get("matched"):
                yield "task", _task(matched, result["note"])
    for warning in screen.warnings if command not in TRAINING or screen.plan_alone else ():
        yield "warning", f"{safe(warning.message)} {safe(warning.hint)}".rstrip()


def _sheet(result: Mapping[str, Any]) -> str:
    images, views = result["images"], result["views"]
    each = f"{views} steps of {safe(result['op'])}, from low to high" if result.get("op") else f"{views} views"
    return f"{counted(images, 'image')} and {each}{' of each' * (images != 1)}"


def _task(matched: Mapping[str, Any], note: str) -> str:
    shares = f"colours alone match {percent(matched['colour'])} of the views, pixels alone {percent(matched['pixels'])}"
    return f"{shares} ({matched['images']} images). {safe(note)}".rstrip()


def _trained(command: str, screen: Screen) -> Iterator[Line]:
    out = screen.started.out if screen.started else ""
    if screen.stopped:
        yield safe(screen.stopped.state), _how_it_stopped(screen, screen.stopped)
    advice = _advice(screen) if command == "pretrain" else Advice()
    if advice.worse:
        yield "verdict", safe(advice.message)
    yield from _measured(command, screen)
    if advice.message and not advice.worse:
        yield "advice", safe(advice.message)
    if screen.latest:
        chance = f" (chance {screen.latest.chance:.2f})" if screen.latest.chance is not None else ""
        yield "loss", f"{screen.latest.loss:.4f}{chance}"
    if screen.finished:
        yield from _facts(screen, screen.finished)
    if screen.skipped:
        yield "skipped", f"{counted(screen.skipped, 'unreadable image')}, listed in {safe(out)}/bad_images.jsonl"
    if screen.saved:
        yield "encoder" if command == "pretrain" else "checkpoint", safe(screen.saved.path)
    yield from _next(command, screen, out)


def _how_it_stopped(screen: Screen, stopped: Stopped) -> str:
    where = f"at step {screen.step:,} of {screen.steps:,}" if screen.steps else "before its first step"
    why = "resumable" if stopped.state == DIED else EXIT_CODES.get(stopped.exit_code, stopped.state)
    return f"{where}: {safe(stopped.reason)} ({why})"


def _measured(command: str, screen: Screen) -> Iterator[Line]:
    """Yield what is known of the encoder: at the end by labels or without, else the latest measurement in training."""
    if command in screen.results:
        yield from _classified(screen.results[command])
    elif "knn" in screen.results:
        yield from accuracy.lines("knn", screen.results["knn"])
    elif screen.results.get("quality", {}).get("measure") == "consistency":
        yield from accuracy.label_free(screen.results["quality"])
    elif screen.online:
        last = screen.online[-1]
        how = f"while training, on training images (k {last.result['k']})"
        yield "kNN", f"top-1 {percent(last.result['top1'])} at step {last.step:,}, {how}"


def _compared(screen: Screen) -> Iterator[tuple[str, float, float]]:
    """Yield name, planned value and actual value of each quantity where both are known."""
    finished, saved = screen.finished, screen.saved
    facts = {
        "seconds": finished.seconds if finished else None,
        "peak_memory": finished.peak_memory if finished else None,
        "rate": finished.rate if finished else None,
        "checkpoint": saved.size if saved and saved.size else None,
        "steps": finished.steps if finished else None,
    }
    if finished and finished.steps == screen.resumed_from:
        return  # nothing was left to train
    for name, actual in facts.items():
        expected = screen.expected.get(name)
        if expected is not None and actual is not None:
            yield name, expected, actual


def _facts(screen: Screen, finished: Finished) -> Iterator[Line]:
    """Yield how long the run took, and aligned rows of planned value, actual value and difference.

    Of a run that was resumed the rows are of the steps since then, but for their number.
    """
    compared, before = list(_compared(screen)), screen.resumed_from
    if before or not {"steps", "seconds", "peak_memory"} <= {name for name, _, _ in compared}:
        took, peak = format_seconds(screen.seconds), f", peak memory {format_bytes(finished.peak_memory)}"
        since = f"; {finished.steps - before:,} of them in {format_seconds(finished.seconds)} since it was resumed"
        if finished.steps == before:
            since, peak = "; nothing was left to train", ""
        yield "trained", f"{finished.steps:,} steps in {took}{peak}{since if before else ''}"
    if not compared:
        return
    rows = [("resumed" if before else "", "planned", "actual", "")]
    for name, expected, actual in compared:
        label, formatted = MEASURES[name]
        difference = f"{100 * (actual / expected - 1):+.1f} %" if expected > 0 and actual != expected else ""
        rows.append((label, formatted(expected), formatted(actual), difference))
    left, middle, right = (max(len(row[column]) for row in rows) for column in (1, 2, 3))
    for label, planned, actually, difference in rows:
        yield label, f"{planned:>{left}}   {actually:>{middle}}   {difference:>{right}}".rstrip()


def _next(command: str, screen: Screen, out: str) -> Iterator[Line]:
    run = shlex.quote(safe(out))
    if not screen.started and not screen.stopped:  # such as a run that is watched
        yield "note", "metrics.jsonl does not say how the run started: it is damaged, or was lost"
        return
    if screen.stopped:
        if screen.stopped.exit_code in {STOPPED, INTERRUPTED}:
            yield "next", _resume(command, screen)
        return
    if command != "pretrain":
        small = f"sslcli distill {run} --student resnet18 --width 0.5"
        yield "next", f"sslcli export {run} --classifier -o classifier.onnx"
        yield "", small if command == "finetune" else f"sslcli export {run} -o encoder.onnx"
        return
    labels = "" if "knn" in screen.results else " LABELLED"
    commands = [*map(safe, _advice(screen).commands)] or [f"sslcli knn-eval {run}{labels or ' --baselines'}"]
    for number, command in enumerate(commands):
        yield "" if number else "next", command
    if "knn" in screen.results:
        yield "", f"sslcli linear-eval {run}"
    yield "", f"sslcli export {run} -o encoder.onnx"


def _resume(command: str, screen: Screen) -> str:
    return f"sslcli {command} --resume --out {shlex.quote(safe(screen.started.out))}" if screen.started else ""


def _advice(screen: Screen) -> Advice:
    """Return the advice that the run gave at its end, or where its quality was not measured what its steps allow."""
    if screen.exit_code != DONE or not screen.finished:
        return Advice()
    if given := screen.results.get("quality", {}).get("advice"):
        return accuracy.as_advice(given)
    epochs = max(1, math.ceil(screen.latest.epoch)) if screen.latest else 1
    out, knn = screen.started.out if screen.started else "", screen.results.get("knn")
    score = Score("kNN top-1", knn["top1"], knn["queries"], knn.get("baselines", {})) if knn else None
    found = advise(Training(screen.steps, screen.steps, epochs, run=out), score)
    note, alarming = screen.chance_note()
    return found if found.message or knn or not alarming else Advice(f"The loss is {note}.")


def _classified(result: Mapping[str, Any]) -> Iterator[Line]:
    """Word a classifier's accuracy on the test images, and the classes where it is lowest."""
    yield "accuracy", accuracy.accuracies(result, result["test"])
    share = f" ({safe(result['labels'])})" if result["labels"] else ""
    labels = f"{result['labelled']:,} labels{share}" if result["labelled"] else "no labels"
    if result["labelled"] == result["train"]:
        labels = f"a label each{share}"
    yield "images", f"{result['test']:,} for testing; trained on {result['train']:,} with {labels}"
    yield from accuracy.lowest(result["per_class"])
    if result.get("note"):
        yield "note", safe(result["note"])


def _export(result: Mapping[str, Any]) -> Iterator[Line]:
    yield "classifier" if "classes" in result else "encoder", safe(result["path"])
    form = f"ONNX opset {result['opset']}" if "opset" in result else result["format"]
    before = result.get("float32_bytes")
    weights = f", {result['numbers']} weights ({format_bytes(before)} as float32)" if before else ""
    yield "size", f"{format_bytes(result['bytes'])}, {form}{weights}"
    if result.get("step") is not None:
        yield "checkpoint", f"step {result['step']:,}"
    yield "input", safe(result["input"])
    yield "output", safe(result["output"])
    if "load" in result:
        yield "load", safe(result["load"])
        yield "checked", f"{safe(result['checked'])}: largest difference {result['max_error']:.1e}"
    else:
        sizes = ", ".join(str(size) for size in result["batch_sizes"])
        yield (
            "checked",
            f"onnxruntime against torch at batch sizes {sizes}: largest difference {result['max_error']:.1e}, "
            f"cosine {result['cosine']:.6f}"
            + (f", sides up to {side} pixels" if (side := result.get("largest_side")) else ""),
        )
    if knn := result.get("knn"):
        rounded, plain = knn[result["numbers"]], knn["float32"]
        difference = f"{100 * (rounded - plain):+.1f} points"
        yield "kNN", f"top-1 {percent(rounded)}, {percent(plain)} with float32 weights ({difference})"
        yield "", f"k {knn['k']}, {knn['queries']:,} queries in a bank of {knn['bank']:,}"
    if result.get("model_card"):
        yield "model card", safe(result["model_card"])
