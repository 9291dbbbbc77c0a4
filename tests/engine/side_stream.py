"""A side stream where there is no GPU: what is queued on it runs at once, and who waits for whom is recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from ssl_cli.engine.views import ViewLoader


class Stream:
    """Record which streams it waits for."""

    def __init__(self, name: str, waits: list[tuple[str, str]]) -> None:
        self.name, self.waits = name, waits

    def wait_stream(self, other: Stream) -> None:
        """Record that everything queued on `other` so far comes before what is queued here next."""
        self.waits.append((self.name, other.name))


@contextmanager
def side_stream() -> Iterator[list[tuple[str, str]]]:
    """Within the block views are prefetched as on a GPU; yield who waited for whom."""
    waits: list[tuple[str, str]] = []
    training, side = (Stream(name, waits) for name in ("training", "side"))
    honest = ViewLoader.__init__

    def init(self: ViewLoader, *args: Any, **kwargs: Any) -> None:
        honest(self, *args, **kwargs)
        self._side_stream = side  # type: ignore[assignment]

    with (
        patch.object(ViewLoader, "__init__", init),
        patch("torch.cuda.stream", lambda stream: contextlib.nullcontext()),
        patch("torch.cuda.current_stream", lambda device: training),
        patch("torch.cuda.synchronize", lambda device: waits.append(("host", "device"))),
        patch("torch.cuda.empty_cache", lambda: None),
    ):
        yield waits
