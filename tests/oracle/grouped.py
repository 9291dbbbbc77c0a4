"""The losses of positives by group in plain loops: whoever is of a row's group, but its positive, is not met."""

from cmath import exp, log
from collections.abc import Sequence

from tests.oracle.paper import Rows, dot

Groups = Sequence[int]


def others(i: int, group: Groups, images: int) -> list[int]:
    """The rows that row i is to be told from: of other images, and of other groups."""
    return [k for k in range(len(group)) if k % images != i % images and group[k] != group[i]]


def nt_xent(z: Rows, group: Groups, temperature: float, memory: Rows = (), memory_group: Groups = ()) -> complex:
    """SimCLR, equation 1, with SimCLR v2's memory."""
    total, images = 0j, len(z) // 2
    for i, row in enumerate(z):
        found = exp(dot(row, z[(i + images) % len(z)]) / temperature)
        met = [z[k] for k in others(i, group, images)]
        met += [old for old, of in zip(memory, memory_group, strict=True) if of != group[i]]
        total -= log(found / (found + sum((exp(dot(row, one) / temperature) for one in met), 0j)))
    return total / len(z)


def against_keys(z: Rows, keys: Rows, group: Groups, memory: Rows, memory_group: Groups, temperature: float) -> complex:
    """SimCLR v2 as its author has it: rows meet keys."""
    total, images = 0j, len(z) // 2
    for i, row in enumerate(z):
        found = exp(dot(row, keys[(i + images) % len(z)]) / temperature)
        met = [keys[k] for k in others(i, group, images)]
        met += [old for old, of in zip(memory, memory_group, strict=True) if of != group[i]]
        total -= log(found / (found + sum((exp(dot(row, one) / temperature) for one in met), 0j)))
    return total / len(z)


def info_nce(q: Rows, k: Rows, group: Groups, queue: Rows, queue_group: Groups, temperature: float) -> complex:
    """MoCo, equation 1."""
    total = 0j
    for query, key, own in zip(q, k, group, strict=True):
        found = exp(dot(query, key) / temperature)
        met = [old for old, of in zip(queue, queue_group, strict=True) if of != own]
        total -= log(found / (found + sum((exp(dot(query, old) / temperature) for old in met), 0j)))
    return total / len(q)


def invariant_spread(z: Rows, constants: Rows, group: Groups, temperature: float) -> complex:
    """InvaSpread as in BatchAverage.py."""
    total, count = 0j, len(z)
    for i in range(count):
        positive, met = (i + count // 2) % count, others(i, group, count // 2)
        e = {k: exp(dot(z[i], constants[k]) / temperature) for k in (positive, *met)}
        everything = sum(e.values())
        total -= log(e[positive] / everything)
        for j in met:
            total -= log(sum(e[k] for k in e if k != j) / everything)
    return total / count


def row_softmax(
    z: Rows, bank: Rows, target: Sequence[int], group: Groups, bank_group: Groups, temperature: float
) -> complex:
    """InstDisc, equations 2 and 3, where the target is a row of the image's group."""
    total = 0j
    for v, positive, own in zip(z, target, group, strict=True):
        met = [k for k, of in enumerate(bank_group) if of != own or k == positive]
        e = {k: exp(dot(v, bank[k]) / temperature) for k in met}
        total -= log(e[positive] / sum(e.values()))
    return total / len(z)


def nce(
    z: Rows, bank: Rows, rows: Sequence[Sequence[int]], group: Groups, bank_group: Groups, temperature: float, Z: float
) -> complex:
    """InstDisc, equations 4 to 7, without noise of the image's group."""
    total = 0j
    for v, (positive, *noise), own in zip(z, rows, group, strict=True):
        share = len(noise) / len(bank)
        model = exp(dot(v, bank[positive]) / temperature) / Z
        total -= log(model / (model + share + 1e-7))
        for j in noise:
            if bank_group[j] != own:
                model = exp(dot(v, bank[j]) / temperature) / Z
                total -= log(share / (model + share + 1e-7))
    return total / len(z)
