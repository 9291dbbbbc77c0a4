"""The health of a representation while it trains: is it spread over the sphere, or does it collapse?"""

from collections.abc import Mapping

import torch
from torch import Tensor

from ssl_cli.losses.geometry import effective_rank, spread, uniformity
from ssl_cli.nn.heads import unit
from ssl_cli.objective import Batch, Objective, Targets

COLLAPSED = 0.1
"""A spread below this, where 1 is the whole sphere."""
PATIENCE = 20
"""Steps for which it must last: a fresh network begins narrow, and widens within a few."""


@torch.no_grad()
def health(objective: Objective, z: Tensor, targets: Targets, batch: Batch) -> dict[str, float]:
    """What the method observes, and `spread`, `uniformity` and `effective_rank` of z `(M,D)`; read back at once."""
    numbers = dict(objective.observe(z, targets, batch))
    if z.dim() == 2 and len(z) > 1 and bool(torch.isfinite(z).all()):
        rows = unit(z)
        numbers |= {"spread": spread(rows), "uniformity": uniformity(rows), "effective_rank": effective_rank(rows)}
    return _read(numbers, z.device)


def _read(numbers: Mapping[str, float | Tensor], device: torch.device) -> dict[str, float]:
    """All numbers on the host, by one transfer."""
    if not numbers:
        return {}
    stacked = torch.stack([torch.as_tensor(value, dtype=torch.float64, device=device) for value in numbers.values()])
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
