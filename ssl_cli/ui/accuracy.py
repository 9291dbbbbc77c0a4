"""Report the accuracy of an evaluation: next to baselines, of each class, and which class is taken for which."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ssl_cli.ui.text import percent, safe
from ssl_cli.verdict import Advice, baseline_name

Line = tuple[str, str]
"""A label and its text; an empty label continues the line above."""
FEWEST_SHOWN = 3
"""Classes that are named, of the lowest accuracy."""
WHOLE_MATRIX, LONGEST_NAME, COLUMN = 10, 12, 5
"""Classes up to which the whole matrix is printed; characters of a class's name, and of a number."""
CONFUSIONS_SHOWN = 5


def as_advice(given: Mapping[str, Any]) -> Advice:
    """Read advice from a result."""
    return Advice(given["message"], tuple(given["next"]), given["worse"])


def with_error(top1: float, images: int) -> str:
    """Format an accuracy with its standard error on so many images, where that is known."""
    error = f" ± {100 * math.sqrt(top1 * (1 - top1) / images):.1f}" if images else ""
    return f"top-1 {percent(top1)}{error}"


def accuracies(result: Mapping[str, Any], images: int) -> str:
    """Format top-1 with its standard error on so many images, and top-5 where it says more."""
    top5 = f", top-5 {percent(result['top5'])}" if result.get("top5") is not None else ""
    return with_error(result["top1"], images) + top5


def lines(name: str, result: Mapping[str, Any]) -> Iterator[Line]:
    """Yield the summary of `knn` or `linear`."""
    label = "kNN" if name == "knn" else name
    advice = as_advice(given) if (given := result.get("advice")) else Advice()
    if advice.worse:
        yield "verdict", safe(advice.message)
    yield label, accuracies(result, result.get("queries") or result.get("test") or 0)
    for baseline, top1 in result.get("baselines", {}).items():
        yield "", f"top-1 {percent(top1)} by {safe(baseline_name(baseline, started=bool(result.get('started'))))}"
    yield from _knn_settings(result) if name == "knn" else _linear_settings(result)
    if "per_class" in result:
        yield from lowest(result["per_class"])
    if "confusion" in result:
        yield from confused(result["confusion"], result["per_class"])
    if result.get("picture"):
        yield "picture", safe(result["picture"])
    if result.get("step") is not None:
        yield "checkpoint", f"step {result['step']:,}"
    if result.get("note"):
        yield "note", safe(result["note"])
    if advice.message and not advice.worse:
        yield "advice", safe(advice.message)
    for number, command in enumerate(advice.commands):
        yield "" if number else "next", safe(command)


def lowest(per_class: Mapping[str, Mapping[str, float]]) -> Iterator[Line]:
    """Name the classes of the lowest accuracy, where there are others."""
    if len(per_class) > FEWEST_SHOWN:
        found = sorted(per_class.items(), key=lambda item: item[1]["top1"])[:FEWEST_SHOWN]
        yield "lowest", ", ".join(f"{safe(name)} {percent(of['top1'])}" for name, of in found)


def confused(confusion: Mapping[str, Any], per_class: Mapping[str, Mapping[str, float]]) -> Iterator[Line]:
    """Yield the confusion matrix of a few classes; of many the most frequent confusions."""
    names, counts = [safe(name) for name in confusion["classes"]], confusion["counts"]
    if not counts:
        return
    if len(names) <= WHOLE_MATRIX:
        yield "confusion", "row: the class; column: the answer"
        width = min(LONGEST_NAME, max(map(len, names)))
        yield "", " " * (width + 3) + "".join(f"{number:>{COLUMN}}" for number in range(1, len(names) + 1))
        for number, (name, row) in enumerate(zip(names, counts, strict=True), 1):
            found = per_class.get(confusion["classes"][number - 1])
            share = f"{percent(found['top1']):>8}" if found else ""
            yield "", f"{number:>2} {name[:width]:<{width}}" + "".join(f"{_number(n):>{COLUMN}}" for n in row) + share
        return
    pairs = sorted(_pairs(counts), reverse=True)[:CONFUSIONS_SHOWN]
    for place, (count, row, column) in enumerate(pairs):
        of = f"{_number(count)} of {_number(sum(counts[row]))}"
        yield "" if place else "confused", f"{names[row]} taken for {names[column]}: {of}"


def label_free(result: Mapping[str, Any]) -> Iterator[Line]:
    """Word what is measured without labels, each number with its value for the untrained network."""
    trained, untrained = result["trained"], result.get("untrained")
    near = f"{percent(trained['consistency'])} of {result['images']:,} images"
    near += " are the nearest neighbour of a view of theirs"
    rank = f"RankMe {trained['rankme']:.1f} of {result['width']:,} dimensions of {result.get('feature', 'h')}"
    started = bool(result.get("started"))
    if untrained:
        name = baseline_name("untrained", started=started)
        near += f" ({percent(untrained['consistency'])} by {name})"
        rank += f" ({'untrained' if not started else 'as it started'} {untrained['rankme']:.1f})"
    yield "quality", near
    yield "", rank
    if "alignment" in trained:
        yield from _geometry(result)
    if result.get("note"):
        yield "note", safe(result["note"])


def _geometry(result: Mapping[str, Any]) -> Iterator[Line]:
    """Word alignment and uniformity, how they moved in training, and what all of it means."""
    trained, untrained = result["trained"], result.get("untrained")
    start = "as it started" if result.get("started") else "untrained"
    for name, what in (("alignment", "mean squared distance of two views"), ("uniformity", "log mean potential")):
        before = f" ({start} {untrained[name]:.3f})" if untrained else ""
        yield "", f"{name} {trained[name]:.3f}{before}: {what}, of length one"
    for place, (name, moved) in enumerate(result.get("trend", {}).items()):
        words = f"{name.replace('_', ' ')} {moved['first']:.3f} to {moved['last']:.3f}"
        yield "" if place else "training", f"{words} from step {moved['first_step']:,} to {moved['last_step']:,}, on z"
    yield "meaning", f"{safe(result['meaning'])}."
    if result.get("step") is not None:
        yield "checkpoint", f"step {result['step']:,}"


def _pairs(counts: Sequence[Sequence[float]]) -> Iterator[tuple[float, int, int]]:
    for i, row in enumerate(counts):
        yield from ((count, i, j) for j, count in enumerate(row) if count and i != j)


def _number(count: float) -> str:
    return f"{count:.0f}"


def _knn_settings(result: Mapping[str, Any]) -> Iterator[Line]:
    of = f"{result['queries']:,} queries in a bank of {result['bank']:,}"
    yield "", f"k {result['k']}, temperature {result['temperature']:g}, on {result['feature']}, {of}"
    scores = result.get("scores", [])
    if len(scores) > 1:
        fifth = f" {'top-5':>8}" if scores[0].get("top5") is not None else ""
        yield "all", f"{'k':>4} {'T':>6} {'top-1':>8}{fifth}"
    for found in scores if len(scores) > 1 else ():
        fifth = f" {percent(found['top5']):>8}" if found.get("top5") is not None else ""
        yield "", f"{found['k']:>4} {found['temperature']:>6g} {percent(found['top1']):>8}{fifth}"
    if result.get("protocol"):
        yield "protocol", f"{safe(result['protocol'])}: {safe(result['protocol_source'])}"


def _linear_settings(result: Mapping[str, Any]) -> Iterator[Line]:
    yield "protocol", safe(result["protocol"])
    yield "images", f"{result['train']:,} for training, {result['test']:,} for testing"
