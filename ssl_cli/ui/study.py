"""Show studies: the list, the plan, the table with its chart of intervals, the papers' numbers and the advice."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ssl_cli.config.units import format_bytes, format_epochs, format_seconds
from ssl_cli.names import counted
from ssl_cli.study.advice import advice, points, warnings
from ssl_cli.study.book import SHARE, Book, Planned, Result
from ssl_cli.study.paper import PAPERS, number
from ssl_cli.study.run import run_folder
from ssl_cli.study.simclr_v2 import HALF, kind_of
from ssl_cli.study.statistics import Difference, Mean
from ssl_cli.study.summary import COSTS, NO_LABELS, QUALITIES, RIVALRY, THOUSAND, Row, Summary
from ssl_cli.study.table import ALONE, OPERATIONS, STUDIES
from ssl_cli.ui.text import percent, safe

LABEL, WIDTH = 11, 48
UNKNOWN = "-"
COST_COLUMNS = ("arm", "1,000 images", "machine", "peak", "batch", "mode", "runs")


def listing() -> Iterator[str]:
    """Yield a line for each study."""
    longest = max(map(len, STUDIES))
    for study in STUDIES.values():
        yield f"{study.name:<{longest}}  {study.asks}; equal {study.equal}"
    yield ""
    yield "sslcli study NAME DATA --time 2h --seeds 3 --out runs/NAME"


def plan(book: Book, folder: Path) -> Iterator[str]:
    """Yield what a study would run."""
    about, asked = book.about, book.asked
    runs = len(book.turns)
    yield f"study      {asked.name}: {STUDIES[asked.name].asks}"
    yield f"runs       {runs}: {len(book.arms)} arms, {counted(asked.seeds, 'seed')}, in turns"
    yield f"time       about {format_seconds(about.seconds)}; {format_seconds(asked.time)} are asked for"
    epochs = f"{format_epochs(about.unit)} epoch{'s' * (about.unit != 1)}"
    unit = format_seconds(about.unit) if about.equal == "time" else epochs
    yield f"equal      {about.equal}, {unit} a run that has all; {format_bytes(about.memory)} of memory; {about.device}"
    halved = "; arms named half have half its width" if any(arm.name == HALF for arm in book.arms) else ""
    yield f"network    {about.network}, the same for all arms, and of a seed the same weights at the start{halved}"
    yield f"images     {about.images:,}; measured on {about.queries:,} held out, by {about.bank:,} others, at most"
    yield f"folder     {safe(folder)}"
    rows = [("arm", "batch", "share", "images/s", "peak (estimate)", "labels")]
    for arm in book.arms:
        peak, rate = arm.expected.get("peak_memory"), arm.expected.get("rate")
        cells = (f"{rate:,.0f}" if rate else UNKNOWN, format_bytes(peak) if peak else UNKNOWN)
        rows.append((arm.name, f"{arm.batch:,}" if arm.batch else UNKNOWN, f"{arm.share:g}", *cells, _labels(arm)))
    yield from aligned(rows)


def title(book: Book, arm: str, seed: int, number: int) -> str:
    """Return the line above the display of a run."""
    return f"run {number}/{len(book.turns)}  {arm}, seed {seed}"


def outcome(result: Result) -> str:
    """Return the line below the display of a run."""
    numbers = result.numbers
    known = [f"{words} {percent(numbers[name])}" for name, words in QUALITIES.items() if name in numbers]
    if not known and {THOUSAND, "peak_memory"} <= numbers.keys():
        known = [f"{numbers[THOUSAND]:.2f} s for 1,000 images, {format_bytes(numbers['peak_memory'])}"]
    ended = "" if result.state == "finished" else f"{result.state}: {safe(result.reason)}"
    return f"{'result':<{LABEL}}{', '.join(known) or ended or 'no numbers'}"


def lines(book: Book, folder: Path) -> Iterator[str]:
    """Yield the table, the chart, the papers' numbers and the advice."""
    summary, asked = Summary(book), book.asked
    done, runs = len(book.results), len(book.turns)
    yield f"study      {asked.name}: {STUDIES[asked.name].asks}"
    about, images = book.about, safe(asked.data or "shapes")
    yield f"images     {images}, {about.images:,}; {about.network}; {format_bytes(about.memory)} of memory"
    yield f"measured   {_measured(summary)}"
    seeds = counted(summary.n, "seed")
    yield f"runs       {done} of {runs} done, {seeds}; ± of a mean is its standard error over seeds"
    yield ""
    if summary.is_cost:
        yield from aligned([COST_COLUMNS, *map(_cost_cells, summary.rows)])
    else:
        yield from aligned([_header(summary), *(_cells(summary, row) for row in summary.rows)])
    for name in ("untrained", "pixels"):
        if name in (means := summary.rows[0].means):
            words = {"untrained": "the same network untrained", "pixels": "raw pixels"}[name]
            yield f"{words}: kNN {_mean(means[name])}"
    yield ""
    yield from chart(summary)
    yield from _papers(book)
    yield from _fronts(summary)
    for words in warnings(summary):
        yield f"{'warning':<{LABEL}}{words}"
    for words in advice(summary).splitlines():
        yield f"{'advice':<{LABEL}}{words}"
    for result in book.results:
        if result.reason:
            yield f"{'ended':<{LABEL}}{result.arm}, seed {result.seed}: {result.state}: {safe(result.reason)}"
    yield f"{'next':<{LABEL}}{_next(summary, folder)}"


