"""InstDisc's memory bank: one unit row per image of the data set (Wu et al. 2018, arXiv 1805.01978, section 3.1)."""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Bank(nn.Module):
    """`rows` `(images,D)`, by the image's index in its data set; random at first, a function of the arguments alone.

    Entries start uniform in [-1, 1), as in the official code (NCEAverage.py), whose rows are of length one on average
    only; here they are of length one, as the paper says.
    """

    rows: Tensor

    def __init__(self, images: int, dim: int, seed: int = 0) -> None:
        super().__init__()
        entries = torch.rand(images, dim, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("rows", normalize(entries.mul_(2).sub_(1), dim=1))

    @torch.no_grad()
    def blend(self, index: Tensor, z: Tensor, bank_momentum: float) -> None:
        """Row index_b becomes bank_momentum * row + (1 - bank_momentum) * z_b, of length one again.

        Of an image that comes more than once, the last embedding is blended, into the row from before this call: the
        official code on one device, which reads all rows and then writes them one after the other.

        Args:
            index: int64 `(N,)`, on the bank's device.
            z: unit embeddings `(N,D)`.
            bank_momentum: what stays of the old row, 0 to 1; 0.5 in the official code, 0 in the paper.
        """
        blended = bank_momentum * self.rows[index] + (1 - bank_momentum) * z.to(self.rows.dtype)
        order = index.argsort(stable=True)
        last = order[torch.searchsorted(index[order], index, right=True) - 1]  # all writes to a row are the same one
        self.rows.index_copy_(0, index, normalize(blended, dim=1)[last])
