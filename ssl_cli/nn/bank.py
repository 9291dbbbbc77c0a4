"""InstDisc's memory bank: one unit row per image of the data set (Wu et al. 2018, arXiv 1805.01978, section 3.1)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Bank(nn.Module):
    """Store a unit row of D numbers for each image of the data set, in the buffer `rows` `(images,D)`.

    Numbers start uniform in [-1, 1), as in the official code (NCEAverage.py), whose rows have length one on average
    only; here each has length one, as in the paper. They are a function of the arguments alone.
    """

    rows: Tensor

    def __init__(self, images: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        entries = torch.rand(images, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("rows", normalize(entries.mul_(2).sub_(1), dim=1))

    @torch.no_grad()
    def blend(self, index: Tensor, z: Tensor, bank_momentum: float) -> None:
        """Replace row index_b by bank_momentum * row + (1 - bank_momentum) * z_b, normalised.

        If an image comes more than once, its last embedding is blended into the row from before this call, as in the
        official code on one device, which reads all rows and then writes them one after the other.

        Args:
            index: int64 `(N,)`, on the bank's device.
            z: unit embeddings `(N,D)`.
            bank_momentum: weight of the old row, 0 to 1; 0.5 in the official code, 0 in the paper.
        """
        blended = bank_momentum * self.rows[index] + (1 - bank_momentum) * z.to(self.rows.dtype)
        order = index.argsort(stable=True)
        last = order[
            torch.searchsorted(index[order], index, right=True) - 1
        ]  # equal writes: their order does not matter
        self.rows.index_copy_(0, index, normalize(blended, dim=1)[last])
