"""Stateless random numbers: each is a hash of (seed, epoch, image, view, slot), independent of earlier draws.

An image gets the same numbers in any batch, order, thread, rank or resumed run, on the CPU and on CUDA. The hash is
splitmix64 (Steele, Lea, Flood 2014): for each word the counter is incremented and mixed. int64 tensors overflow as the
algorithm requires; only the right shift, which is arithmetic, needs a mask.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Slot = int | Sequence[int]

_STEP = 0x9E3779B97F4A7C15
_SCRAMBLE = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
_WORD = (1 << 64) - 1


class Key(NamedTuple):
    """Identify the random numbers of N images: `draws.uniform(*key, slot)`; `image` holds indices, int64 `(N,)`."""

    seed: int
    epoch: int
    image: Tensor
    view: int


def slots(name: str, count: int) -> range:
    """Return `count` (at most 256) slots: one for each random number that `name` draws per image and view.

    A slot is the last word of the hash. It depends on `name` alone (crc32), so that a new operation does not change the
    random numbers of the others; a test shows that no two names in use have a slot in common.
    """
    first = zlib.crc32(name.encode()) << 8
    return range(first, first + count)


def bits(seed: int, epoch: int, image: Tensor, view: int, slot: Slot) -> Tensor:
    """Draw 64 random bits as int64: `(N,)` for one slot, `(N,S)` for a sequence of S, on the device of `image`."""
    images = _scramble(image * _signed(_STEP) + _signed(_absorb(seed, epoch, view) + _STEP))
    if isinstance(slot, int):
        return _scramble(images + _signed(_STEP * (slot + 1)))
    steps = torch.tensor([_signed(_STEP * (s + 1)) for s in slot], dtype=torch.int64, device=image.device)
    return _scramble(images[:, None] + steps)


def uniform(seed: int, epoch: int, image: Tensor, view: int, slot: Slot) -> Tensor:
    """Draw float32 numbers in [0, 1): the top 24 bits, each value exact."""
    return _high(bits(seed, epoch, image, view, slot), 24).float().mul_(2.0**-24)


def normal(seed: int, epoch: int, image: Tensor, view: int, slot: Slot) -> Tensor:
    """Draw float32 standard normal numbers (Box and Muller 1958), computed in float64 so that devices agree."""
    raw = bits(seed, epoch, image, view, slot)
    radius = (_high(raw, 32).double() + 1).mul_(2.0**-32).log_().mul_(-2).sqrt_()
    angle = (raw & 0xFFFFFFFF).double().mul_(2 * math.pi * 2.0**-32)
    return (radius * angle.cos_()).float()


def integer(seed: int, epoch: int, image: Tensor, view: int, slot: Slot, high: int | Tensor) -> Tensor:
    """Draw int64 numbers in [0, high), one `high` for all or for each image, up to 2**31.

    The bias of a value is below high / 2**32.
    """
    return (_high(bits(seed, epoch, image, view, slot), 32) * high) >> 32


def permutation(seed: int, n: int, *stream: int) -> Tensor:
    """Draw a permutation of 0..n-1, int64 `(n,)`, a function of the arguments alone."""
    counter = torch.arange(n, dtype=torch.int64) * _signed(_STEP) + _signed(_absorb(seed, *stream) + _STEP)
    return _scramble(counter).argsort(stable=True)  # the hash is one-to-one, so there are no ties


def _absorb(*words: int) -> int:
    """Hash some integers to an unsigned word, by the same algorithm on Python integers."""
    state = 0
    for word in words:
        state = (state + _STEP * (word + 1)) & _WORD
        for shift, factor in _SCRAMBLE:
            state = ((state ^ (state >> shift)) * factor) & _WORD
    return state


def _scramble(state: Tensor) -> Tensor:
    """Apply splitmix64's output function, in place."""
    for shift, factor in _SCRAMBLE:
        state.bitwise_xor_(_high(state, 64 - shift)).mul_(_signed(factor))
    return state


def _high(word: Tensor, count: int) -> Tensor:
    """Return the `count` highest bits as a non-negative number."""
    return (word >> (64 - count)) & ((1 << count) - 1)


def _signed(word: int) -> int:
    """Return the int64 with the lowest 64 bits of `word`."""
    word &= _WORD
    return word - (1 << 64) if word >> 63 else word