def _measured(summary: Summary) -> str:
    if summary.is_cost:
        return "memory and time of training alone, each run in a process of its own"
    if summary.quality == "consistency":
        return NO_LABELS
    if not summary.book.results:
        return "on training images held out by the seed; no test image is read"
    queries = max((row.means["queries"].value for row in summary.rows if "queries" in row.means), default=0)
    return f"on {queries:,.0f} training images held out by the seed; no test image was read"


def _header(summary: Summary) -> tuple[str, ...]:
    against = f"{QUALITIES[summary.quality]} against {_compared_with(summary)}"
    named = [QUALITIES[name] for name in summary.qualities]
    return ("arm", "labels", *named, against, "time", "machine", "peak", "batch", "epochs", "runs", "paper")


def _compared_with(summary: Summary) -> str:
    """Return the arm that the others are compared with; of several groups what these have in common."""
    firsts = [summary.first_of(group) for group in summary.groups]
    kinds = {kind_of(first) for first in firsts}
    return firsts[0] if len(firsts) == 1 else kinds.pop() if len(kinds) == 1 else "the first with these labels"


def _cells(summary: Summary, row: Row) -> tuple[str, ...]:
    known = [_mean(row.means.get(name)) for name in summary.qualities]
    seconds, peak, epochs = (row.means.get(name) for name in ("seconds", "peak_memory", "epochs"))
    finished = max((row.means[name].n for name in summary.qualities if name in row.means), default=0)
    return (
        row.arm.name,
        _labels(row.arm),
        *known,
        _against(row.against),
        UNKNOWN if seconds is None else format_seconds(seconds.value),
        _machine(row),
        UNKNOWN if peak is None else format_bytes(peak.value),
        f"{row.arm.batch:,}" if row.arm.batch else UNKNOWN,
        UNKNOWN if epochs is None else format_epochs(round(epochs.value, 1)),
        ", ".join(filter(None, (str(finished), row.failed))),
        number(summary.book.asked.name, row.arm.name),
    )


def _cost_cells(row: Row) -> tuple[str, ...]:
    """Format what an arm takes; `plan` marks an arm that does not fit the memory, and was not run."""
    found, how = row.means.get(THOUSAND), "" if row.arm.trained else " (plan)"
    error = "" if found is None or found.error is None else f" ± {found.error:.2f}"
    mode = row.arm.settings.get("hardware", {}).get("mode", UNKNOWN)
    runs = ", ".join(filter(None, (str(found.n if found else 0), row.failed)))
    return (
        row.arm.name, f"{row.thousand:.2f} s{error}{how}", _machine(row), f"{format_bytes(row.peak)}{how}",
        f"{row.arm.batch:,}", mode, runs,
    )  # fmt: skip


def _machine(row: Row) -> str:
    """Format the share of the cores that other programs left to its runs; empty: not known."""
    return percent(row.means[SHARE].value) if SHARE in row.means else ""


def _labels(arm: Planned) -> str:
    """Format how many labels an arm learns from, where it learns from any."""
    return f"{arm.expected['labelled']:,.0f}" if "labelled" in arm.expected else ""


def _mean(found: Mean | None) -> str:
    if found is None:
        return UNKNOWN
    return percent(found.value) + ("" if found.error is None else f" ± {100 * found.error:.1f}")


def _against(found: Difference | None) -> str:
    if found is None:
        return ""
    return points(found) + ("" if found.is_known else ", not distinguishable")


def chart(summary: Summary, width: int = WIDTH) -> Iterator[str]:
    """Yield a line for each arm with its mean, and a standard error on each side of it, on one axis."""
    rows = [row for row in summary.rows if summary.quality in row.means]
    if len(rows) < 2:
        return
    if summary.book.asked.name == "augmentations":
        yield from matrix(summary)
        return
    means = {row.arm.name: row.means[summary.quality] for row in rows}
    ends = [mean.value + sign * (mean.error or 0.0) for mean in means.values() for sign in (-1, 1)]
    low, high = min(ends), max(ends)
    scale = (width - 1) / ((high - low) or 1.0)
    longest = max(map(len, means))
    for name, mean in means.items():
        error = mean.error or 0.0
        left, middle, right = (round((mean.value + sign * error - low) * scale) for sign in (-1, 0, 1))
        strip = ["─" if left <= place <= right else " " for place in range(width)]
        strip[middle] = "●"
        yield f"{name:<{longest}}  {''.join(strip).rstrip()}"
    axis = f"{percent(low)}{QUALITIES[summary.quality]:^{width - 14}}{percent(high)}"
    yield f"{'':<{longest}}  {axis}"
    yield ""


