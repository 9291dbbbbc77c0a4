"""Parse and format amounts: `8GB` of memory, `10m` of time."""

import math
import re
from typing import Annotated

from pydantic import BeforeValidator

from ssl_cli.names import shown

_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def _amount(value: object, units: dict[str, int], example: str) -> object:
    if not isinstance(value, str):
        return value
    if "" not in units and re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        number = shown(value.strip(), 40)
        raise ValueError(f"'{number}' has no unit, write it like {number}m or {number}s")
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"cannot read '{shown(value, 40)}' as an amount, write it like {example}")
    amount = float(match[1]) * units[match[2].lower()]
    if not math.isfinite(amount):
        raise ValueError("that is too much")
    return amount


def parse_bytes(value: object) -> object:
    """Return the bytes in `8GB`, `512MiB` or a plain number, and anything but a string as it is."""
    amount = _amount(value, _BYTES, "8GB")
    return int(amount) if isinstance(amount, float) else amount


def parse_seconds(value: object) -> object:
    """Return the seconds in `90s`, `10m`, `2h`, and anything but a string as it is: a number is seconds."""
    return _amount(value, _SECONDS, "10m")


def format_bytes(count: float) -> str:
    """Format as `532 MB`, `3.2 GB`, `12.3 GB`: decimal units, one decimal below 100."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit in {"B", "kB"} or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_seconds(seconds: float) -> str:
    """Format as `4 s`, `3 min 20 s`, `2 h 05 min`, `47 days 1 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 2 * 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400:,} days {whole % 86400 // 3600} h"


def format_time(seconds: float) -> str:
    """Format as a setting is written, rounded up: `45s`, `20m`, `5h`."""
    unit, size = next(((unit, size) for unit, size in (("s", 1), ("m", 60)) if seconds <= 60 * size), ("h", 3600))
    return f"{math.ceil(seconds / size)}{unit}"


def format_epochs(epochs: float) -> str:
    """Format as `1,200`, `2.5`, `0.04`: a whole number without a fraction."""
    if epochs == int(epochs):
        return f"{int(epochs):,}"
    return f"{epochs:,.1f}" if epochs >= 1 else f"{epochs:.2g}"


Bytes = Annotated[int, BeforeValidator(parse_bytes)]
Seconds = Annotated[float, BeforeValidator(parse_seconds)]
