"""What follows from a study: which arm to take, what would distinguish two, and what to warn of, in sentences."""

from collections.abc import Sequence

from ssl_cli.config.units import format_bytes, format_seconds, format_time
from ssl_cli.study.statistics import Difference
from ssl_cli.study.summary import QUALITIES, RIVALRY, Row, Summary


def warnings(summary: Summary) -> list[str]:
    """Return a sentence on the arms that had less compute than others where time counts, if there are any."""
    arms = dict.fromkeys(run.arm for run in summary.short)
    if not arms:
        return []
    worst = min(summary.short, key=lambda run: run.had / run.most)
    of = "the cores" if summary.is_cost else "what the given time is worth on an idle machine"
    return [
        f"The machine was busy: {', '.join(arms)} had less compute than other arms of the same seed "
        f"({worst.arm}, seed {worst.seed}: {worst.had:.0%} of {of}, against {worst.most:.0%}). "
        "Run the study again with another --out while nothing else runs."
    ]


def advice(summary: Summary) -> str:
    """Return one sentence or two: which arm suits these images on this machine, or what would distinguish them.

    Of arms in groups there is a line for each group.
    """
    if summary.is_cost:
        return _costs(summary)
    said = {group: _advice(summary, group).strip() for group in summary.groups}
    return "\n".join(f"{group[0].upper()}{group[1:]}: {words}" if group else words for group, words in said.items())


def _advice(summary: Summary, group: str) -> str:
    """Return the advice on the arms of a group."""
    best = _best(summary, group)
    if not best:
        return "No run has a result." if summary.book.results else "No run has ended yet."
    if len(best) == 1:
        return f"Only {best[0].arm.name} has a result: there is nothing to compare it with."
    one, two = best[0].arm.name, best[1].arm.name
    if {one, two} & {run.arm for run in summary.short}:
        return f"{one} and {two} are not comparable: they did not have the same compute, see the warning."
    found = summary.difference(one, two)
    if found is not None and found.value < 0:  # on the seeds that both have, the other one is better
        one, two = two, one
        found = summary.difference(one, two)
    if found is None:
        return f"{one} has the best {QUALITIES[summary.quality]} so far; runs to compare it with are missing."
    if found.half is None:
        return f"One seed distinguishes no arms. {one} is {points(found)} points above {two} on it; pass --seeds 3."
    how = f"{points(found)} points of {QUALITIES[summary.quality]} (95 % interval, {found.n} seeds)"
    if found.is_known:
        return f"On these images and this machine take {one}: {how} above {two}. {_price(best[:2])}"
    return f"{one} and {two} are not distinguishable here: {how}. {_more(summary, found)}"


def _costs(summary: Summary) -> str:
    """Return what each arm takes in time an image and in memory, as a multiple of what the first one takes."""
    first, *others = summary.rows
    words = []
    for row in others:
        seconds, peak = row.thousand / first.thousand, row.peak / first.peak
        planned = "" if row.arm.trained and first.arm.trained else " (plan)"
        if {row.arm.name, first.arm.name} & {run.arm for run in summary.short}:
            planned += " (not comparable: the machine was busy)"
        words.append(f"{row.arm.name} {seconds:.2f} times the time and {peak:.2f} times the memory{planned}")
    return f"Against {first.arm.name}: {'; '.join(words)}."


def _best(summary: Summary, group: str) -> list[Row]:
    """Return arms, best first: in a rivalry the best one of each method, of those that had all of the time."""
    of_group = [row for row in summary.rows if row.arm.group == group]
    rows = [row for row in of_group if summary.quality in row.means and not row.failed]
    ranked = sorted(rows, key=lambda row: -row.means[summary.quality].value)
    if summary.book.asked.name != RIVALRY:
        return ranked
    best, full = dict[str, Row](), max(arm.share for arm in summary.book.arms)
    for row in ranked:
        if row.arm.share == full:
            best.setdefault(row.arm.method, row)
    return list(best.values())


def _price(rows: Sequence[Row]) -> str:
    words = []
    for row in rows:
        seconds, peak = row.cost.get("seconds"), row.cost.get("peak_memory")
        if seconds is not None and peak is not None:
            words.append(f"{row.arm.name} takes {format_seconds(seconds)} a run and {format_bytes(peak)}")
    return f"{', '.join(words)}." if words else ""


def _more(summary: Summary, found: Difference) -> str:
    seeds, asked = found.seeds_needed, summary.book.asked
    if seeds is None:
        return "If the difference is what it seems, not even 100 seeds would show it: take whichever is cheaper."
    seeds = max(seeds, found.n + 1)
    budget = f"--time {format_time(asked.time * seeds / asked.seeds)} --seeds {seeds}"
    return f"If the difference is what it seems, about {seeds} seeds would show it: {budget}."


def points(found: Difference) -> str:
    """Format a difference in points, with its interval."""
    half = "" if found.half is None else f" ± {100 * found.half:.1f}"
    return f"{100 * found.value:+.1f}{half}"
