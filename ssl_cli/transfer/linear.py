"""Linear probe: multinomial logistic regression on frozen representations, by L-BFGS.

After the transfer protocol of SimCLR (Chen et al. 2020, arXiv 2002.05709, appendix B.8): representations of
unaugmented images, no learning rate, the L2 penalty chosen on held-out training images. Ours standardises h and takes
seven penalties instead of 45. It is no `Objective`: representations are computed once, the problem is convex and solved
on all rows at once, so the training loop has nothing to offer it.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ssl_cli.data.split import hold_out
from ssl_cli.transfer.tally import accuracy

PENALTIES = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # strongest first: each fit starts from the one before
HELD_OUT = 0.1
TRIAL_ITERATIONS, ITERATIONS = 100, 500
"""L-BFGS iterations at most: for each penalty, and for the final fit, which starts from the chosen trial's weights."""


class Probe(nn.Module):
    """A linear classifier on standardised representations `(N,F)`; starts at zero, so without randomness."""

    mean: Tensor
    scale: Tensor

    def __init__(self, h: Tensor, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(h.shape[1], classes, device=h.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("mean", h.mean(0))
        # a feature that is constant on the training rows must not become huge on others
        self.register_buffer("scale", h.std(0, unbiased=False).clamp(min=1e-6))

    def forward(self, h: Tensor) -> Tensor:
        """Compute logits `(N, classes)` of h `(N,F)`."""
        return self.linear((h - self.mean) / self.scale)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Fit:
    """A fitted probe, its L2 penalty, and the accuracy on held-out rows that chose it (None without held-out rows).

    `converged` is False where `ITERATIONS` did not suffice.
    """

    probe: Probe
    l2: float
    held_out_top1: float | None
    converged: bool


def held_out(labels: Tensor, seed: int, group: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the rows `(m,)` of a held-out tenth, none of fewer than ten, and the others; no group is in both.

    Args:
        labels: int64 `(N,)`, on whose device the rows are.
        seed: chooses them.
        group: int64 `(N,)` on the CPU; None: there are none.
    """
    if group is None:
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed)).to(labels.device)
        held, rest = order.tensor_split([int(HELD_OUT * len(labels))])
        return held, rest
    rest, held = (part.to(labels.device) for part in hold_out(labels.cpu(), seed, HELD_OUT, group))
    return (held, rest) if HELD_OUT * len(labels) >= 1 else (held[:0], torch.arange(len(labels), device=labels.device))


def linear_probe(h: Tensor, labels: Tensor, *, classes: int, seed: int = 0, group: Tensor | None = None) -> Fit:
    """Choose the L2 penalty of `PENALTIES` by top-1 accuracy on a held-out tenth of the rows, then fit on all rows.

    With fewer than ten rows nothing is held out, and the middle penalty is used.

    Args:
        h: `(N,F)` representations of the training images, of any floating dtype.
        labels: int64 `(N,)`, 0 to `classes - 1`, on the device of h.
        classes: number of classes.
        seed: chooses the held-out rows; nothing else is random.
        group: int64 `(N,)` on the CPU, of which none is held out in part; None: there are none.

    Returns:
        The probe, on the device of h, with its penalty and held-out accuracy.
    """
    h = h.float()
    held, rest = held_out(labels, seed, group)
    best, l2 = None, PENALTIES[len(PENALTIES) // 2]
    probe = Probe(h, classes)
    if len(held):
        trial = Probe(h[rest], classes)
        for penalty in PENALTIES:
            fit(trial, h[rest], labels[rest], penalty, TRIAL_ITERATIONS)
            with torch.no_grad():
                top1 = accuracy(trial(h[held]), labels[held])[0]
            if best is None or top1 > best:
                best, l2 = top1, penalty
                probe.linear.load_state_dict(trial.linear.state_dict())
    converged = fit(probe, h, labels, l2, ITERATIONS)
    return Fit(probe, l2, best, converged)


def fit(probe: Probe, h: Tensor, labels: Tensor, l2: float, iterations: int = ITERATIONS) -> bool:
    """Minimise mean cross-entropy + l2 / 2 * |W|^2 over the probe's weights, from where they are; bias unpenalised.

    Returns:
        Whether L-BFGS converged within the iterations.
    """
    x = (h - probe.mean) / probe.scale
    weight, bias = probe.linear.weight, probe.linear.bias
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, history_size=10, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), labels) + l2 / 2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    state, group = optimiser.state[weight], optimiser.param_groups[0]
    return bool(state["n_iter"] < group["max_iter"] and state["func_evals"] < group["max_eval"])
