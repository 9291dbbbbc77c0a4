"""What is drawn, and in which order, against plain integers: orders, batches, noise rows."""

import pytest
import torch
from torch import nn

from ssl_cli import draws
from ssl_cli.config.methods import InstDiscSettings
from ssl_cli.data.loader import Loader
from ssl_cli.methods.instdisc import NOISE, InstDisc
from ssl_cli.objective import Batch
from tests.data.pictures import Toy
from tests.oracle import paper
from tests.oracle.agree import agree


@pytest.mark.parametrize("n", [1, 2, 9, 300])
@pytest.mark.parametrize("words", [(0, 0), (7, 3), (2**31 - 1, 999, 4), (5,)])
def test_orders(n: int, words: tuple[int, ...]) -> None:
    seed, *stream = words
    agree("sampler: orders", draws.permutation(seed, n, *stream).double(), paper.permutation(n, *words))


@pytest.mark.parametrize(("images", "batch"), [(50, 8), (12, 12), (23, 5), (9, 1)])
@pytest.mark.parametrize("seed", [0, 3])
def test_batches(images: int, batch: int, seed: int) -> None:
    expected = paper.batches(seed, images, batch, 3)
    found = torch.stack([batch.index for batch in Loader(Toy(images), batch, seed).batches(0, len(expected))])
    agree("sampler: batches of three epochs", found.double(), expected)


@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (11, 5)])
@pytest.mark.parametrize("count", [1, 64])
def test_noise_rows(seed: int, epoch: int, count: int) -> None:
    method = InstDisc(nn.Identity(), 4, InstDiscSettings(noise=count, head_layers=0))
    method.prepare(90, seed)
    index = torch.tensor([0, 41, 89])
    found = method.targets([], Batch([], torch.zeros(3), index, epoch))
    expected = [paper.noise(count, 90, seed, epoch, NOISE, image, first=0) for image in index.tolist()]
    agree("sampler: noise rows", found.double(), expected)


@pytest.mark.parametrize("slot", [0, 1, 2**36])
def test_numbers_from_0_to_1(slot: int) -> None:
    images = torch.arange(200)
    expected = [(paper.splitmix(3, 2, 1, image, slot) >> 40) / 2**24 for image in range(200)]
    agree("sampler: numbers from 0 to 1", draws.uniform(3, 2, images, 1, slot).double(), expected)
