"""Images nearest to one, and near-duplicates in a set, by the cosine similarity of their rows; exact."""

import tempfile
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_cli.augment.sheet import tile_side
from ssl_cli.config.images import refuse_among_images, with_data
from ssl_cli.config.tree import Settings
from ssl_cli.data.folder import Files, of_paths
from ssl_cli.data.search import closest_path
from ssl_cli.engine.evaluation.features import Trained, encode, open_run
from ssl_cli.errors import DataError, ResourceError
from ssl_cli.events import Encoded, Evaluated, Event, Warned
from ssl_cli.names import expanded, is_file, is_there, kind_of, shown
from ssl_cli.nn.evaluating import evaluating
from ssl_cli.objective import device_of
from ssl_cli.registry import H, Z
from ssl_cli.vectors.embed import append_rows, encoder_of, finished, identity_of, open_images, width_of
from ssl_cli.vectors.partial import PartialVectors
from ssl_cli.vectors.request import Search
from ssl_cli.vectors.search import Pairs, nearest, similar_pairs, typical_similarity
from ssl_cli.vectors.sheets import MOST, lines_of, lines_of_pairs, tile_of, write_sheet
from ssl_cli.vectors.stored import VectorSet, find, made_now, read_stored

MOST_PAIRS = 10_000
"""Pairs that are listed; all are counted."""


@dataclass(frozen=True)
class _Opened:
    """The run of a request, and the settings by which its images are read."""

    trained: Trained
    settings: Settings

    @property
    def device(self) -> torch.device:
        return device_of(self.trained.objective)


def neighbors(asked: Search, image: str, k: int = 10) -> Iterator[Event]:
    """Find the k images of a set that are nearest to one; the last event is `Evaluated` named `neighbors`.

    An image of the set is left out of its own neighbours. A `Pictured` shows it and the nearest.

    Args:
        asked: the run and the set.
        image: a file, or the name of an image in the set.
        k: neighbours; the set may have fewer.

    Raises:
        SslcliError: no such run, images or image, vectors of another run, rows that are not finite, or no room.
    """
    opened = _open(asked)
    yield from _notes(opened)
    with evaluating(opened.trained.objective), tempfile.TemporaryDirectory() as folder:
        images = yield from _images(asked, opened, Path(folder), image)
        began, own = time.monotonic(), images.find(image)
        alone = None if own is not None else _alone(image, opened)
        query = torch.from_numpy(images.rows[own].copy()) if alone is None else _encoded(alone, asked, opened, images)
        similarity, rows = nearest(images.rows, query, k, without=own, device=opened.device)
        names = images.named(rows.tolist())
        found = [
            {"rank": rank, "similarity": value, "path": path, "label": label or None}
            for rank, (value, (path, label)) in enumerate(zip(similarity.tolist(), names, strict=True), 1)
        ]
        result = {
            "query": image, "in_set": own is not None, "neighbors": found, **_facts(asked, opened, images),
            "seconds": time.monotonic() - began,
        }  # fmt: skip
        side = tile_side(opened.settings.data.size)
        first = tile_of(
            "query", image, None, lambda: images.read(own or 0, image, side) if alone is None else alone.read(0, side)
        )
        tiles = [
            tile_of(f"{one['rank']}   {one['similarity']:.3f}", one["path"], one["label"],
                    partial(images.read, row, one["path"], side))
            for row, one in zip(rows.tolist()[:MOST], found, strict=False)
        ]  # fmt: skip
        lines = lines_of(first, tiles, image)
        yield lines[0]
        if asked.sheet is not None:
            title = f"nearest of {len(images.rows):,} images of {shown(images.name, 100)}, by {asked.feature}"
            write_sheet(asked.sheet, title, lines, side)
    yield Evaluated(step=opened.trained.step, name="neighbors", result=result)


