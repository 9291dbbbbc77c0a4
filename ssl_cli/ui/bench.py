"""Show what a benchmark measured: tables for people, a JSON document for programs."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ssl_cli.events import Advised, Measured
from ssl_cli.names import counted
from ssl_cli.ui.screen import Screen
from ssl_cli.ui.text import percent, safe

PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"))
FULL = 100
"""Columns from which on a part fits one line."""


def amount(rate: float, unit: str) -> str:
    """Format a rate: `12,345 images/s`, `234 GFLOP/s`."""
    if unit in {"FLOP/s", "B/s"}:
        factor, letter = next(((size, name) for size, name in PREFIXES if rate >= size), (1.0, ""))
        return f"{_number(rate / factor)} {letter}{unit}"
    return f"{_number(rate)} {unit}"


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"


def line(found: Measured) -> str:
    """Format one measurement on one line."""
    share = f", {percent(found.share)} of {found.bound}" if found.share is not None else ""
    return f"{found.name}: {amount(found.rate, found.unit)}{share}"


def tables(screen: Screen, width: int) -> RenderableType:
    """Render limits of the machine, parts, shares of the time and advice in `width` columns."""
    machine, parts = _split(screen.measured)
    shown: list[RenderableType] = []
    if screen.advised:
        shown += [Text(_about(screen.advised)), Text()]
    if machine:
        shown += [_machine(machine), Text()]
    shown += [_parts(parts, width)]
    if screen.advised:
        shown += [Text(), _verdict(screen.advised)]
    return Group(*shown)


def _split(measured: Sequence[Measured]) -> tuple[list[Measured], list[Measured]]:
    """Split into limits of the machine, sorted by kind, and parts in the order in which they were measured."""
    machine = sorted((found for found in measured if found.machine), key=lambda found: _place(found.name))
    return machine, [found for found in measured if not found.machine]


def _place(name: str) -> tuple[int, str]:
    kinds = ("matrix", "memory", "decode")
    return next((place for place, kind in enumerate(kinds) if name.startswith(kind)), len(kinds)), name


def _about(advised: Advised) -> str:
    """Describe the measured run in a line."""
    run = advised.run
    threads = counted(run["threads"], "thread")
    words = (
        f"{run['method']}, {run['backbone']}, {run['size']} px, batch {run['batch']:,}",
        f"{run['device_name'] or run['device']}, {threads}, {run['precision']} {run['memory_format']}, {run['mode']}",
    )
    return safe("; ".join(words))


def _machine(found: Sequence[Measured]) -> Table:
    table = Table.grid(padding=(0, 2))
    for style, justify in (("dim", "left"), ("", "right"), ("dim", "left")):
        table.add_column(style=style, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_row(Text("this machine", "bold not dim"), "", "")
    for one in found:
        table.add_row(safe(one.name), amount(one.rate, one.unit), _quartiles(one))
    return table


def _parts(found: Sequence[Measured], width: int) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    if width >= FULL:
        table.add_column(overflow="fold")
    table.add_row(Text("this run", "bold not dim"))
    for one in found:
        bound = f"{percent(one.share)} of {one.bound}" if one.share is not None else ""
        ratio = f"{one.rate / one.reference:.1f} x {one.against}" if one.reference else ""
        cells = [safe(one.name), amount(one.rate, one.unit), _quartiles(one)]
        details = [bound, ratio] if width >= FULL else ["\n".join(filter(None, (bound, ratio)))]
        table.add_row(*cells, *(Text("\n".join(map(safe, detail.split("\n")))) for detail in details))
    return table


def _quartiles(found: Measured) -> str:
    """Format the quartiles, and the number of measurements."""
    (low, small), (high, large) = (amount(end, found.unit).split(" ") for end in (found.low, found.high))
    ends = f"{low} to {high}" if small == large else f"{low} {small} to {high} {large}"
    return f"{ends}, n {found.n}"


def _verdict(advised: Advised) -> Table:
    """Render shares of the time, what bounds it and what would help."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    if advised.shares:
        shares = ", ".join(f"{name} {percent(share)}" for name, share in advised.shares.items())
        table.add_row("together", Text(f"{amount(advised.rate or 0.0, 'images/s')}: {shares}"))
    notes = "; ".join(advised.notes)
    for name, words in (("note", notes), ("bound", advised.bound), ("advice", advised.advice)):
        if words:
            table.add_row(name, Text(safe(words), "bold" if name == "advice" else ""))
    return table


def document(screen: Screen) -> dict[str, Any]:
    """Return the body of the JSON document."""
    machine, parts = _split(screen.measured)
    body: dict[str, Any] = {
        "run": dict(screen.advised.run) if screen.advised else {},
        "machine": {found.name: _record(found) for found in machine},
        "parts": {found.name: {**_record(found), **_bounds(found)} for found in parts},
    }
    if advised := screen.advised:
        advice = {"bound": advised.bound, "advice": advised.advice, "setting": advised.setting or None}
        body |= {"shares": dict(advised.shares), "images_per_second": advised.rate, "notes": list(advised.notes)}
        body["advice"] = {**advice, "gain": advised.gain}
    return body


def _record(found: Measured) -> dict[str, Any]:
    return {"rate": found.rate, "unit": found.unit, "quartiles": [found.low, found.high], "n": found.n}


def _bounds(found: Measured) -> dict[str, Any]:
    reference = None
    if found.reference:
        reference = {"what": found.against, "rate": found.reference, "ratio": found.rate / found.reference}
    bounds = dict(found.bounds)
    return {"bounds": bounds, "bound": found.bound or None, "share": found.share, "reference": reference}
