"""Random numbers as a hash: what they are, that they are uniform, and that nothing but their key matters."""

import math

import pytest
import torch

from ssl_cli import draws

N = 20_000
IMAGES = torch.arange(N)
KS_999 = 1.95  # sqrt(n) times the Kolmogorov-Smirnov distance stays below this in 99.9 % of samples


def reference(*words: int) -> int:
    """splitmix64 over words, on Python integers, as int64."""
    state, mask = 0, 2**64 - 1
    for word in words:
        state = (state + 0x9E3779B97F4A7C15 * (word + 1)) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        state ^= state >> 31
    return state - 2**64 if state >= 2**63 else state


def ks(sample: torch.Tensor, cdf: torch.Tensor | None = None) -> float:
    """sqrt(n) times the largest distance of the sample from U(0,1), or from `cdf` of the sorted sample."""
    values = sample.double().sort().values if cdf is None else cdf
    n = len(values)
    steps = torch.arange(n + 1).double() / n
    return math.sqrt(n) * max((steps[1:] - values).max().item(), (values - steps[:-1]).max().item())


def test_first_output_is_splitmix64s() -> None:
    assert reference(0) == 0xE220A8397B1DCDAF - 2**64  # the published first output for seed 0


@pytest.mark.parametrize("key", [(0, 0, 0, 0), (7, 3, 1, 2**40), (2**62, 999, 5, 12345), (-1, 0, 0, 3)])
@pytest.mark.parametrize("slot", [0, 1, 2**36])
def test_bits_equal_plain_integers(key: tuple[int, int, int, int], slot: int) -> None:
    seed, epoch, view, image = key
    expected = reference(seed, epoch, view, image, slot)
    images = torch.tensor([image, image + 1])
    assert draws.bits(seed, epoch, images, view, slot)[0].item() == expected
    assert draws.uniform(seed, epoch, images, view, slot)[0].item() == ((expected >> 40) & 0xFFFFFF) / 2**24
    assert draws.integer(seed, epoch, images, view, slot, 1000)[0].item() == ((expected >> 32) % 2**32) * 1000 // 2**32


def test_many_slots_are_the_single_slots() -> None:
    many = draws.bits(1, 2, IMAGES, 0, range(3, 7))
    assert many.shape == (N, 4)
    for column, slot in enumerate(range(3, 7)):
        assert torch.equal(many[:, column], draws.bits(1, 2, IMAGES, 0, slot))


def test_uniform_is_uniform_over_images_slots_and_epochs() -> None:
    assert ks(draws.uniform(0, 0, IMAGES, 0, 0)) < KS_999
    assert ks(draws.uniform(0, 0, torch.tensor([5]), 0, range(N))[0]) < KS_999
    one = torch.tensor([5])
    assert ks(torch.cat([draws.uniform(0, epoch, one, 1, 0) for epoch in range(3000)])) < KS_999
    u = draws.uniform(0, 0, IMAGES, 0, 0)
    assert u.dtype == torch.float32
    assert u.min() >= 0
    assert u.max() < 1


def test_normal_is_normal() -> None:
    z = draws.normal(0, 0, IMAGES, 0, 0)
    assert z.dtype == torch.float32
    assert torch.isfinite(z).all()
    assert ks(z, torch.special.ndtr(z.double().sort().values)) < KS_999


def test_integer_is_even() -> None:
    counts = torch.bincount(draws.integer(0, 0, IMAGES, 0, 0, 10), minlength=10)
    chi2 = ((counts - N / 10) ** 2 / (N / 10)).sum().item()
    assert counts.sum() == N
    assert chi2 < 27.9  # 99.9 % at 9 degrees of freedom


@pytest.mark.parametrize("other", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)])
def test_each_argument_gives_independent_numbers(other: tuple[int, int, int, int]) -> None:
    seed, epoch, view, slot = other
    a = draws.uniform(0, 0, IMAGES, 0, 0)
    b = draws.uniform(seed, epoch, IMAGES, view, slot)
    assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1].item()) < 3.3 / math.sqrt(N)
    assert ks((a - b) % 1) < KS_999  # the difference of independent uniforms, wrapped, is uniform


def test_neighbouring_images_are_independent() -> None:
    u = draws.uniform(0, 0, IMAGES, 0, 0)
    assert ks((u[1:] - u[:-1]) % 1) < KS_999


def test_arguments_do_not_commute() -> None:
    one = torch.tensor([1])
    assert draws.bits(1, 2, one, 3, 4) != draws.bits(2, 1, one, 3, 4)
    assert draws.bits(1, 2, one, 3, 4) != draws.bits(1, 3, one, 2, 4)


def test_a_number_does_not_depend_on_its_batch() -> None:
    rows = draws.permutation(0, N)[:100]
    assert torch.equal(draws.uniform(0, 0, IMAGES, 0, 0)[rows], draws.uniform(0, 0, IMAGES[rows], 0, 0))
    assert torch.equal(draws.normal(0, 0, IMAGES, 0, 0)[rows], draws.normal(0, 0, IMAGES[rows], 0, 0))


def test_images_are_left_as_they_were() -> None:
    images = IMAGES.clone()
    draws.uniform(0, 0, images, 0, range(3))
    assert torch.equal(images, IMAGES)


def test_permutation_is_a_permutation_of_its_arguments_alone() -> None:
    torch.manual_seed(0)
    first = draws.permutation(1, 1000, 2, 3)
    torch.manual_seed(1)
    assert torch.equal(first, draws.permutation(1, 1000, 2, 3))
    assert torch.equal(first.sort().values, torch.arange(1000))
    for other in (draws.permutation(2, 1000, 2, 3), draws.permutation(1, 1000, 3, 2), draws.permutation(1, 1000, 2)):
        assert (first == other).sum() < 20
    assert draws.permutation(0, 0).tolist() == []
    expected = sorted(range(9), key=lambda i: reference(4, 5, i))
    assert draws.permutation(4, 9, 5).tolist() == expected


def test_permutations_are_even() -> None:
    """Each of the 24 orders of four comes up equally often."""
    codes = [tuple(draws.permutation(seed, 4).tolist()) for seed in range(4800)]
    counts = torch.tensor([codes.count(code) for code in set(codes)])
    assert len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 49.7  # 99.9 % at 23 degrees of freedom


def test_slots_of_two_names_do_not_meet() -> None:
    assert len({*draws.slots("crop", 256), *draws.slots("flip", 256)}) == 512


@pytest.mark.gpu
def test_cuda_equals_cpu() -> None:
    for draw in (draws.bits, draws.uniform):
        there = draw(1, 2, IMAGES.cuda(), 3, range(4))
        assert torch.equal(there.cpu(), draw(1, 2, IMAGES, 3, range(4)))
    there = draws.normal(1, 2, IMAGES.cuda(), 3, range(4))
    torch.testing.assert_close(there.cpu(), draws.normal(1, 2, IMAGES, 3, range(4)), rtol=2e-7, atol=1e-12)
