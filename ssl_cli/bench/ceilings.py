"""What this machine can do at most, measured: matrix products, bytes to and from memory, JPEG files decoded."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache

import torch

from ssl_cli.bench.timing import Arm, Rates, alternate
from ssl_cli.data.decode import decode
from ssl_cli.events import Measured
from ssl_cli.world import processors

SMALLEST_MATRIX, LARGEST_MATRIX = 256, {"cpu": 4096}
MATRIX_SECONDS = 0.02
CARD_MATRIX = 8192
ARRAY = {"cpu": 2**27, "cuda": 2**30}
"""Bytes of an array, more than caches hold; three of them are passed over."""
MEMORY = "memory"


class Ceilings:
    """Of one device; each is measured when it is first asked for, and `fresh` keeps what there is to tell of it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.fresh: list[Measured] = []
        self._matrix = cache(self._measure_matrix)
        self._memory = cache(self._measure_memory)

    def told(self) -> Iterator[Measured]:
        """What was measured since this was last asked."""
        found, self.fresh = self.fresh, []
        yield from found

    def matrix(self, precision: str) -> float:
        """Floating-point operations a second of a large matrix product, in `fp32`, `tf32` or `bf16`."""
        return self._matrix(precision)

    def memory(self) -> float:
        """Bytes a second, read and written, by the better of a copy and a triad a + s*b."""
        return self._memory()

    def decode(self, files: Sequence[bytes], cap: int | None, threads: int) -> dict[int, float]:
        """Images a second from these files in memory: on one thread, on so many, and on all processors."""
        counts = sorted({1, threads, processors()})
        with ThreadPoolExecutor(counts[-1]) as pool:
            arms = {count: Arm(len(files), _decoding(pool, files, cap, count)) for count in counts}
            rates = alternate(arms, torch.device("cpu"))
        names = {count: f"decode, {count} thread{'s' * (count > 1)}" for count in counts}
        self._best({names[count]: found for count, found in rates.items()}, "images/s")
        return {count: found.median for count, found in rates.items()}

    def step_precision(self, precision: str) -> str:
        """In what a network multiplies: float32 on a card is TF32."""
        return "tf32" if self.device.type == "cuda" and precision == "fp32" else precision

    def _measure_matrix(self, precision: str) -> float:
        with tensor_float(self.device) if precision == "tf32" else nullcontext():
            size, call = self._large_enough(precision)
            rates = alternate({f"matrix {precision}": Arm(2 * size**3, call)}, self.device)
        return self._best(rates, "FLOP/s")

    def _large_enough(self, precision: str) -> tuple[int, Callable[[], object]]:
        """A product of square matrices that takes a moment."""
        size = CARD_MATRIX if self.device.type != "cpu" else SMALLEST_MATRIX
        while True:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            a, b = (torch.rand(size, size, device=self.device).sub_(0.5).to(dtype) for _ in range(2))
            out = torch.empty_like(a)
            call = lambda: torch.mm(a, b, out=out)  # noqa: B023, E731  (returned or made anew)
            if size >= LARGEST_MATRIX.get(self.device.type, CARD_MATRIX) or _once(call, self.device) > MATRIX_SECONDS:
                return size, call
            size *= 2

    def _measure_memory(self) -> float:
        count = ARRAY.get(self.device.type, ARRAY["cpu"]) // 4
        a, b, c = (torch.ones(count, device=self.device) for _ in range(3))
        arms = {
            "memory copy": Arm(8 * count, lambda: a.copy_(b)),
            "memory triad": Arm(12 * count, lambda: torch.add(b, c, alpha=3.0, out=a)),
        }
        return self._best(alternate(arms, self.device), "B/s")

    def _best(self, rates: dict[str, Rates], unit: str) -> float:
        self.fresh += [found.measured(name, unit, machine=True) for name, found in rates.items()]
        return max(found.median for found in rates.values())


def _decoding(pool: ThreadPoolExecutor, files: Sequence[bytes], cap: int | None, threads: int) -> Callable[[], object]:
    """A call that decodes all files on so many threads of the pool."""

    def part(own: Sequence[bytes]) -> None:
        for data in own:
            decode(data, cap)

    parts = [files[start::threads] for start in range(threads)]
    return lambda: list(pool.map(part, parts))


def busy_elsewhere(seconds: float = 0.3) -> float:
    """Processors that other programs keep busy, looked at for a moment in which this one rests."""
    import psutil

    return psutil.cpu_percent(seconds) / 100 * (os.cpu_count() or 1)


def _once(call: Callable[[], object], device: torch.device) -> float:
    import time

    call()
    wait_for(device)
    began = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - began
