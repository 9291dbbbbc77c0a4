"""Report what `sslcli data check` found, for people."""

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from ssl_cli.config.units import format_bytes
from ssl_cli.names import counted
from ssl_cli.ui.accuracy import Line
from ssl_cli.ui.text import safe

NAMED = 3
"""Classes, files and pairs that are named."""


def refusal(result: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return sentence and hint where pretrain would refuse the images; None: it would not."""
    if result["images"] < 2:
        return f"{safe(result['data'])} holds 1 image, and training takes 2 at least.", "Give another folder of images."
    if not result["bad"]["too_many"]:
        return None
    of = result["looked_at"] + (result["test"]["looked_at"] if result["test"] else 0)
    what = f"{result['bad']['images']:,} of {of:,} images of {safe(result['data'])} cannot be read."
    return what, "At most 5 % are skipped; repair or remove them."


def lines(result: Mapping[str, Any]) -> Iterator[Line]:
    """Yield the report, labels and lines."""
    yield "images", f"{result['images']:,} in {safe(result['data'])}"
    yield from (("", safe(note)) for note in result["passed_over"])
    if test := result["test"]:
        yield "test", f"{test['images']:,} in {safe(test['data'])}"
    if result["splits"]:
        yield "splits", ", ".join(map(safe, result["splits"]))
    if result["looked_at"] < result["images"]:
        yield (
            "opened",
            f"{result['looked_at']:,} of them, in blocks evenly spaced; --sample {result['images']} opens all",
        )
    if "sizes" in result:
        yield from _files(result)
    yield from _bad(result["bad"])
    yield from _again("copies", result["copies"], "equal files", "equal to another file")
    of = f"{result['alike']['compared']:,} compared"
    yield from _again("alike", result["alike"], f"nearly the same images ({of})", f"nearly the same as another ({of})")
    yield "classes", _balance(result["classes"]) if result["classes"] else "no labels"
    if result["groups"]:
        yield "groups", _balance(result["groups"])
    for note in result["notes"]:
        yield "note", safe(note)
    yield from _plan(result["plan"])
    if result["sheet"]:
        yield "sheet", safe(result["sheet"])
    if refusal(result) is None:
        yield "next", " ".join(["sslcli pretrain", *(shlex.quote(safe(place)) for place in result["places"])])


def _bad(bad: Mapping[str, Any]) -> Iterator[Line]:
    """Count the bad files, and name the first."""
    if bad["files"]:
        more = "; --json lists them" if len(bad["files"]) > NAMED else ""
        yield "bad", f"{bad['images']:,} cannot be read{more}"
        yield from (("", f"{safe(of['path'])}: {safe(of['reason'])}") for of in bad["files"][:NAMED])


def _plan(plan: Mapping[str, Any] | None) -> Iterator[Line]:
    if plan is not None:
        yield "pretrain", f"{safe(plan['words'])} ({safe(plan['reason'])})"
        yield from (("note", safe(warning)) for warning in plan["warnings"])


def _files(result: Mapping[str, Any]) -> Iterator[Line]:
    sizes, of = result["sizes"], result["bytes"]
    median, short = _sides(sizes["median"]), sizes["short_side"]
    if sizes["different"] == 1:
        yield "sizes", f"{median}, all of them"
    else:
        ends = f"{_sides(sizes['smallest'])} to {_sides(sizes['largest'])}"
        yield "sizes", f"{ends}, median {median}; {sizes['different']:,} different"
        aspect = sizes["aspect"]
        longest = f"the long side up to {aspect['most']:.2f} times that"
        yield "", f"short side {short['least']:,} to {short['most']:,} pixels; {longest}"
    sizes = f"median {format_bytes(of['median'])}, together {format_bytes(of['total'])}"
    yield "files", f"{_counted(result['formats'])}; {sizes}"
    yield "modes", _counted(result["modes"])
    yield "numbers", ", ".join(_numbers(kind, found) for kind, found in result["numbers"].items())
    for name in ("range", "depth"):
        if found := result.get(name):
            yield name, f"{found['value']} ({safe(found['reason'])})"
    for name, what in (
        ("brightness", "mean of the pixels: 0 black, 1 white"),
        ("contrast", "their standard deviation"),
    ):
        ends = result[name]
        yield name, f"{ends['least']:.2f} to {ends['most']:.2f}, median {ends['median']:.2f} ({what})"


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{safe(name)} ({count:,})" for name, count in counts.items())


def _numbers(kind: str, found: Mapping[str, Any]) -> str:
    ends = f" from {found['low']:,.6g} to {found['high']:,.6g}" if "low" in found else ""
    return f"{safe(kind)} ({found['images']:,}){ends}"


def _sides(sides: tuple[int, int]) -> str:
    return f"{sides[0]} x {sides[1]}"


def _again(label: str, found: Mapping[str, Any], what: str, another: str) -> Iterator[Line]:
    """Word how many images repeat another one, with the first examples."""
    if not found["images"]:
        yield label, f"no {what}"
        return
    groups = f"{counted(found['groups'], 'group')} of up to {found['largest']:,}"
    between = [f"{found[key]:,} of these {where}" for key, where in _BETWEEN.items() if found[key]]
    yield label, "; ".join([f"{found['images']:,} {another}, in {groups}", *between])
    for group in found["examples"][:NAMED]:
        yield "", " = ".join(safe(path) for path in group[:NAMED]) + (" = ..." if len(group) > NAMED else "")


_BETWEEN = {"between_classes": "in several classes", "between_splits": "in training and test images"}


def _balance(found: Mapping[str, Any]) -> str:
    """Word how many images each class or group has."""
    number, least, most = found["number"], found["least"], found["most"]
    ends = f"{least:,} ({safe(found['smallest'])}) to {most:,} ({safe(found['largest'])})"
    words = f"{most:,} images each" if least == most else f"{ends} images, the median {found['median']:,}"
    more = [f"{found[key]:,} {what}" for key, what in _APART.items() if found.get(key)]
    return "; ".join([f"{number:,}, with {words}", *more])


_APART = {
    "unlabelled": "unlabelled", "single": "of one image", "without": "images without a group",
    "in_both": "in the test images too",
}  # fmt: skip
