"""A picture of what the augmentation does: per row an image and its views."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ssl_cli.augment.normalize import Normalize
from ssl_cli.config.augment import AugmentSettings

TILE = 96
MARGIN = 8
PAPER = 255


def contact_sheet(originals: Tensor | Sequence[Tensor], views: Sequence[Tensor], settings: AugmentSettings) -> Tensor:
    """One uint8 picture `(3,H,W)` of N rows: the original uint8 `(C,H,W)`, then its V views, each `(N,C,S,S)`.

    Views are enlarged by a whole factor to at least 96 pixels, originals to fit the same tile; normalisation is
    undone.
    """
    size = views[0].shape[-1]
    tile = size * -(-TILE // size)
    if "normalize" in settings.order:
        views = [Normalize(settings.normalize, size).undo(view.cpu()) for view in views]
    columns = [[_inside(image.cpu(), tile) for image in originals]]
    columns += [[_inside(_bytes(image), tile) for image in view] for view in views]
    pitch = tile + MARGIN
    sheet = torch.full((3, len(originals) * pitch + MARGIN, len(columns) * pitch + MARGIN), PAPER, dtype=torch.uint8)
    for j, column in enumerate(columns):
        for i, picture in enumerate(column):
            top, left = (
                k * pitch + MARGIN + (tile - side) // 2 for k, side in zip((i, j), picture.shape[1:], strict=True)
            )
            sheet[:, top : top + picture.shape[1], left : left + picture.shape[2]] = picture
    return sheet


def save_png(image: Tensor, path: Path | str) -> None:
    """Write a uint8 picture `(3,H,W)` as a PNG file."""
    Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy()).save(path, format="PNG")


def _bytes(image: Tensor) -> Tensor:
    return image.detach().cpu().float().clamp(0, 1).mul(255).round().to(torch.uint8)


def _inside(image: Tensor, tile: int) -> Tensor:
    """The picture, three channels, scaled to the nearest pixel so that its longer side fills the tile."""
    height, width = (max(1, side * tile // max(image.shape[1:])) for side in image.shape[1:])
    y = torch.arange(height) * image.shape[1] // height
    x = torch.arange(width) * image.shape[2] // width
    scaled = image[:, y][:, :, x]
    return scaled[:3] if len(scaled) >= 3 else scaled[:1].expand(3, -1, -1)
