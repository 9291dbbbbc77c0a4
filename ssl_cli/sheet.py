"""A contact sheet: images of all classes of the data and the views that pretraining would make of them."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ssl_cli import disk
from ssl_cli.augment import sheet
from ssl_cli.augment.normalize import Normalize
from ssl_cli.augment.pipeline import Pipeline, sides_of
from ssl_cli.config.images import refuse_among_images
from ssl_cli.config.tree import Settings
from ssl_cli.data.bad import FEW, FRACTION
from ssl_cli.data.loader import cap_for, read_all
from ssl_cli.data.measured import measured
from ssl_cli.data.positives import positives_of
from ssl_cli.data.source import Source
from ssl_cli.data.sources import open_pretraining
from ssl_cli.data.split import spread
from ssl_cli.engine.build import local_device
from ssl_cli.engine.plan.size import SUITED, size
from ssl_cli.errors import DataError, UsageError, write_error
from ssl_cli.events import Evaluated, Event, Pictured, Skipped, Warned
from ssl_cli.names import shown
from ssl_cli.objective import Batch
from ssl_cli.transfer.label_free import consistency
from ssl_cli.transfer.pixels import colours, low_resolution
from ssl_cli.verdict import views_note

ROWS = 8  # images read and augmented together
COMPARED = 64
"""Images on which it is measured how hard the task is."""


@dataclass(frozen=True)
class _Row:
    """One row of the sheet: its `Pictured` event, and the operations and parameters of each view."""

    picture: Pictured
    record: dict[str, Any]


def augmentation_sheet(
    settings: Settings, output: Path, images: int = 8, views: int = 2, *, op: str | None = None
) -> Iterator[Event]:
    """Make `views` views of images of all classes, as in pretraining's first epoch, and write them as a PNG.

    Yields a `Pictured` for each row, and at the end `Evaluated(name="sheet")` with the operations of every view and
    their parameters; boxes are in pixels of the image as it was read, whose `size` is height and width. Without `op`
    it has `matched`, the shares of views that colours and pixels alone match, and a `note` if those are extreme.

    Args:
        settings: of the pretraining run.
        output: the PNG.
        images: rows.
        views: views of each image; with `op` the steps of the sweep.
        op: instead of views, show this one of `SWEPT` alone, from low to high over its range.

    Raises:
        UsageError: the picture is too large for most viewers, or would be among the images.
        DataError: nothing could be read.
        ResourceError: the picture cannot be written.
    """
    source = open_pretraining(settings.data, settings.run.seed)
    settings = _sized(measured(settings, source)[0], source)
    _refuse_too_large(settings.data.size, images, views)
    refuse_among_images(output, *settings.data.folders)
    rows: list[_Row] = []
    skipped: list[Skipped] = []
    for part in _first(source, settings, images):
        if isinstance(part, Skipped):
            skipped.append(part)
            yield part
            continue
        for row in _rows(part, source, settings, views, op):
            rows.append(row)
            yield row.picture
    if not rows:
        raise DataError(f"None of the first images of {shown(source.name)} can be read.", "Repair or remove them.")
    if op is not None and op not in (*settings.augment.order, *(settings.augment.second or ())):
        yield Warned(
            message=f"The recipe {shown(str(settings.run.recipe))} does not use '{op}': this is what it would do.",
            hint="It is used where augment.order names it.",
        )
    if skipped:
        names = ", ".join(shown(_relative(bad.path, source), 100) for bad in skipped)
        yield Warned(message=f"Files that could not be read are left out: {names}.")
    tile = sheet.tile_side(settings.data.size)
    write_picture(output, sheet.png(sheet.contact_sheet(_head(settings, op), [row.picture for row in rows], tile)))
    records = [row.record for row in rows]
    result: dict[str, Any] = {
        "path": str(output),
        "images": len({record["image"] for record in records}),
        "views": len(records[0]["views"]),
        "order": list(settings.views.order),
        **({"second": list(settings.views.second)} if settings.views.second is not None else {}),
        **({"op": op} if op else {}),
        "skipped": [{"path": bad.path, "reason": bad.reason} for bad in skipped],
        "rows": records,
        **({} if op else _difficulty(source, settings)),
    }
    yield Evaluated(name="sheet", result=result)


def _first(source: Source, settings: Settings, count: int) -> Iterator[Batch | Skipped]:
    """Read `count` readable images of all classes, in batches, with a `Skipped` for each unreadable file among them.

    It stops where pretraining would, after too many unreadable files.
    """
    bad: dict[str, Skipped] = {}
    good = start = 0
    order = spread(source, count, settings.run.seed)
    while good < count and start < len(source) and len(bad) <= max(FEW, FRACTION * len(source)):
        wanted = order[start : start + min(ROWS, count - good)]
        start += len(wanted)
        found: list[Skipped] = []
        cap = cap_for(settings.data.size)
        for part, label, index in read_all(source, wanted, threads=settings.data.threads, cap=cap, skipped=found):
            good += len(index)
            yield _with_partners(Batch(part, label, index), source, settings)
        new = {skipped.path: skipped for skipped in found if skipped.path not in bad}
        bad |= new
        yield from new.values()


def _with_partners(batch: Batch, source: Source, settings: Settings) -> Batch:
    """Add the images of the second views, where positives are by group; of one that cannot be read the image itself."""
    positives = positives_of(settings.data, source)
    if positives is None:
        return batch
    drawn, partners = positives.draw(settings.run.seed, 0, batch.index), list[Tensor]()
    for other, image in zip(drawn.tolist(), batch.image, strict=True):
        try:
            partners.append(source.read(other, cap_for(settings.data.size)))
        except DataError:
            partners.append(image)
    return replace(batch, partner=partners)


def _difficulty(source: Source, settings: Settings) -> dict[str, Any]:
    """Measure, on a few images, how many of two views of an image are matched by colours or pixels alone."""
    first, second = (list[Tensor]() for _ in range(2))
    pipeline = Pipeline(settings.views, settings.data.size, settings.run.seed)
    for part in _first(source, settings, COMPARED):
        if isinstance(part, Batch):
            for view, rows in enumerate((first, second)):
                of = part.of_view(view)
                rows.append(_view(pipeline, of, pipeline.draw(of, view)).clamp(0, 1))
    if not first:
        return {}
    views = torch.cat(first), torch.cat(second)
    shares = {name: consistency(*map(rows, views)) for name, rows in (("colour", colours), ("pixels", low_resolution))}
    images = len(views[0])
    return {"matched": {**shares, "images": images}, "note": views_note(**shares, images=images)}


def _rows(batch: Batch, source: Source, settings: Settings, views: int, op: str | None) -> Iterator[_Row]:
    """Make the rows of a batch: one for each image, or with `op` one for each image and parameter that is varied."""
    sides = sides_of(batch.image)

    def of(view: int) -> Batch:
        return batch.of_view(view if op is None else 0)

    if op is None:
        pipeline = Pipeline(settings.views, settings.data.size, settings.run.seed)
        varied = {"": [pipeline.draw(of(view), view) for view in range(views)]}
    else:
        pipeline, varied = _sweep(settings, op, sides, views)
    pictures = {
        name: [_view(pipeline, of(view), params) for view, params in enumerate(columns)]
        for name, columns in varied.items()
    }
    for i, index in enumerate(batch.index.tolist()):
        path = source.path(index)
        for name, columns in varied.items():
            described = [pipeline.describe(params, i, sides_of(of(view).image)) for view, params in enumerate(columns)]
            if op not in {None, "crop"}:
                described = [{key: drawn for key, drawn in view.items() if key == op} for view in described]
            tiles = [sheet.tile("original", batch.image[i])]
            for k, (picture, drawn) in enumerate(zip(pictures[name], described, strict=True), start=1):
                words = "; ".join(each.words for each in drawn.values())
                tiles.append(sheet.tile(f"{'step' if op else 'view'} {k}", picture[i], words or "off" * bool(op)))
            label = ": ".join(filter(None, (shown(_relative(path, source), 100), name)))
            yield _Row(
                Pictured(name=label, tiles=tuple(tiles)),
                {
                    "image": path,
                    "size": sides[i].tolist(),
                    **({"varied": name} if name else {}),
                    "views": [{key: each.value for key, each in drawn.items()} for drawn in described],
                },
            )


def _sized(settings: Settings, source: Source) -> Settings:
    """Return the settings with image size, crops and flips of a run on this machine, where they are open."""
    if not {"data.size", *SUITED} & {*settings.run.fit}:
        return settings
    return size(settings, len(source), source, local_device(settings.hardware.device)).settings


def _sweep(settings: Settings, op: str, sides: Tensor, count: int) -> tuple[Pipeline, dict[str, list[dict[str, Any]]]]:
    """Build a pipeline of the crop and `op`, and the parameters of each step; the crop is the largest in the middle."""
    order = ("crop",) if op == "crop" else ("crop", op)
    alone = settings.augment.model_copy(update={"order": order, "second": None})
    pipeline = Pipeline(alone, settings.data.size, settings.run.seed)
    steps = pipeline.ops[op].sweep(sides, count)
    largest = pipeline.ops["crop"].centred(sides)  # type: ignore[attr-defined]
    return pipeline, {name: [{"crop": largest, op: params} for params in line] for name, line in steps.items()}


def _view(pipeline: Pipeline, batch: Batch, params: dict[str, Any]) -> Tensor:
    """Apply the pipeline to the batch and undo normalisation: one view `(N,C,S,S)`."""
    x = pipeline.apply(batch.image, params)
    normalize = pipeline.ops.get("normalize")
    return normalize.undo(x) if isinstance(normalize, Normalize) else x


def _relative(path: str, source: Source) -> str:
    return path.removeprefix(source.name).lstrip(os.sep) if path.startswith(f"{source.name}{os.sep}") else path


def _head(settings: Settings, op: str | None) -> str:
    """Name the settings that determine the views, in a line."""
    orders = [order for order in (settings.views.order, settings.views.second) if order is not None]
    parts: Sequence[str] = (
        settings.method.name,
        f"recipe {settings.run.recipe}",
        f"seed {settings.run.seed}",
        f"{settings.data.size} pixels",
        f"{op} from low to high" if op else " | ".join(map(", ".join, orders)),
    )
    return " · ".join(shown(part, 100) for part in parts)


def _refuse_too_large(size: int, images: int, views: int) -> None:
    side = sheet.tile_side(size)
    pixels = images * (views + 1) * side**2
    if pixels > sheet.MOST_PIXELS:
        raise UsageError(
            f"{images} images with {views} views of {size} pixels make a picture of {pixels / 1e6:,.0f} megapixels, "
            f"more than the {sheet.MOST_PIXELS / 1e6:,.0f} that most viewers open.",
            "Lower --images, --views or --image-size.",
        )


def write_picture(output: Path, data: bytes) -> None:
    """Write a picture, and the folder for it.

    Raises:
        ResourceError: it cannot be written.
    """
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        disk.write_bytes(output, data)
    except OSError as error:
        raise write_error(str(output), error, "Choose another place for it.") from error
