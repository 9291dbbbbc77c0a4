"""End a rank that waits for one that is lost.

A collective on the CPU fails as soon as a connection is lost, but a GPU waits for NCCL's timeout, and with it the host,
in a call that handles no signal. So each rank waits, in a thread, for a message of the previous rank, and passes the
loss of a connection on to the next one.
"""

import os
import signal
import threading
import time

import torch
import torch.distributed as dist

from ssl_cli import distributed
from ssl_cli.errors import STOPPED

ENDED, LOST = 0, 1
GRACE_SECONDS = 20.0
"""How long a rank has to end by itself; torch's launchers kill it after 30 s."""


class Watchdog:
    """Watch the other ranks and the launcher in threads, from within the process group of a run.

    Note: where a rank is lost, `distributed.rank_lost` is set, and after `GRACE_SECONDS` this process exits with 75
    (stopped, resumable), whatever its main thread does. Where torch's launcher is gone, this process sends itself
    SIGTERM, so that the run is saved and stopped.
    """

    def __init__(self) -> None:
        self._closed = False
        self._thread = threading.Thread(target=self._watch_previous_rank, daemon=True)
        self._thread.start()
        if "TORCHELASTIC_RUN_ID" in os.environ:
            threading.Thread(target=_watch_launcher, args=(os.getppid(),), daemon=True).start()

    def close(self) -> None:
        """Report to the next rank that this one has ended as it should, and wait for the others."""
        self._closed = True
        self._send(ENDED)
        self._thread.join()

    def _watch_previous_rank(self) -> None:
        state = torch.tensor([LOST])
        try:
            previous = (distributed.rank() - 1) % distributed.world_size()
            dist.recv(state, previous, group=distributed.control_group)
        except RuntimeError:
            state.fill_(LOST)  # the connection is lost
        if self._closed or state.item() == ENDED:
            return
        distributed.rank_lost.set()
        self._send(LOST)
        time.sleep(GRACE_SECONDS)
        os._exit(STOPPED)

    def _send(self, state: int) -> None:
        try:
            following = (distributed.rank() + 1) % distributed.world_size()
            dist.send(torch.tensor([state]), following, group=distributed.control_group)
        except RuntimeError:
            return  # it is gone as well


def _watch_launcher(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)
