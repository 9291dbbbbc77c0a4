"""What pretraining would see: the first images of the data and their views, in one picture."""

from pathlib import Path

import torch
from torch import Tensor

from ssl_cli.augment.pipeline import Pipeline
from ssl_cli.augment.sheet import contact_sheet, save_png
from ssl_cli.config.tree import Settings
from ssl_cli.data.loader import cap_for, read_all
from ssl_cli.data.sources import open_pretraining
from ssl_cli.errors import DataError, ResourceError, UsageError
from ssl_cli.events import Evaluated
from ssl_cli.objective import Batch


def augmentation_sheet(settings: Settings, output: Path, images: int = 8, views: int = 2) -> Evaluated:
    """Write a PNG of the first images and `views` views of each: those of pretraining's first epoch, by its own seed.

    Raises:
        DataError: nothing could be read.
        ResourceError: the picture cannot be written.
    """
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output} would not be a PNG.", "Give -o a name that ends in .png.")
    source = open_pretraining(settings.data, settings.run.seed)
    wanted = torch.arange(min(images, len(source)))
    originals: list[Tensor] = []
    indices = []
    for part, _, index in read_all(source, wanted, threads=settings.data.threads, cap=cap_for(settings.data.size)):
        originals.extend(part)
        indices.append(index)
    if not originals:
        raise DataError(f"None of the first {len(wanted)} images of {source.name} can be read.")
    batch = Batch(originals, torch.full((len(originals),), -1), torch.cat(indices))
    pipeline = Pipeline(settings.augment, settings.data.size, settings.run.seed)
    sheet = contact_sheet(originals, pipeline(batch, views), settings.augment)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        save_png(sheet, output)
    except OSError as error:
        raise ResourceError(f"Cannot write {output}: {error.strerror}.", "Choose another -o.") from error
    result = {"path": str(output), "images": len(originals), "views": views, "order": list(settings.augment.order)}
    return Evaluated(name="sheet", result=result)
