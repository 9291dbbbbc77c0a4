"""Projectors g: representations h to embeddings z, and the unit sphere they live on."""

import torch
from torch import Tensor, nn

from ssl_cli.nn.batchnorm import BatchNorm1d


def unit(x: Tensor) -> Tensor:
    """Rows of length one, in float32 at least whatever autocast made of `x` `(M,D)`."""
    return nn.functional.normalize(x if x.dtype == torch.float64 else x.float(), dim=1)


def projector(features: int, layers: int, hidden: int | None, dim: int, batchnorm: bool = False) -> "Projector":
    """An MLP of `layers` layers from `features` to `dim`.

    Zero layers is the identity, one a linear map. Hidden layers are `hidden` wide (default: as wide as h) with ReLU.
    Plain: biases, no BatchNorm (MoCo v2's code, SimCLR section 2.1). With `batchnorm`: no biases, BatchNorm after
    every layer, the last one without a shift and without ReLU (SimCLR's code, model_util.py).
    """
    modules: list[nn.Module] = []
    inputs = features
    for layer in range(layers):
        last = layer == layers - 1
        outputs = dim if last else hidden or features
        modules.append(nn.Linear(inputs, outputs, bias=not batchnorm))
        if batchnorm:
            norm = BatchNorm1d(outputs)
            if last:
                norm.register_parameter("bias", None)
            modules.append(norm)
        if not last:
            modules.append(nn.ReLU(inplace=True))
        inputs = outputs
    return Projector(*modules)


class Projector(nn.Sequential):
    """Runs in float32 at least, outside autocast: it is small, and what it rounds off no loss gets back."""

    def forward(self, h: Tensor) -> Tensor:
        """Embeddings `(M,D)`, before normalisation, of representations `(M,F)`."""
        with torch.autocast(h.device.type, enabled=False):
            return super().forward(h if h.dtype == torch.float64 else h.float())  # type: ignore[no-any-return,no-untyped-call]
