"""Say what bounds a run and which setting would help most: arithmetic on measured times, without torch."""

from collections.abc import Iterable, Mapping
from typing import Any

from ssl_cli.events import Measured

WORTHWHILE = 1.03  # the least speed-up of a setting that is advised
READING, AUGMENTATION, NETWORK, LOSS, UPDATE = "reading", "augmentation", "network", "loss", "optimiser"
SHARES = {
    READING: "smaller images on the disk, or a faster disk",
    AUGMENTATION: "fewer operations in augment.order or a smaller --image-size, which change the run",
    NETWORK: "a smaller --image-size, --width or --backbone, which change the run",
    LOSS: "a smaller --batch or queue, which change the run",
    UPDATE: "a larger --batch, which changes the run",
}
"""What the time of an image is divided into, and what helps where no setting of the machine does."""
Option = tuple[str, str, float, str]
"""A setting, the share of the time that it would change, the factor on that time, and the source of the factor."""


def spent(seconds: Mapping[str, float], *, overlap: bool) -> dict[str, float]:
    """Return seconds that each share adds to an image's time, largest first; reading may overlap with the rest."""
    computing = sum(seconds.values()) - seconds.get(READING, 0.0) if overlap else 0.0
    added = {name: max(value - computing, 0.0) if name == READING else value for name, value in seconds.items()}
    return dict(sorted(added.items(), key=lambda item: -item[1]))


def advise(
    seconds: Mapping[str, float], options: Iterable[Option], found: Mapping[str, Measured], *, overlap: bool
) -> dict[str, Any]:
    """Return fields of `Advised`: what bounds the run, or the one share in `seconds`, and what would help most."""
    times = spent(seconds, overlap=overlap)
    largest, total = next(iter(times)), sum(times.values())
    whole = {"shares": {name: value / total for name, value in times.items()}, "rate": 1 / total}
    takes = f"{largest.capitalize()} takes {100 * times[largest] / total:.0f} % of the time" if len(times) > 1 else ""
    fields = {"bound": "; ".join(filter(None, (takes, limit(found.get(largest))))), **(whole if takes else {})}
    gains = {}
    for setting, share, factor, why in options:
        changed = {name: value * (factor if name == share else 1) for name, value in seconds.items()}
        gains[setting] = total / sum(spent(changed, overlap=overlap).values()), why
    best, (gain, why) = max(gains.items(), key=lambda item: item[1], default=("", (1.0, "")))
    if gain >= WORTHWHILE:
        advice = f"{best} would help most: about {gain:.2f} times as fast ({why})."
        return {**fields, "setting": best, "gain": gain, "advice": advice}
    tried = f"None of {', '.join(gains)} would gain 3 %; what" if gains else "What"
    return {**fields, "advice": f"{tried} is left is {SHARES[largest]}."}


def limit(found: Measured | None) -> str:
    """Return a clause on how near a part is to the lowest of its limits; empty where none is known."""
    if found is None or found.share is None:
        return ""
    name = {"memory": "the memory bandwidth", "decode": "decoding alone"}.get(found.bound, f"{found.bound} products")
    return f"{found.name} reaches {100 * found.share:.2g} % of what {name} would allow"
