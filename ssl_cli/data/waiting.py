"""What training waits for, the disk, decoding or the augmentation, and the setting that would change it."""

import threading
from collections.abc import Mapping

from ssl_cli.events import BOTTLENECK, Warned

DISK, DECODE, AUGMENTATION = "disk", "decode", "augmentation"
TIMES_IN_A_ROW = 3
"""Reports of a bottleneck after which it is warned of, once."""
SLOW_VIEWS = 0.3
"""Share of the time in making views, on the CPU that trains, from which on it is warned of."""


class ReadTimes:
    """Add up the seconds of all threads in reading bytes and in decoding them."""

    def __init__(self) -> None:
        self._lock, self.disk, self.decode = threading.Lock(), 0.0, 0.0

    def add(self, disk: float = 0.0, decode: float = 0.0) -> None:
        """Add the seconds of an image."""
        with self._lock:
            self.disk, self.decode = self.disk + disk, self.decode + decode


class WaitWatch:
    """Find what steps wait for, from one report to the next.

    Args:
        times: of reading the images; None: they are in memory, where only drawing or copying takes time.
        cache: the setting `data.cache`.
        threads: that decode.
        caches: whether the images are decoded in the first epoch alone.
    """

    def __init__(self, times: ReadTimes | None, cache: str, threads: int, *, caches: bool) -> None:
        self.times, self.cache, self.threads, self.caches = times, cache, threads, caches
        self._before, self._met, self._warned = (0.0, 0.0), 0, False

    def shares(self, wait: float, views: float) -> dict[str, float]:
        """Split the share of time waited for images by what their reading took since the last call; add that of views.

        Args:
            wait: share of the time in waiting for images.
            views: share of the time in making views; 0 where a GPU makes them.
        """
        now = (self.times.disk, self.times.decode) if self.times else (0.0, 0.0)
        disk, decode = (after - before for after, before in zip(now, self._before, strict=True))
        self._before = now
        part = disk / (disk + decode) if disk + decode > 0 else 0.0
        return {DISK: wait * part, DECODE: wait * (1 - part), AUGMENTATION: views}

    def warning(self, step: int, epoch: float, shares: Mapping[str, float]) -> Warned | None:
        """Return a warning of a bottleneck that lasts, once; None: there is none, or it ends with the first epoch."""
        cause = max(shares, key=lambda name: shares[name])
        least = SLOW_VIEWS if cause == AUGMENTATION else BOTTLENECK
        passing = self.caches and epoch <= 1 and cause != AUGMENTATION
        self._met = self._met + 1 if shares[cause] > least and not passing else 0
        if self._warned or self._met < TIMES_IN_A_ROW:
            return None
        self._warned = True
        share = f"{100 * shares[cause]:.0f} %"
        once = "" if self.cache in ("ram", "disk") else "--set data.cache=ram, or disk where they do not fit, "
        words = {
            DISK: (
                f"Steps wait {share} of their time for images, most of it for the disk.",
                f"{once}{'reads each image once; ' if once else ''}more --threads than {self.threads} read more at "
                "once, and a faster disk helps.",
            ),
            DECODE: (
                f"Steps wait {share} of their time for images, most of it for decoding them.",
                f"{once}{'decodes each image once; ' if once else ''}more --threads than {self.threads} help where "
                "there are more processors.",
            ),
            AUGMENTATION: (
                f"Making views takes {share} of the time.",
                "A smaller --image-size or fewer operations in augment.order help; sslcli bench augment measures it.",
            ),
        }
        return Warned(step=step, message=words[cause][0], hint=words[cause][1], about="bottleneck")
