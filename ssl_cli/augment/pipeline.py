"""Random views of a batch of images.

An operation is one file with one class, one line in `registry.OPS` and one settings table in `config/augment.py`:

    class Op:
        slots: range                            # of its random numbers: draws.slots(name, count)
        def __init__(self, settings, size): ... # its settings table, and the side of its images
        def draw(self, key, sides): ...         # -> a NamedTuple of tensors, one row per image
        def apply(self, x, params): ...         # -> images (N,C,size,size); x may be overwritten
        def describe(self, params, row, sides): ...  # -> Drawn: the change of one image; None: it is unchanged
        def sweep(self, sides, count): ...      # -> parameters from low to high, by the name of what is varied

`draw` alone is random; `apply` is a pure function of its parameters, so that a test can pass them to another library
and `inspect-augs` can choose them. The first operation is the crop: it takes uint8 or int16 images of any size; the
others take float32 in [0, 1], of 1 to 16 channels. The settings give the operations and their order: one order for all
views, or another one for those after the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ssl_cli.augment.drawn import Drawn
from ssl_cli.config.augment import AugmentSettings
from ssl_cli.draws import Key
from ssl_cli.objective import Batch, PackedImages
from ssl_cli.registry import OPS, load

CHUNK_BYTES = 1 << 21
"""Bytes of the views that are augmented at once on the CPU, so that they stay in its cache."""
GPU_CHUNK_BYTES = 1 << 30
"""The same on a GPU: enough to occupy it, and little compared with what training needs."""


class Op(Protocol):
    """Define one operation of the pipeline; see the docstring of this file."""

    slots: range

    def draw(self, key: Key, sides: Tensor) -> Any:
        """Draw parameters for the images of `key`, a NamedTuple of tensors with N rows; `sides` int64 `(N,2)`."""

    def apply(self, x: Any, params: Any) -> Tensor:
        """Apply the operation to images x; return `(N,C,size,size)`."""

    def describe(self, params: Any, row: int, sides: Tensor) -> Drawn | None:
        """Report the change of the image of this row; None: it is unchanged. `sides` as in `draw`."""

    def sweep(self, sides: Tensor, count: int) -> dict[str, list[Any]]:
        """Return parameters for all images from low to high, by the name of what is varied ("" if there is only one).

        Of an operation that is only on or off, these two; of one without strength, none.
        """


class Pipeline:
    """Compute random views of images, a function of (seed, epoch, image index, view) alone.

    The first view goes through `settings.order`, the others through `settings.second` where there is one.
    """

    def __init__(self, settings: AugmentSettings, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.orders = (settings.order, settings.order if settings.second is None else settings.second)
        names = dict.fromkeys(name for order in self.orders for name in order)
        self.ops: dict[str, Op] = {name: load(OPS[name])(getattr(settings, name), size) for name in names}

    def __call__(self, batch: Batch, views: int = 2) -> list[Tensor]:
        """Return `views` tensors `(N,C,size,size)`, float32, channels_last, in [0, 1] unless normalised.

        They are slices of one tensor: see `stacked`.
        """
        return list(self.stacked(batch, views).chunk(views))

    def stacked(self, batch: Batch, views: int = 2, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return all views as one tensor `(views * N,C,size,size)`, first views first, as a network takes them.

        Operations compute in float32; the result is rounded to `dtype` once.
        """
        first, n = batch.image[0], len(batch)
        shape = (views, n, first.shape[0], self.size, self.size)
        out = _channels_last(shape, first.device, dtype)
        drawn = [self.draw(batch.of_view(view), view) for view in range(views)]
        alike = self.orders[0] == self.orders[1] and batch.partner is None
        for part in (slice(0, views),) if alike else (slice(0, 1), slice(1, views)):
            if drawn[part]:
                self._apply(batch.of_view(part.start).image, drawn[part], out[part])
        return out.flatten(0, 1)

    def draw(self, batch: Batch, view: int) -> dict[str, Any]:
        """Draw the parameters of a view's operations for every image of the batch, by name, in the view's order."""
        key = Key(self.seed, batch.epoch, batch.index, view)
        sides = sides_of(batch.image).to(batch.index.device)
        return {name: self.ops[name].draw(key, sides) for name in self.orders[min(view, 1)]}

    def describe(self, params: dict[str, Any], row: int, sides: Tensor) -> dict[str, Drawn]:
        """Report how these parameters change one image, by the operations that do, in their order."""
        reports = {name: self.ops[name].describe(drawn, row, sides) for name, drawn in params.items()}
        return {name: drawn for name, drawn in reports.items() if drawn is not None}

    def apply(self, images: Tensor | Sequence[Tensor], params: dict[str, Any]) -> Tensor:
        """Compute one view of `images`, `(N,C,H,W)` or N of `(C,H,W)`, with these parameters, in their order."""
        out = _channels_last((1, len(images), images[0].shape[0], self.size, self.size), images[0].device)
        self._apply(images, [params], out)
        return out[0]

    def _apply(self, images: Tensor | Sequence[Tensor], params: Sequence[dict[str, Any]], out: Tensor) -> None:
        """Write V views of `images`, with the same order of operations, into `out` `(V,N,C,size,size)`.

        As many images at a time as have views of `CHUNK_BYTES` or `GPU_CHUNK_BYTES`.
        """
        views, n, device = *out.shape[:2], out.device
        stacked = {name: _stacked([view[name] for view in params]) for name in params[0]}
        most = CHUNK_BYTES if device.type == "cpu" else GPU_CHUNK_BYTES
        step = max(1, most // (4 * views * out[0, 0].numel()))
        # a training step's autocast would round the pixels; inference mode saves a tenth of the time
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            for start in range(0, n, step):
                rows = slice(start, start + step)
                x: Any = images[rows]
                for name, drawn in stacked.items():
                    x = self.ops[name].apply(x, _rows(drawn, rows))
                out[:, rows] = x.to(out.dtype).unflatten(0, (views, -1))  # to change dtype and layout at once is slow


def _channels_last(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    views, n, c, h, w = shape
    return torch.empty((views, n, h, w, c), dtype=dtype, device=device).permute(0, 1, 4, 2, 3)


def _stacked(params: Sequence[Any]) -> Any:
    """Stack the parameters of several views, `(V,N,...)`."""
    return type(params[0])(*(torch.stack(fields) for fields in zip(*params, strict=True)))


def _rows(params: Any, rows: slice) -> Any:
    """Return the parameters of some images, view by view."""
    return type(params)(*(field[:, rows].flatten(0, 1) for field in params))


def sides_of(images: Tensor | Sequence[Tensor]) -> Tensor:
    """Return heights and widths, int64 `(N,2)` on the CPU."""
    if isinstance(images, PackedImages):
        return images.sides
    if isinstance(images, Tensor):
        return torch.tensor(images.shape[2:]).expand(len(images), 2)
    return torch.tensor([image.shape[1:] for image in images])
