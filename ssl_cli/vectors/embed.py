"""A vector for each image of a data set, by the encoder of a run, into one file."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_cli import distributed
from ssl_cli.config.images import refuse_among_images, with_data
from ssl_cli.config.tree import Settings
from ssl_cli.data.bad import require_few
from ssl_cli.data.fingerprint import record_of
from ssl_cli.data.source import Source, groups_of
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.evaluation.features import Encoder, Trained, encode, open_run
from ssl_cli.errors import DivergedError, NothingReadError
from ssl_cli.events import Encoded, Evaluated, Event, Skipped, Warned
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.objective import device_of
from ssl_cli.registry import H, Z
from ssl_cli.vectors.partial import PartialVectors
from ssl_cli.vectors.ranks import Part, agreed, gathered, joined
from ssl_cli.vectors.request import check
from ssl_cli.vectors.write import write_vectors

PART = 1024
"""Images that are encoded before their rows are synced to the disk: what a crash costs at most."""


def embed(
    run: str, output: Path, data: str | tuple[str, ...] | None = None, *, feature: str = H, l2: bool = False,
    half: bool = False, limit: int | None = None, device: str = "auto", method: str | None = None,
    machine: Mapping[str, Any] | None = None,
) -> Iterator[Event]:  # fmt: skip
    """Write a row of h or z for each image, in the order of the images; the last event is `Evaluated` named `embed`.

    Several ranks encode parts in turns, into the file that one would write; rank 0 alone yields events. Stopped at any
    point, the same call continues where it was, with any number of ranks; until `output` is written, its rows are in
    its folder.

    Args:
        run: run folder or checkpoint file.
        output: `.npy`, `.csv`, `.parquet` or `.safetensors`; replaced when all rows are there.
        data: the images, labelled or not; None: those that the run was trained on.
        feature: `h`, the output of the backbone, or `z`, the projector's output of unit length.
        l2: divide rows by their length.
        half: write float16 in place of float32.
        limit: use the first so many images of each class.
        device: where to compute.
        method: the run's method again, if it is the user's own.
        machine: as for `knn_eval`.

    Raises:
        SslcliError: no such run or images, rows that are not finite, or a disk that cannot be written.
    """
    check(output)
    with joined(device) as own:
        trained = open_run(run, own, method, projector=feature == Z)
        settings = with_data(trained.settings, data, None, limit, machine)
        refuse_among_images(output, *settings.data.folders)
        source = open_images(settings)
        identity = identity_of(trained, settings, source, feature, l2=l2, half=half)
        with evaluating(trained.objective):
            if distributed.rank():
                rows = append_rows(None, trained, settings, source, feature, agreed(identity, 0), l2=l2, half=half)
                deque(rows, maxlen=0)
                return
            yield from (Warned(step=trained.step, message=note) for note in trained.notes)
            width = width_of(trained, settings, feature)
            with PartialVectors(output, identity, width, "<f2" if half else "<f4") as vectors:
                start = vectors.next_index // PART * PART  # a part has the same images in any process
                vectors.cut(start)
                began, before = time.monotonic(), len(vectors)
                start = agreed(identity, start)
                yield from append_rows(vectors, trained, settings, source, feature, start, l2=l2, half=half)
                seconds, made = time.monotonic() - began, len(vectors) - before
                files = write_vectors(output, vectors, *columns_of(source), identity)
                result = {
                    "path": str(output), "files": [str(file) for file in files], "images": len(vectors), "width": width,
                    "feature": feature, "l2": l2, "dtype": "float16" if half else "float32", "data": source.name,
                    "unreadable": len(source) - len(vectors), "continued_at": before, "seconds": seconds,
                    "rate": made / max(seconds, 1e-9), "step": trained.step,
                }  # fmt: skip
                vectors.remove()
    yield Evaluated(step=trained.step, name="embed", result=result)


def open_images(settings: Settings) -> Source:
    """Open the images of the settings, all of them: the labels of a fine-tuned run choose among its images."""
    images = settings.data.model_copy(update={"labels": None, "labels_sha256": None, "unlabelled": False})
    return open_pretraining(images, settings.run.seed)


def identity_of(
    trained: Trained, settings: Settings, source: Source, feature: str, *, l2: bool = False, half: bool = False
) -> dict[str, Any]:
    """Return what determines the rows: the checkpoint, what is computed, and the images."""
    return {
        "checkpoint": trained.sha256, "feature": feature, "l2": l2, "half": half, "size": settings.data.size,
        "precision": trained.precision, "images": [source.name, len(source), record_of(source).fingerprint],
    }  # fmt: skip


def encoder_of(trained: Trained, feature: str) -> Encoder:
    """Return the function from images to rows of h or z."""
    return trained.objective if feature == Z else trained.objective.represent


@torch.no_grad()
def width_of(trained: Trained, settings: Settings, feature: str) -> int:
    """Return how many numbers a row has; the objective is in evaluation mode."""
    side, place = settings.data.size, device_of(trained.objective)
    return encoder_of(trained, feature)(torch.zeros(1, settings.data.channels, side, side, device=place)).shape[1]


def append_rows(
    vectors: PartialVectors | None, trained: Trained, settings: Settings, source: Source, feature: str, start: int = 0,
    *, l2: bool = False, half: bool = False,
) -> Iterator[Event]:  # fmt: skip
    """Append a row of each image from number `start` on; yield the events of `encode_parts`.

    On ranks above 0 `vectors` is None: what they encode is appended by rank 0.

    Raises:
        SslcliError: as `embed`.
    """

    def keep(index: Tensor, rows: Tensor) -> None:
        assert vectors is not None
        vectors.append(index.numpy(), rows.numpy())

    finish, left = partial(finished, l2=l2, half=half), torch.arange(start, len(source))
    yield from encode_parts(keep, trained, settings, source, feature, left, finish, done=start)


def encode_parts(
    keep: Callable[[Tensor, Tensor], object], trained: Trained, settings: Settings, source: Source, feature: str,
    chosen: Tensor, finish: Callable[[Tensor], Tensor], *, done: int = 0,
) -> Iterator[Event]:  # fmt: skip
    """Encode images in their order, a part at a time on each rank; yield `Encoded` before each round, and `Skipped`.

    Args:
        keep: called on rank 0 with the images of a part that could be read, int64 `(M,)`, and their rows `(M,F)`.
        trained: the run; its objective is in evaluation mode.
        settings: of the images.
        source: of the images.
        feature: `h` or `z`.
        chosen: the images, int64 `(N,)`, in ascending order.
        finish: converts rows to what is kept.
        done: images that were encoded before.

    Raises:
        DataError: too many images cannot be read.
    """
    place, encoder = device_of(trained.objective), encoder_of(trained, feature)

    def encoded(images: Tensor) -> Part:
        try:
            part = encode(
                {H: encoder}, source, settings, device=place, precision=trained.precision, indices=images
            )  # fmt: skip
        except NothingReadError:
            return Part(images, images[:0], torch.empty(0))
        return Part(images, part.index, finish(part.h[H]))

    bad = 0
    parts = torch.split(chosen, PART) if len(chosen) else ()
    for first in range(0, len(parts), distributed.world_size()):
        yield Encoded(step=trained.step, done=done + first * PART, of=done + len(chosen))
        own = first + distributed.rank()
        for part in gathered(encoded(parts[own]) if own < len(parts) else None):
            if len(part.index):
                keep(part.index, part.rows)
            for index in sorted({*part.images.tolist()} - {*part.index.tolist()}):
                yield Skipped(step=trained.step, path=source.path(index), reason="it cannot be read")
            bad += len(part.images) - len(part.index)
            require_few(bad, done + len(chosen), source.name)


def named(source: Source, index: int) -> tuple[str, str]:
    """Return the path and the label, empty where there is none, of an image."""
    label = int(source.labels[index])
    return source.path(index), source.classes[label] if label >= 0 else ""


def columns_of(source: Source) -> tuple[tuple[str, ...], Callable[[int], tuple[str, ...]]]:
    """Return what is written next to the numbers: names of the columns, and from an image to their words.

    That is path and label, and where images have groups the group, empty where an image has none.
    """
    groups = groups_of(source)
    if groups is None:
        return ("path", "label"), partial(named, source)
    names = (*groups.names, "")  # the last one is for -1
    return ("path", "label", "group"), lambda index: (*named(source, index), names[int(groups.of[index])])


def finished(rows: Tensor, *, l2: bool = False, half: bool = False) -> Tensor:
    """Return the rows as they are written.

    Raises:
        DivergedError: one is not finite, in float16 if that is asked for.
    """
    rows = F.normalize(rows) if l2 else rows
    rows = rows.half() if half else rows
    if not bool(rows.isfinite().all()):
        hint = "Give an earlier checkpoint file as RUN."
        raise DivergedError("The representation is not finite.", f"Leave out --half. Or: {hint}" if half else hint)
    return rows
