"""Images from files: the run's loader, without and with images in memory, against a plain DataLoader with Pillow."""

import multiprocessing
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from ssl_cli.bench.advice import READING, Option
from ssl_cli.bench.ceilings import MEMORY
from ssl_cli.bench.part import Part
from ssl_cli.bench.subject import Subject
from ssl_cli.bench.timing import Arm, Rates, alternate
from ssl_cli.data.decode import decode
from ssl_cli.data.folder import Files
from ssl_cli.data.loader import Loader, cap_for
from ssl_cli.data.source import BatchedSource, Source
from ssl_cli.engine.plan import memory, plan
from ssl_cli.errors import DataError
from ssl_cli.names import shown

FEWEST, MOST = 32, 512
SECONDS = 0.4
"""That reading the files once should take."""
BATCH = 64
QUALITY = 90
ROOM = 0.5
"""Of the free memory, what decoded images may be advised to take."""


class Pictures(Dataset[Tensor]):
    """Files as a tutorial reads them."""

    def __init__(self, paths: Sequence[str], cap: int) -> None:
        self.paths, self.cap = paths, cap

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as picture:
            pixels: Tensor = pil_to_tensor(picture.convert("RGB"))
        small: Tensor = resize(pixels, [self.cap]) if min(pixels.shape[1:]) > self.cap else pixels
        return small


def loader(subject: Subject) -> Part:
    """Images a second."""
    cap = cap_for(subject.settings.data.size)
    with tempfile.TemporaryDirectory() as place:
        files, made = _files(subject, cap, Path(place))
        data = [Path(path).read_bytes() for path in files.paths]
        decoding = subject.ceilings.decode(data, cap, subject.threads)
        batch = min(BATCH, subject.settings.run.batch, len(files))
        whole = len(files) // batch * batch
        fresh, held = (
            Loader(files, batch, 0, threads=subject.threads, cache=policy, cap=cap) for policy in ("none", "ram")
        )
        arms = {"files": Arm(whole, lambda: _epoch(fresh)), "memory": Arm(whole, lambda: _epoch(held))}
        notes = []
        with _plain(files.paths, batch, cap, subject.threads) as tutorial:
            try:
                deque(tutorial, maxlen=0)
                arms["plain"] = Arm(whole, lambda: deque(tutorial, maxlen=0))
            except (RuntimeError, OSError) as error:  # too little shared memory, as in some containers
                notes.append(f"a DataLoader's workers cannot run here: {shown(str(error).strip())}")
            rates = alternate(arms, torch.device("cpu"))
        # images of many sizes are handed on as they are, and nothing is copied
        even = isinstance(next(held.batches(0, 1)).image, Tensor)
        size = sum(files.read(k, cap).numel() for k in range(FEWEST)) / FEWEST
    plain: Any = {"reference": rates.get("plain"), "against": "DataLoader with Pillow"}
    ceiling = {"decode": max(decoding[1], decoding[subject.threads])}
    copying = {MEMORY: subject.ceilings.memory() / (2 * size)} if even else {}
    told = (
        rates["files"].measured("loader", "images/s", bounds=ceiling, **plain),
        rates["memory"].measured("cached", "images/s", bounds=copying, **plain),
    )
    if made:
        name = subject.job.loader.source.name
        notes.append(f"{name} has no files; the loader read {len(files)} of its images as JPEG files")
    return Part(told, *_reading(subject, rates, decoding, made, size), tuple(notes))


def _reading(
    subject: Subject, rates: dict[str, Rates], decoding: dict[int, float], made: bool, size: float
) -> tuple[dict[str, float], tuple[Option, ...]]:
    """Seconds an image on average over the run, and what would change them."""
    settings, source = subject.settings, subject.job.loader.source
    fresh, held = (1 / _own_rate(source) if made else 1 / rates["files"].median), 1 / rates["memory"].median
    room = {"ram": float("inf"), "none": 0.0}.get(
        settings.data.cache, plan.cache_bytes(settings, subject.objective, subject.device)
    )
    epochs, whole = settings.schedule.epochs, size * len(source)
    fits = whole <= room
    options = []
    with_cache = (fresh + (epochs - 1) * held) / epochs
    if not fits and whole <= ROOM * memory.available():
        why = f"all images decoded are {whole / 1e9:.1f} GB"
        options.append(Option("--set data.cache=ram", READING, with_cache / fresh, why))
    if not made:
        here = decoding[subject.threads]
        options += [
            Option(f"--threads {count}", READING, here / rate, f"measured: it decodes {rate / here:.2f} times as fast")
            for count, rate in decoding.items()
            if count != subject.threads
        ]
    return {READING: with_cache if fits else fresh}, tuple(options)


def _own_rate(source: Source) -> float:
    """Images a second from a source that is not made of files."""
    wanted = torch.arange(min(len(source), 256))

    def read() -> object:
        return (
            source.read_many(wanted) if isinstance(source, BatchedSource) else [source.read(k) for k in wanted.tolist()]
        )

    return alternate({"own": Arm(len(wanted), read)}, torch.device("cpu"))["own"].median


def _epoch(images: Loader) -> None:
    for _ in images.batches(0, images.steps_per_epoch):
        pass


def _files(subject: Subject, cap: int, place: Path) -> tuple[Files, bool]:
    """Files of the run's own that can be read, or else its images as JPEG files, and whether it is these.

    As many as are read in a moment; where there are few, they come more than once.

    Raises:
        DataError: none of those looked at can be read.
    """
    source = subject.job.loader.source
    wanted = torch.linspace(0, len(source) - 1, min(MOST, len(source))).long().tolist()
    made = isinstance(source, BatchedSource) or not Path(source.path(0)).is_file()
    paths: list[str] = []
    began = time.perf_counter()
    for number in wanted:
        if len(paths) >= FEWEST and time.perf_counter() - began > SECONDS * subject.threads:
            break
        try:
            paths.append(_written(source.read(number), place / f"{number}.jpg") if made else source.path(number))
            decode(Path(paths[-1]), cap)
        except DataError:
            paths.pop()
    if not paths:
        raise DataError(f"None of {len(wanted)} images of {shown(source.name)} can be read.")
    paths *= -(-FEWEST // len(paths)) if len(paths) < FEWEST else 1
    return Files(source.name, paths, torch.full((len(paths),), -1), ()), made


def _written(image: Tensor, path: Path) -> str:
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(path, quality=QUALITY)
    return str(path)


@contextmanager
def _plain(paths: Sequence[str], batch: int, cap: int, workers: int) -> Iterator[DataLoader[Tensor]]:
    """The loader of a tutorial with as many worker processes as the run has threads; they end with the block."""
    clean = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    loader = DataLoader(
        Pictures(paths, cap), batch, shuffle=True, num_workers=workers, collate_fn=list, drop_last=True,
        persistent_workers=workers > 0, multiprocessing_context=clean if workers else None,
    )  # fmt: skip
    try:
        yield loader
    finally:
        if loader._iterator is not None and workers:
            loader._iterator._shutdown_workers()  # type: ignore[attr-defined]
