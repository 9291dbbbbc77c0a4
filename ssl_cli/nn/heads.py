"""Projectors g, from representations h to embeddings z, and their normalisation."""

import torch
from torch import Tensor, nn

from ssl_cli.nn.batchnorm import BatchNorm1d


def unit(x: Tensor) -> Tensor:
    """Normalise the rows of x `(M,D)` to length one, in float32, or in float64 if x is."""
    return nn.functional.normalize(x if x.dtype == torch.float64 else x.float(), dim=1)


def projector(features: int, layers: int, hidden: int | None, dim: int, batchnorm: bool = False) -> "Projector":
    """Create an MLP of `layers` layers from `features` to `dim` numbers, with ReLU between them.

    Args:
        features: width of h.
        layers: 0 is the identity, 1 a linear layer.
        hidden: width of hidden layers; None: `features`.
        dim: width of z.
        batchnorm: False: biases and no BatchNorm (MoCo v2's code; SimCLR, section 2.1). True: no biases and BatchNorm
            after every layer, the last one without a shift (SimCLR's code, model_util.py).
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
    """Run its layers in float32, or in float64 if h is, also under autocast: rounded embeddings cost accuracy."""

    def forward(self, h: Tensor) -> Tensor:
        """Compute embeddings `(M,D)`, not normalised, of representations `(M,F)`."""
        with torch.autocast(h.device.type, enabled=False):
            return super().forward(h if h.dtype == torch.float64 else h.float())  # type: ignore[no-any-return,no-untyped-call]
