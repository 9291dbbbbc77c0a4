"""Format text for terminals: escaped strings, numbers, curves of one line."""

import math
import os
import re
from collections.abc import Sequence

from ssl_cli.names import shown

BARS = "▁▂▃▄▅▆▇█"


def safe(text: object) -> str:
    """Return the text on one line, control characters escaped, paths below the current folder relative to it."""
    return shown(_near(str(text)), limit=2000)


def _near(text: str) -> str:
    try:
        here = os.getcwd()  # noqa: PTH109
    except OSError:  # it was deleted
        return text
    if here == os.sep or here not in text:
        return text
    return re.sub(rf"(?<![^\s'\"(=]){re.escape(here + os.sep)}(?=[^\s/-])", "", text)


def percent(share: float) -> str:
    """Format 0.8123 as `81.2 %`."""
    return f"{100 * share:.1f} %"


def per_step(seconds: float) -> str:
    """Format a step time: `2.00 s`, `120 ms`."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def rate(per_second: float) -> str:
    """Format images per second: `812`, `12,345`, `3.2`."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def sparkline(values: Sequence[float], width: int) -> str:
    """Draw the values as at most `width` bars, each the mean of as many values; non-finite ones are gaps."""
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    bins = [values[i * len(values) // count : (i + 1) * len(values) // count] for i in range(count)]
    means = [_mean([value for value in part if math.isfinite(value)]) for part in bins]
    known = [mean for mean in means if mean is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(" " if mean is None else BARS[round((mean - low) * scale)] for mean in means)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
