"""Exchange between ranks at the end of a step: files that could not be read, signals, and the time limit."""

import json
import time

from ssl_cli import distributed
from ssl_cli.config.units import format_seconds
from ssl_cli.data.loader import Loader
from ssl_cli.errors import STOPPED
from ssl_cli.events import Skipped, Stopped
from ssl_cli.signals import StopRequest, exit_code, stop_reason


class Exchange:
    """Collect skipped files and stop requests of all ranks.

    Args:
        loader: its list `skipped` is read and emptied after each step.
        stop: signals that this rank received.
        max_time: seconds after which to stop, from now; None: no limit.
    """

    def __init__(self, loader: Loader, stop: StopRequest, max_time: float | None) -> None:
        self.loader, self.stop, self.max_time = loader, stop, max_time
        self._started = time.monotonic()
        self._reported = set[str]()

    def after_step(self, step: int) -> tuple[list[Skipped], Stopped | None]:
        """Return the files skipped on any rank since the last call, and whether all ranks stop after `step` steps."""
        found, self.loader.skipped[:] = list(self.loader.skipped), []
        files = json.dumps([(event.path, event.reason) for event in found]).encode() if found else b""
        late = self.max_time is not None and time.monotonic() - self._started >= self.max_time
        signal, late_anywhere, size = distributed.all_reduce_max(self.stop.signal or 0, int(late), len(files))
        skipped = []
        for encoded in distributed.all_gather_bytes(files) if size else ():
            for path, reason in json.loads(encoded or b"[]"):
                if path not in self._reported:  # several ranks may have tried to read it
                    self._reported.add(path)
                    skipped.append(Skipped(step=step, path=path, reason=reason))
        if signal:
            return skipped, Stopped(step=step, exit_code=exit_code(signal), reason=stop_reason(signal))
        if late_anywhere:
            reason = f"its --max-time of {format_seconds(self.max_time or 0.0)} is over"
            return skipped, Stopped(step=step, exit_code=STOPPED, reason=reason)
        return skipped, None
