"""Word the results of commands on vectors: files of them, neighbours, near-duplicates, maps."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ssl_cli.config.units import format_bytes, format_seconds
from ssl_cli.maps.request import METHODS
from ssl_cli.names import counted
from ssl_cli.ui.text import percent, rate, safe

Line = tuple[str, str]
PAIRS_SHOWN = 50
"""Pairs in the shell; --json has more."""
LEGEND_SHOWN = 8
"""Classes that are named."""


def _embed(result: Mapping[str, Any]) -> Iterator[Line]:
    of = f"{result['feature']} of length one" if result["l2"] or result["feature"] == "z" else result["feature"]
    yield "vectors", safe(result["path"])
    yield "", f"{result['images']:,} rows of {result['width']:,} numbers, {result['dtype']}, {of}"
    for file in result["files"][1:]:
        if file.endswith(".json"):
            yield "record", f"{safe(file)}, by which sslcli neighbors --vectors knows the run"
        else:
            yield "paths", f"{safe(file)}, a path and a label for each row"
    yield "images", safe(result["data"])
    if result["unreadable"]:
        yield "left out", f"{counted(result['unreadable'], 'image')} that cannot be read"
    if result["continued_at"]:
        yield "continued", f"{result['continued_at']:,} rows were there already"
    yield "checkpoint", f"step {result['step']:,}"
    yield "took", f"{format_seconds(result['seconds'])}, {rate(result['rate'])} images/s"


def _neighbors(result: Mapping[str, Any]) -> Iterator[Line]:
    yield "image", safe(result["query"]) + (", itself in the set and not listed" if result["in_set"] else "")
    rows = [("rank", "similarity", "label", "path")]
    rows += [
        (str(one["rank"]), f"{one['similarity']:.4f}", safe(one["label"] or ""), safe(one["path"]))
        for one in result["neighbors"]
    ]
    yield from _table("neighbors", rows)
    yield from _set(result)
    if result["vectors"] is None:
        run = shlex.quote(safe(result["run"]))
        yield "next", f"sslcli embed {run} DATA -o vectors.npy"
        yield "", f"sslcli neighbors {run} IMAGE --vectors vectors.npy, which encodes only IMAGE"


def _duplicates(result: Mapping[str, Any]) -> Iterator[Line]:
    count, pairs = result["count"], result["pairs"]
    yield (
        "duplicates",
        f"{counted(count, 'pair')} with a similarity of at least {result['above']:g} (--above)",
    )
    if count:
        yield "", f"{result['paired']:,} of the {result['images']:,} images are in such a pair"
        listed = pairs[:PAIRS_SHOWN]
        rows = [("similarity", "image", "and")]
        rows += [(f"{pair['similarity']:.4f}", safe(pair["first"]), safe(pair["second"])) for pair in listed]
        yield from _table("", rows)
        if count > len(listed):
            yield "", f"the {len(listed):,} most similar pairs; --json lists up to 10,000"
    yield from _set(result)


def _map(result: Mapping[str, Any]) -> Iterator[Line]:
    yield "map", f"{safe(result['path'])}, {format_bytes(result['bytes'])}"
    some = f"{result['images']:,} images"
    if result["images"] < result["of"]:
        some = f"{result['images']:,} of {result['of']:,} images"
    yield "shows", f"{some} of {safe(result['data'])}, by {METHODS[result['by']]} of {result['feature']}"
    if result["explained"]:
        yield "", f"the axes explain {' and '.join(map(percent, result['explained']))} of the variance"
    if result["legend"]:
        names = ", ".join(f"{safe(entry['name'])} ({entry['count']:,})" for entry in result["legend"][:LEGEND_SHOWN])
        yield "colours", f"by {result['color']}: {names}{', ...' * (len(result['legend']) > LEGEND_SHOWN)}"
    if result["thumbnails"] and result["thumbnails"] < result["images"]:
        yield "thumbnails", f"of {result['thumbnails']:,} images: a page has no room for more"
    yield "checkpoint", f"step {result['step']:,}"


def _set(result: Mapping[str, Any]) -> Iterator[Line]:
    yield "among", f"{result['images']:,} images of {safe(result['data'])}"
    yield "similarity", f"cosine of {result['feature']}, 1 for equal images"
    if result["typical"] is not None:
        yield "", f"of two images taken at random {result['typical']:.2f} (median)"
    if result["sheet"]:
        yield "sheet", safe(result["sheet"])
    yield "checkpoint", f"step {result['step']:,}"


def _table(label: str, rows: Sequence[Sequence[str]]) -> Iterator[Line]:
    """Yield aligned lines; numbers stand right, columns without an entry are left out, and the last may be long."""
    columns = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    numbers = [column[1][:1].isdigit() and column[0] in {"rank", "similarity"} for column in columns]
    for row in zip(*columns, strict=True):
        cells = [
            f"{cell:>{width}}" if right else f"{cell:<{width}}"
            for cell, width, right in zip(row, widths, numbers, strict=True)
        ]
        yield label, "  ".join(cells).rstrip()
        label = ""


LINES: dict[str, Callable[[Mapping[str, Any]], Iterator[Line]]] = {
    "embed": _embed,
    "neighbors": _neighbors,
    "duplicates": _duplicates,
    "map": _map,
}
"""The lines of each result by its name."""
