"""Selective kernels (Li et al. 2019, arXiv 1903.06586) as the SimCLR v2 authors build them.

Two 3x3 convolutions see the same input; each row of the batch weighs, channel by channel, the one against the other.
"""

import torch
from torch import Tensor, nn

from ssl_cli.nn.batchnorm import BatchNorm2d

RATIO = 0.0625  # channels of the squeezed row, as a share of the outputs (`sk_ratio`)
NARROWEST = 32  # channels of the squeezed row at least (`min_dim`)


class SelectiveKernel(nn.Module):
    """Stands for a 3x3 convolution, its BatchNorm and its ReLU: `(M,C,H,W)` to `(M,outputs,H,W)`, halved by stride 2.

    Both paths are 3x3 and form one convolution; the first half of its channels is the first path. With A and B the two
    paths, p the mean of A + B over pixels and (a, b) = mix(ReLU(BN(squeeze(p)))), the output is
    A exp(a) / (exp(a) + exp(b)) + B exp(b) / (exp(a) + exp(b)): section 3.1 of the paper.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        narrow = max(int(outputs * RATIO), NARROWEST)
        self.paths = nn.Conv2d(inputs, 2 * outputs, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(2 * outputs)
        self.squeeze = nn.Conv2d(outputs, narrow, 1, bias=False)
        self.bn2 = BatchNorm2d(narrow)
        self.mix = nn.Conv2d(narrow, 2 * outputs, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def initialise(self) -> None:
        """Draw the weights of `mix` by fan-in, as the authors do: no BatchNorm follows it, so its scale is felt."""
        nn.init.kaiming_normal_(self.mix.weight, mode="fan_in", nonlinearity="linear")

    def forward(self, x: Tensor) -> Tensor:
        """The mixed paths `(M,outputs,H,W)`, nowhere negative."""
        x = self.relu(self.bn1(self.paths(x)))
        one, other = x.chunk(2, dim=1)
        # the mean of a sum is the sum of the means, which are small
        pooled = torch.stack(x.mean((2, 3), keepdim=True).chunk(2, dim=1)).sum(0)
        logits = self.mix(self.relu(self.bn2(self.squeeze(pooled))))
        # autocast on CUDA gives a softmax in float32, which would make the whole map float32
        first, second = torch.stack(logits.chunk(2, dim=1)).softmax(0).to(x.dtype).unbind()
        return one * first + other * second
