"""A stream beside the one that trains, where there is no card: what it is given happens at once; who waits is noted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from ssl_cli.engine.views import Staging


class Stream:
    """Notes whom it waits for."""

    def __init__(self, name: str, waits: list[tuple[str, str]]) -> None:
        self.name, self.waits = name, waits

    def wait_stream(self, other: Stream) -> None:
        """All that `other` has been given so far comes before what this one is given next."""
        self.waits.append((self.name, other.name))


@contextmanager
def side_stream() -> Iterator[list[tuple[str, str]]]:
    """Within the block whatever is staged is staged as on a card; yields who waited for whom."""
    waits: list[tuple[str, str]] = []
    training, side = (Stream(name, waits) for name in ("training", "side"))
    made = Staging.__init__

    def init(self: Staging, *args: Any) -> None:
        made(self, *args)
        self._side = side  # type: ignore[assignment]

    with (
        patch.object(Staging, "__init__", init),
        patch("torch.cuda.stream", lambda stream: contextlib.nullcontext()),
        patch("torch.cuda.current_stream", lambda device: training),
    ):
        yield waits
