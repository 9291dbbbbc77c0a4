"""SimCLR v2's loss with a memory against plain loops, as its author has it (simclr#115)."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ssl_cli.config.methods import SimCLRv2Settings
from ssl_cli.losses.row_softmax import row_softmax
from ssl_cli.methods.simclr_v2 import SimCLRv2
from ssl_cli.objective import Batch
from tests.oracle import paper
from tests.oracle.agree import agree_with_slope

DIM = 6


def problem(images: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings `(2N,D)`, view by view as the engine has them; keys like them `(2N,D)`; a memory `(K,D)`."""
    generator = torch.Generator().manual_seed(100 * images + count)
    z = torch.randn(2 * images, DIM, dtype=torch.float64, generator=generator)
    keys = z + torch.randn(z.shape, dtype=torch.float64, generator=generator)
    memory = torch.randn(count, DIM, dtype=torch.float64, generator=generator)
    return normalize(z), normalize(keys), normalize(memory)


@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("count", [1, 7, 60])
@pytest.mark.parametrize("temperature", [0.02, 0.05, 0.1, 0.5, 1.0])
def test_loss_and_gradient_equal_the_plain_loops(images: int, count: int, temperature: float) -> None:
    z, keys, memory = problem(images, count)
    cfg = SimCLRv2Settings(memory=count, temperature=temperature, head_layers=0)
    ours = SimCLRv2(nn.Identity(), DIM, cfg)
    assert ours.queue is not None
    ours.queue.rows = memory
    candidates, own = torch.cat([keys, memory]), torch.arange(2 * images)
    other = (own + images) % (2 * images)
    targets = torch.stack(keys.chunk(2), 1)
    batch = Batch([], torch.full((images,), -1), torch.arange(images))
    agree_with_slope(
        "NT-Xent against momentum keys and a memory",
        z,
        lambda rows: paper.against_keys(rows, keys.tolist(), memory.tolist(), temperature),
        lambda rows: ours.loss(rows, targets, batch),
        lambda rows: row_softmax(rows, candidates, other, temperature, 1, own),
        lambda rows: row_softmax(rows, candidates, other, temperature, 2 * images * 3, own),
    )