def matrix(summary: Summary) -> Iterator[str]:
    """Yield SimCLR's figure 5 for these images: each pair of operations, single ones on the diagonal."""
    found = {row.arm.name: row.means[summary.quality].value for row in summary.rows if summary.quality in row.means}
    yield f"{'':<8}" + "".join(f"{name:>8}" for name in OPERATIONS)
    for line, first in enumerate(OPERATIONS):
        cells = []
        for second in OPERATIONS[line:]:
            value = found.get(first if first == second else f"{first}{ALONE}{second}")
            cells.append(f"{'' if value is None else f'{100 * value:.1f}':>8}")
        yield f"{first:<8}{'':<{8 * line}}{''.join(cells)}"
    yield ""


def _papers(book: Book) -> Iterator[str]:
    """Yield the numbers of the papers that have some for an arm of this study, or for none in particular."""
    names = {arm.name for arm in book.arms}
    for paper in PAPERS.get(book.asked.name, ()):
        if paper.arms and not names & {*paper.arms} and not paper.others:
            continue
        yield f"{'paper':<{LABEL}}{paper.setting} ({paper.source}); of other images, networks and lengths"
        for words, value in paper.others.items():
            yield f"{'':<{LABEL}}{words}: {value}"


def _fronts(summary: Summary) -> Iterator[str]:
    if summary.book.asked.name != RIVALRY:
        return
    for quality in summary.qualities:
        for cost, words in COSTS.items():
            names = summary.front(cost, quality)
            if names:
                yield f"{'front':<{LABEL}}{QUALITIES[quality]} against {words}: {', then '.join(names)}"


def _next(summary: Summary, folder: Path) -> str:
    book, where = summary.book, shlex.quote(safe(folder))
    if len(book.results) < len(book.turns):
        return f"sslcli study --resume --out {where}"
    ranked = [row for row in summary.rows if summary.quality in row.means and row.arm.place == row.arm.name]
    best = max(ranked, key=lambda row: row.means[summary.quality].value, default=None)
    name = best.arm.name if best else book.arms[0].name
    return f"sslcli export {shlex.quote(safe(run_folder(folder, name, book.asked.seed)))} -o encoder.onnx"


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table: the first column to the left, the others to the right; empty columns are left out."""
    filled = [column for column in range(len(rows[0])) if any(row[column] for row in rows[1:])]
    widths = {column: max(len(row[column]) for row in rows) for column in filled}
    for row in rows:
        cells = [row[c].ljust(widths[c]) if c == 0 else row[c].rjust(widths[c]) for c in filled]
        yield "   ".join(cells).rstrip()


def document(book: Book, folder: Path) -> dict[str, Any]:
    """Return the whole study for a program."""
    summary = Summary(book)
    return {
        "out": str(folder),
        "study": book.asked.name,
        "asked": {"data": book.asked.data, "time": book.asked.time, "seeds": book.asked.all_seeds},
        "equal": book.about.equal,
        "unit": book.about.unit,
        "quality": summary.quality,
        "arms": [_arm(summary, row) for row in summary.rows],
        "runs": [
            {
                "arm": run.arm, "seed": run.seed, "state": run.state, "reason": run.reason, **run.numbers,
                "out": str(run_folder(folder, book.arm(run.arm).place, run.seed)),
            }
            for run in book.results
        ],
        "fronts": {
            f"{quality} against {cost}": summary.front(cost, quality) for quality in summary.qualities for cost in COSTS
        },
        "warnings": warnings(summary),
        "short of compute": [asdict(run) for run in summary.short],
        "papers": [
            {"source": p.source, "setting": p.setting, **p.arms, **p.others} for p in PAPERS.get(book.asked.name, ())
        ],
        "advice": advice(summary),
    }  # fmt: skip


def _arm(summary: Summary, row: Row) -> dict[str, Any]:
    against = row.against
    compared = against and {
        "difference": against.value, "half_interval": against.half, "seeds": against.n,
        "distinguishable": against.is_known,
    }  # fmt: skip
    means: Mapping[str, Any] = {
        name: {"mean": found.value, "standard_error": found.error, "n": found.n} for name, found in row.means.items()
    }
    return {
        "name": row.arm.name, "group": row.arm.group, "start": row.arm.start, "method": row.arm.method,
        "settings": row.arm.differs, "share": row.arm.share,
        "failed": row.failed, "trained": row.arm.trained, "planned": row.arm.expected, **means,
        f"against {summary.first_of(row.arm.group)}": compared,
    }  # fmt: skip
