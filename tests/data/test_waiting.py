"""What steps wait for is found by what reading took, and named once, with the setting to change."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from ssl_cli.data.disk_cache import DiskCache
from ssl_cli.data.waiting import AUGMENTATION, DECODE, DISK, ReadTimes, WaitWatch
from ssl_cli.events import Warned
from tests.data.files import open_folder
from tests.data.pictures import folder
from tests.ui.events import stepped


class Clock:
    """Seconds that pass as each call says."""

    def __init__(self, *steps: float) -> None:
        self.steps, self.now = list(steps), 0.0

    def __call__(self) -> float:
        self.now += self.steps.pop(0)
        return self.now


def test_reading_and_decoding_are_timed_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_folder(folder(tmp_path, {"a": 3}))
    monkeypatch.setattr(time, "perf_counter", Clock(0, 5, 2, 100, 1, 3, 0, 4, 9))
    source.read(0)
    assert (source.times.disk, source.times.decode) == (5, 2)
    source.read(1)
    assert (source.times.disk, source.times.decode) == (6, 5)
    monkeypatch.undo()
    cached = DiskCache(source, tmp_path / "cache", 8)
    cached.read(0, 8)
    decode = source.times.decode
    assert decode > 5
    cached.read(0, 8)
    assert source.times.decode == decode, "read from disk, not decoded"
    assert source.times.disk > 6


def test_the_wait_is_split_by_what_reading_took_since() -> None:
    times = ReadTimes()
    watch = WaitWatch(times, "auto", 2, caches=False)
    times.add(disk=30.0, decode=10.0)
    assert watch.shares(0.4, 0.2) == pytest.approx({DISK: 0.3, DECODE: 0.1, AUGMENTATION: 0.2})
    times.add(decode=7.0)
    assert watch.shares(0.4, 0.0) == pytest.approx({DISK: 0.0, DECODE: 0.4, AUGMENTATION: 0.0})
    assert watch.shares(0.0, 0.0)[DECODE] == 0


def warnings(watch: WaitWatch, *shares: tuple[float, dict[str, float]]) -> list[tuple[int, Warned]]:
    found = [watch.warning(step, epoch, given) for step, (epoch, given) in enumerate(shares, 1)]
    return [(step, warned) for step, warned in enumerate(found, 1) if warned]


def at(epoch: float, disk: float = 0.0, decode: float = 0.0, views: float = 0.0) -> tuple[float, dict[str, float]]:
    return epoch, {DISK: disk, DECODE: decode, AUGMENTATION: views}


def test_a_bottleneck_that_lasts_is_named_once_with_what_to_change() -> None:
    ((step, warned),) = warnings(WaitWatch(None, "auto", 2, caches=False), *[at(0.1, decode=0.34)] * 8)
    assert (step, warned.step, warned.about) == (3, 3, "bottleneck")
    assert warned.message == "Steps wait 34 % of their time for images, most of it for decoding them."
    assert "--set data.cache=ram, or disk" in warned.hint
    assert "more --threads than 2" in warned.hint
    ((_, warned),) = warnings(WaitWatch(None, "disk", 2, caches=True), *[at(1.5, disk=0.2, decode=0.1)] * 8)
    assert "most of it for the disk" in warned.message
    assert "data.cache" not in warned.hint
    ((_, warned),) = warnings(WaitWatch(None, "auto", 2, caches=True), *[at(0.5, views=0.31)] * 8)
    assert warned.message == "Making views takes 31 % of the time."


@pytest.mark.parametrize(("caches", "shares"), [
    (False, [at(3, decode=0.1, disk=0.09)] * 9),  # little
    (False, [at(3, decode=0.5), at(3, decode=0.5), at(3)] * 3),  # now and then
    (True, [at(1.0, decode=0.9)] * 9),  # the first epoch decodes for all
    (False, [at(3, views=0.3)] * 9),
])  # fmt: skip
def test_what_passes_or_costs_little_is_not_warned_of(
    caches: bool, shares: list[tuple[float, dict[str, float]]]
) -> None:
    assert warnings(WaitWatch(None, "auto", 2, caches=caches), *shares) == []


def test_an_event_names_its_bottleneck_above_a_tenth() -> None:
    event = stepped(5)
    assert (event.bottleneck, event.slow_views) == ("", 0.0)
    waits = {"disk": 0.2, "decode": 0.1, "augmentation": 0.4}
    event = replace(event, data_wait=0.3, waits=waits)
    assert (event.bottleneck, event.slow_views) == ("disk", 0.4)
    assert replace(event, data_wait=0.1).bottleneck == ""
