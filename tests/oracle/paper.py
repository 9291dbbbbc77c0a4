"""The papers in plain loops over Python's numbers, by their own words: what fast code is held against.

Losses take complex numbers as well, so that `slope` finds their exact gradient; no product is conjugated.
"""

import math
from cmath import exp, log
from collections.abc import Sequence

Row = Sequence[complex]
Rows = Sequence[Row]
Plain = list[list[float]]
WORD = (1 << 64) - 1


def dot(a: Row, b: Row) -> complex:
    return sum((x * y for x, y in zip(a, b, strict=True)), 0j)


def nt_xent(z: Rows, temperature: float, memory: Rows = ()) -> complex:
    """SimCLR, equation 1; rows are first views, then second ones. SimCLR v2's memory adds negatives to every row."""
    total = 0j
    for i, row in enumerate(z):
        e = {k: exp(dot(row, z[k]) / temperature) for k in range(len(z)) if k != i}
        strangers = sum((exp(dot(row, old) / temperature) for old in memory), 0j)
        total -= log(e[(i + len(z) // 2) % len(z)] / (sum(e.values()) + strangers))
    return total / len(z)


def against_keys(z: Rows, keys: Rows, memory: Rows, temperature: float) -> complex:
    """SimCLR v2 as its author has it (simclr#115).

    A view is to find the other view's key, against both keys of every other image of the batch, and the memory.
    """
    total, images = 0j, len(z) // 2
    for i, row in enumerate(z):
        met = [key for j, key in enumerate(keys) if j % images != i % images]
        found = exp(dot(row, keys[(i + images) % len(z)]) / temperature)
        others = sum((exp(dot(row, key) / temperature) for key in [*met, *memory]), 0j)
        total -= log(found / (found + others))
    return total / len(z)


def cross_entropy(logits: Rows, labels: Sequence[int]) -> complex:
    """The mean over the rows with a label, 0 or above."""
    total, count = 0j, 0
    for row, label in zip(logits, labels, strict=True):
        if label >= 0:
            total -= log(exp(row[label]) / sum(exp(x) for x in row))
            count += 1
    return total / max(count, 1)


def soft_cross_entropy(logits: Rows, teacher: Rows, temperature: float) -> complex:
    """SimCLR v2, equation 2."""
    total = 0j
    for row, wanted in zip(logits, teacher, strict=True):
        p = [exp(t / temperature) for t in wanted]
        q = [exp(x / temperature) for x in row]
        for t, s in zip(p, q, strict=True):
            total -= t / sum(p) * log(s / sum(q))
    return total / len(logits)


def head_layer(h: Rows, weight: Rows, gamma: Row, beta: Row, eps: float) -> list[list[complex]]:
    """SimCLR's code, model_util.py: a dense layer without bias, BatchNorm of the batch, ReLU."""
    out = [[dot(row, w) for w in weight] for row in h]
    for c in range(len(weight)):
        mean = sum(row[c] for row in out) / len(out)
        variance = sum((row[c] - mean) * (row[c] - mean) for row in out) / len(out)
        for row in out:
            x = gamma[c] * (row[c] - mean) / (variance + eps) ** 0.5 + beta[c]
            row[c] = x if x.real > 0 else 0j
    return out


def linear(h: Rows, weight: Rows, bias: Row) -> list[list[complex]]:
    """A classifier."""
    return [[dot(row, w) + b for w, b in zip(weight, bias, strict=True)] for row in h]


def info_nce(q: Rows, k: Rows, queue: Rows, temperature: float) -> complex:
    """MoCo, equation 1."""
    total = 0j
    for query, key in zip(q, k, strict=True):
        positive = exp(dot(query, key) / temperature)
        total -= log(positive / (positive + sum((exp(dot(query, old) / temperature) for old in queue), 0j)))
    return total / len(q)


def row_softmax(z: Rows, bank: Rows, index: Sequence[int], temperature: float) -> complex:
    """InstDisc, equations 2 and 3: which of the bank's rows is the image's own."""
    total = 0j
    for v, own in zip(z, index, strict=True):
        e = [exp(dot(v, row) / temperature) for row in bank]
        total -= log(e[own] / sum(e))
    return total / len(z)


def nce_constant(z: Rows, bank: Rows, rows: Sequence[Sequence[int]], temperature: float) -> float:
    """InstDisc, equation 8, over the whole batch and with the own rows, as in NCEAverage.py."""
    every = [exp(dot(v, bank[j]) / temperature).real for v, met in zip(z, rows, strict=True) for j in met]
    return len(bank) * sum(every) / len(every)


def nce(z: Rows, bank: Rows, rows: Sequence[Sequence[int]], temperature: float, Z: float) -> complex:
    """InstDisc, equations 4 to 7, with the code's eps; `rows` has an embedding's own row first, then its noise."""
    total = 0j
    for v, (own, *noise) in zip(z, rows, strict=True):
        share = len(noise) / len(bank)
        model = exp(dot(v, bank[own]) / temperature) / Z
        total -= log(model / (model + share + 1e-7))
        for j in noise:
            model = exp(dot(v, bank[j]) / temperature) / Z
            total -= log(share / (model + share + 1e-7))
    return total / len(z)


def proximal(z: Rows, previous: Rows) -> complex:
    """InstDisc, the last term of equation 10."""
    pairs = zip(z, previous, strict=True)
    return sum(((x - y) ** 2 for new, old in pairs for x, y in zip(new, old, strict=True)), 0j) / len(z)


def invariant_spread(z: Rows, constants: Rows, temperature: float) -> complex:
    """InvaSpread as in BatchAverage.py: rows meet `constants`, the same embeddings, which no step of the rows moves.

    1 - P is the share of all others, which has more digits than the difference.
    """
    total, count = 0j, len(z)
    for i in range(count):
        e = {k: exp(dot(z[i], constants[k]) / temperature) for k in range(count) if k != i}
        everything, positive = sum(e.values()), (i + count // 2) % count
        total -= log(e[positive] / everything)
        for j in e:
            if j != positive:
                total -= log(sum(e[k] for k in e if k != j) / everything)
    return total / count


def fifo(rows: Plain, pushes: Sequence[Plain]) -> Plain:
    """MoCo's queue, oldest first, after each key of some pushes went in and the oldest went out."""
    queue = list(rows)
    for keys in pushes:
        for key in keys:
            queue = [*queue[1:], key]
    return queue


def blended(bank: Plain, index: Sequence[int], z: Plain, momentum: float) -> Plain:
    """InstDisc's code on one device: all blends read the old rows, then each row is written, of length one."""
    new = list(bank)
    for i, row in zip(index, z, strict=True):
        mixed = [momentum * a + (1 - momentum) * b for a, b in zip(bank[i], row, strict=True)]
        length = math.sqrt(math.fsum(x * x for x in mixed))
        new[i] = [x / length for x in mixed]
    return new


def update_ema(key: list[float], online: Sequence[list[float]], momentum: float) -> list[float]:
    """MoCo, equation 2, once for each state of the online encoder."""
    for weights in online:
        key = [momentum * a + (1 - momentum) * b for a, b in zip(key, weights, strict=True)]
    return key


def lars(
    w: list[float], grads: Plain, rates: Sequence[float], momentum: float, decay: float, trust: float, adapt: bool
) -> list[float]:
    """LARS as in SimCLR's code: the rate stands inside the momentum."""
    velocity = [0.0] * len(w)
    for gradient, rate in zip(grads, rates, strict=True):
        g = [a + decay * b for a, b in zip(gradient, w, strict=True)]
        weight, length = math.sqrt(math.fsum(x * x for x in w)), math.sqrt(math.fsum(x * x for x in g))
        ratio = trust * weight / length if adapt and weight > 0 and length > 0 else 1.0
        velocity = [momentum * v + rate * ratio * x for v, x in zip(velocity, g, strict=True)]
        w = [x - v for x, v in zip(w, velocity, strict=True)]
    return w


def sgd(
    w: list[float], grads: Plain, rates: Sequence[float], momentum: float, decay: float, nesterov: bool
) -> list[float]:
    """As MoCo has it: the rate stands outside the momentum (Sutskever et al. 2013, as PyTorch reads it)."""
    velocity = [0.0] * len(w)
    for gradient, rate in zip(grads, rates, strict=True):
        g = [a + decay * b for a, b in zip(gradient, w, strict=True)]
        velocity = [momentum * v + x for v, x in zip(velocity, g, strict=True)]
        way = [x + momentum * v for x, v in zip(g, velocity, strict=True)] if nesterov else velocity
        w = [x - rate * step for x, step in zip(w, way, strict=True)]
    return w


def adamw(
    w: list[float], grads: Plain, rates: Sequence[float], betas: tuple[float, float], decay: float
) -> list[float]:
    """Loshchilov and Hutter 2019, algorithm 2, its decay times the rate."""
    first, second = [0.0] * len(w), [0.0] * len(w)
    for t, (gradient, rate) in enumerate(zip(grads, rates, strict=True), 1):
        first = [betas[0] * m + (1 - betas[0]) * g for m, g in zip(first, gradient, strict=True)]
        second = [betas[1] * v + (1 - betas[1]) * g * g for v, g in zip(second, gradient, strict=True)]
        means, squares = [m / (1 - betas[0] ** t) for m in first], [v / (1 - betas[1] ** t) for v in second]
        ways = [m / (math.sqrt(v) + 1e-8) for m, v in zip(means, squares, strict=True)]
        w = [x - rate * (way + decay * x) for x, way in zip(w, ways, strict=True)]
    return w


def peak_rate(rule: str, base: float, batch: int) -> float:
    """Goyal et al. 2017 and SimCLR, appendix B.1."""
    return base * {"linear": batch / 256, "sqrt": math.sqrt(batch), "none": 1.0}[rule]


def rates(
    peak: float,
    epochs: int,
    steps: int,
    warmup: float = 0.0,
    kind: str = "cosine",
    every: str = "step",
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> list[float]:
    """The rate of every step of a run of `epochs` times `steps`: a ramp, then a cosine, a staircase or a plateau."""
    ramp, found = round(warmup * steps), []
    for epoch in range(epochs):
        for place in range(steps):
            now = epoch * steps + place
            began = now if every == "step" else epoch * steps
            if now < ramp:
                found.append(peak / ramp * now)
            elif kind == "cosine":
                done = max(began - ramp, 0) / (epochs * steps - ramp)
                found.append(peak * math.cos(math.pi / 2 * done) ** 2)
            else:
                found.append(peak * gamma ** len([m for m in milestones if m <= epoch and kind == "step"]))
    return found


def splitmix(*words: int) -> int:
    """Steele, Lea and Flood 2014: 64 bits from some integers, absorbed one after the other."""
    state = 0
    for word in words:
        state = (state + 0x9E3779B97F4A7C15 * (word + 1)) & WORD
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 & WORD
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB & WORD
        state ^= state >> 31
    return state


def permutation(n: int, *words: int) -> list[int]:
    """Numbers below n by their hash as a signed word."""
    return sorted(range(n), key=lambda i: (splitmix(*words, i) + (1 << 63)) & WORD)


def batches(seed: int, images: int, batch: int, epochs: int) -> list[list[int]]:
    """The images of every step: each epoch in an order of its own, what is left at its end dropped."""
    found = []
    for epoch in range(epochs):
        order = permutation(images, seed, epoch)
        while len(order) >= batch:
            found.append(order[:batch])
            order = order[batch:]
    return found


def noise(count: int, rows: int, *words: int, first: int) -> list[int]:
    """Row numbers drawn with replacement, one a slot from `first` on."""
    return [(splitmix(*words, first + k) >> 32) * rows >> 32 for k in range(count)]


def votes(
    bank: Plain, labels: Sequence[int], query: list[float], classes: int, k: int, temperature: float
) -> list[float]:
    """InstDisc, section 3.4: the share of the vote exp(s / T) that each class gets from the k nearest rows."""

    def cosine(row: list[float]) -> float:
        return dot(row, query).real / math.sqrt(dot(row, row).real * dot(query, query).real)

    similarity = [cosine(row) for row in bank]
    score = [0.0] * classes
    for i in sorted(range(len(bank)), key=lambda i: -similarity[i])[:k]:
        score[labels[i]] += math.exp(similarity[i] / temperature)
    return [s / math.fsum(score) for s in score]
