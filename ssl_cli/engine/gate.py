"""What a step whose loss or gradient is not finite may move: nothing, neither weights nor what a method keeps.

On a CPU the host reads the verdict, which costs nothing. On a card it would wait for the whole step, so there a step
moves state on trust, and the verdict is read once the next step's passes are on their way. Where it was bad, all
tensors are put back as they were before, and those passes are made anew: every later step is then what it would have
been. That holds for any method, since all that `after_step` moves is a parameter or a buffer (`ssl_cli.objective`).
"""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


class Gate(Protocol):
    """Judges steps one after another."""

    def admits(self, finite: Tensor) -> bool:
        """Whether a step may move state now; `finite` 0-d is the verdict, where it was computed."""

    @property
    def known(self) -> bool:
        """Whether the host has the last verdict."""

    def settle(self) -> bool:
        """Whether the step last judged was good; where it was not, nothing has moved by it any more."""

    def took_back(self) -> bool:
        """Whether, since this was last asked, a step was taken back after it had moved something."""


class HostGate:
    """Reads each verdict before anything moves."""

    def __init__(self) -> None:
        self._good = True

    def admits(self, finite: Tensor) -> bool:
        """The verdict."""
        self._good = bool(finite)
        return self._good

    @property
    def known(self) -> bool:
        """Always."""
        return True

    def settle(self) -> bool:
        """As it was read."""
        return self._good

    def took_back(self) -> bool:
        """Never."""
        return False


class LateGate:
    """Lets every step pass, and takes back those that should not have.

    Until a first step was good it reads the verdict at once: that step makes the optimiser's state.
    """

    def __init__(self, objective: nn.Module, optimiser: Optimizer) -> None:
        self.objective, self.optimiser = objective, optimiser
        self._primed = self._pending = self._took_back = False
        self._good = True
        self._held: list[Tensor] = []
        device = next(objective.parameters()).device
        self._flag = torch.ones((), dtype=torch.bool, pin_memory=device.type == "cuda")
        self._read = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def admits(self, finite: Tensor) -> bool:
        """True; the verdict is on its way to the host, and state as it is now is kept."""
        if not self._primed:
            self._primed = self._good = bool(finite)
            return self._good
        self._hold()
        self._flag.copy_(finite, non_blocking=True)
        if self._read is not None:
            self._read.record()
        self._pending = True
        return True

    @property
    def known(self) -> bool:
        """Where nothing is on its way."""
        return not self._pending

    @torch.no_grad()
    def settle(self) -> bool:
        """Wait for the verdict; put everything back where it was bad."""
        if self._pending:
            self._pending = False
            if self._read is not None:
                self._read.synchronize()
            self._good = bool(self._flag)
            if not self._good:
                _copy(self._held, list(self._state()))
                self._took_back = True
        return self._good

    def took_back(self) -> bool:
        """Processes that settled at different times all learn of it where they next ask: before the next step."""
        took, self._took_back = self._took_back, False
        return took

    @torch.no_grad()
    def _hold(self) -> None:
        state = list(self._state())
        if len(self._held) != len(state):
            self._held = [tensor.detach().clone() for tensor in state]
        else:
            _copy(state, self._held)

    def _state(self) -> Iterator[Tensor]:
        """All that a step can move."""
        yield from self.objective.parameters()
        yield from self.objective.buffers()
        for kept in self.optimiser.state.values():
            yield from (value for value in kept.values() if isinstance(value, Tensor))


def _copy(tensors: list[Tensor], onto: list[Tensor]) -> None:
    """All of a type at once; of mixed ones a card copies each by itself."""
    for dtype in {tensor.dtype for tensor in tensors}:
        to, of = ([tensor for tensor in some if tensor.dtype == dtype] for some in (onto, tensors))
        torch._foreach_copy_(to, of)


def gate(objective: nn.Module, optimiser: Optimizer, device: torch.device) -> Gate:
    """The gate that suits the device."""
    return LateGate(objective, optimiser) if device.type == "cuda" else HostGate()
