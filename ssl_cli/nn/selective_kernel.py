"""Selective kernels (Li et al. 2019, arXiv 1903.06586) as the SimCLR v2 authors build them.

Two 3x3 convolutions of one input are averaged, with weights per row of the batch and channel.
"""

import torch
from torch import Tensor, nn

from ssl_cli.nn.batchnorm import BatchNorm2d

RATIO = 0.0625  # channels of the squeezed row, as a fraction of the outputs (`sk_ratio`)
MIN_CHANNELS = 32  # channels of the squeezed row at least (`min_dim`)


class SelectiveKernel(nn.Module):
    """Replace a 3x3 convolution, its BatchNorm and its ReLU: `(M,C,H,W)` to `(M,outputs,H,W)`, halved by stride 2.

    Both paths are 3x3 and form one convolution; the first half of its channels is the first path. With A and B the two
    paths, p the mean of A + B over pixels and (a, b) = mix(ReLU(BN(squeeze(p)))), the output is
    A exp(a) / (exp(a) + exp(b)) + B exp(b) / (exp(a) + exp(b)): section 3.1 of the paper.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        narrow = max(int(outputs * RATIO), MIN_CHANNELS)
        self.paths = nn.Conv2d(inputs, 2 * outputs, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(2 * outputs)
        self.squeeze = nn.Conv2d(outputs, narrow, 1, bias=False)
        self.bn2 = BatchNorm2d(narrow)
        self.mix = nn.Conv2d(narrow, 2 * outputs, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def initialise(self) -> None:
        """Draw the weights of `mix` by fan-in, as the authors do: no BatchNorm after it would undo their scale."""
        nn.init.kaiming_normal_(self.mix.weight, mode="fan_in", nonlinearity="linear")

    def forward(self, x: Tensor) -> Tensor:
        """Compute the weighted mean of both paths `(M,outputs,H,W)`, nowhere negative."""
        x = self.relu(self.bn1(self.paths(x)))
        a, b = x.chunk(2, dim=1)
        # means first: they are small, and the sum of means is the mean of the sum
        pooled = torch.stack(x.mean((2, 3), keepdim=True).chunk(2, dim=1)).sum(0)
        logits = self.mix(self.relu(self.bn2(self.squeeze(pooled))))
        # under autocast on CUDA a softmax is float32, which would make the whole product float32
        weight_a, weight_b = torch.stack(logits.chunk(2, dim=1)).softmax(0).to(x.dtype).unbind()
        return a * weight_a + b * weight_b