def duplicates(asked: Search, above: float = 0.98) -> Iterator[Event]:
    """List the pairs of images of a set that are at least so similar; the last event is `Evaluated` named `duplicates`.

    All are counted, and the `MOST_PAIRS` most similar ones listed.

    Args:
        asked: the run and the set.
        above: the smallest cosine similarity of a pair.

    Raises:
        SslcliError: as `neighbors`.
    """
    opened = _open(asked)
    yield from _notes(opened)
    with evaluating(opened.trained.objective), tempfile.TemporaryDirectory() as folder:
        images = yield from _images(asked, opened, Path(folder))
        began, found = time.monotonic(), Pairs(0, 0, torch.empty(0, dtype=torch.bool))
        for found in similar_pairs(images.rows, above, MOST_PAIRS, opened.device):
            yield Encoded(step=opened.trained.step, done=found.done, of=len(images.rows))
        places = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
        wanted = sorted({row for place in places for row in place})
        names = dict(zip(wanted, images.named(wanted), strict=True))
        pairs = [
            {"similarity": value, "first": names[one][0], "second": names[other][0],
             "labels": [names[row][1] or None for row in (one, other)]}
            for value, (one, other) in zip(found.similarity.tolist(), places, strict=True)
        ]  # fmt: skip
        facts = _facts(asked, opened, images)
        result = {
            "above": above, "pairs": pairs, "count": found.count, "paired": int(found.paired.sum()), **facts,
            "sheet": facts["sheet"] if pairs else None, "seconds": time.monotonic() - began,
        }  # fmt: skip
        if asked.sheet is not None and pairs:
            side = tile_side(opened.settings.data.size)
            reads = [
                (partial(images.read, one, names[one][0], side), partial(images.read, other, names[other][0], side))
                for one, other in places[:MOST]
            ]
            some = f"{min(len(pairs), MOST):,} of {found.count:,} pairs"
            title = f"{some} in {shown(images.name, 100)}, by {asked.feature}"
            write_sheet(asked.sheet, title, lines_of_pairs(pairs[:MOST], reads), side)
    yield Evaluated(step=opened.trained.step, name="duplicates", result=result)


def _open(asked: Search) -> _Opened:
    trained = open_run(asked.run, asked.device, asked.method, projector=asked.feature == Z)
    settings = with_data(trained.settings, asked.data, None, asked.limit, asked.machine)
    return _Opened(trained, settings)


def _notes(opened: _Opened) -> Iterator[Event]:
    yield from (Warned(step=opened.trained.step, message=note) for note in opened.trained.notes)


def _images(
    asked: Search, opened: _Opened, folder: Path, image: str | None = None
) -> Generator[Event, None, VectorSet]:
    """Read the stored rows, or encode the images into a temporary folder; return the set.

    Raises:
        DataError: `image` is none of them, and cannot be read; before any is encoded.
    """
    trained, settings = opened.trained, opened.settings
    if asked.sheet is not None:
        refuse_among_images(asked.sheet, *settings.data.folders)
    if asked.vectors is not None:
        return read_stored(asked.vectors, trained.sha256, asked.feature, settings.data)
    source = open_images(settings)
    if image is not None and find(image, map(source.path, range(len(source)))) is None:
        _alone(image, opened)
    try:
        width = width_of(trained, settings, asked.feature)
        identity = identity_of(trained, settings, source, asked.feature)
        with PartialVectors(folder / "rows", identity, width) as vectors:
            yield from append_rows(vectors, trained, settings, source, asked.feature)
            return made_now(source, vectors, trained.precision)
    except ResourceError as error:
        hint = "Free some space there, set TMPDIR to another disk, or give --vectors a file of sslcli embed."
        raise ResourceError(error.message, hint) from error


def _facts(asked: Search, opened: _Opened, images: VectorSet) -> dict[str, Any]:
    """Return what a result says of the set."""
    return {
        "images": len(images.rows), "data": images.name, "feature": asked.feature,
        "typical": typical_similarity(images.rows), "step": opened.trained.step,
        "run": asked.run, "vectors": asked.vectors and str(asked.vectors), "sheet": asked.sheet and str(asked.sheet),
    }  # fmt: skip


def _alone(image: str, opened: _Opened) -> Files:
    """Open an image file as a source of one image.

    Raises:
        DataError: there is none, or it cannot be read.
    """
    path, data = expanded(image), opened.settings.data
    if not is_file(path):
        near = closest_path(path)
        what = f"There is no image at {shown(image)}, nor one of that name in the set."
        if is_there(path):
            near, what = None, f"{shown(image)} is {kind_of(path)}, not an image."
        raise DataError(what, f"Did you mean '{shown(near)}'?" if near else "Give a file, or the path of an image.")
    source = of_paths(image, [str(path)], [-1], (), data.channels, data.value_range, data.bits)
    try:
        source.read(0, data.size)
    except DataError as error:
        raise DataError(f"{shown(image)} cannot be read: {error.message}.", "Give another image.") from error
    return source


def _encoded(alone: Files, asked: Search, opened: _Opened, images: VectorSet) -> Tensor:
    """Encode one image as the rows of the set were.

    Raises:
        DivergedError: its row is not finite.
    """
    encoder = encoder_of(opened.trained, asked.feature)
    row = encode({H: encoder}, alone, opened.settings, device=opened.device, precision=images.precision).h[H][0]
    return finished(row)
