"""The health of a representation while it trains: is it spread over the sphere, or does it collapse?"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ssl_cli.events import COLLAPSED
from ssl_cli.losses.geometry import ROWS, effective_rank, spread, uniformity
from ssl_cli.nn.heads import unit
from ssl_cli.objective import Batch, Objective, Targets

PATIENCE = 20
"""Steps for which it must last: a fresh network begins narrow, and widens within a few."""


@torch.no_grad()
def health(objective: Objective, z: Tensor, targets: Targets, batch: Batch) -> dict[str, float]:
    """What the method observes, and `spread`, `uniformity` and `effective_rank` of its z `(M,D)`."""
    numbers = _read(objective.observe(z, targets, batch), z.device)
    # a few hundred rows on the host: not every device has eigenvalues or float64
    rows = unit(z[:ROWS]).cpu() if z.dim() == 2 else z[:0].cpu()
    if len(rows) > 1 and bool(torch.isfinite(rows).all()):
        geometry = {"spread": spread, "uniformity": uniformity, "effective_rank": effective_rank}
        numbers |= {name: float(measure(rows)) for name, measure in geometry.items()}
    return numbers


def _read(numbers: Mapping[str, float | Tensor], device: torch.device) -> dict[str, float]:
    """All numbers on the host, by one transfer."""
    if not numbers:
        return {}
    stacked = torch.stack([torch.as_tensor(value, dtype=torch.float32, device=device) for value in numbers.values()])
    return dict(zip(numbers, stacked.tolist(), strict=True))


class CollapseWatch:
    """Notices a representation that has collapsed, and says so once."""

    def __init__(self) -> None:
        self._since: int | None = None
        self._told = False

    def sees(self, step: int, numbers: Mapping[str, float]) -> bool:
        """Whether at `step` it is found, for the first time, to have been collapsed for a while."""
        if numbers.get("spread", 1.0) >= COLLAPSED:
            self._since = None
            return False
        if self._since is None:
            self._since = step
        if self._told or step - self._since < PATIENCE:
            return False
        self._told = True
        return True
