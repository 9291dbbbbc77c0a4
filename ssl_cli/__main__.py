"""Run `sslcli` as `python -m ssl_cli` and as the installed command."""

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Whether the kernel gives transparent huge pages to all memory, on request (`madvise`), or never."""
VARIABLE, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
COMPUTING = {
    "pretrain",
    "finetune",
    "distill",
    "pipeline",
    "study",
    "knn-eval",
    "linear-eval",
    "embed",
    "neighbors",
    "map",
    "bench",
    "data",
}
"""Commands that allocate so much that a second start of the process pays."""


def request_huge_pages() -> None:
    """Have the C library request huge pages for large allocations, where the kernel gives them on request.

    Note: glibc reads the variable only when a process starts, so this one is executed again, under the same process
    id. A value that the user has set is left. Other C libraries ignore the variable.
    """
    try:
        if not COMPUTING & {*sys.argv[1:2]} or "--help" in sys.argv:
            return
        if VARIABLE in os.environ or "[madvise]" not in HUGE_PAGES.read_text(encoding="ascii"):
            return
        os.environ[VARIABLE] = TUNABLE
        os.execv(sys.executable, sys.orig_argv)
    except (OSError, ValueError):  # not Linux, a kernel without them, or a Python that cannot be executed again
        return


def run() -> int:
    """Run the command line of this process; returns its exit code."""
    quiet = end_quietly_at_ctrl_c()
    request_huge_pages()
    from ssl_cli.spinning import cores_in_use, cpu_time, limit_spinning

    before = cpu_time()
    from ssl_cli.cli import main  # imported late: a process that is executed again does not need it
    from ssl_cli.trackers.recorder import hung

    limit_spinning(cores_in_use(before, cpu_time()))
    if quiet:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # main cleans up, and reports it
    code = main()
    if quiet:
        signal.signal(signal.SIGINT, lambda number, frame: os._exit(code))  # all is written: no traceback at the end
    end_without(code, hung)
    return code


def end_quietly_at_ctrl_c() -> bool:
    """End this process with exit code 130 at a Ctrl-C while our modules are imported, where Python shows a traceback.

    Returns:
        Whether Ctrl-C is handled so; it is not where it was ignored or handled already.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return False
    report = b'{"error": {"code": 130, "message": "Stopped: SIGINT was received.", "hint": "Run it again."}}\n'

    def end(number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.write(1, report if "--json" in sys.argv else b"")
        os._exit(130)

    signal.signal(signal.SIGINT, end)
    return True


def end_without(code: int, hung: Sequence[str]) -> None:
    """End the process at once where trackers hang: at its exit it would wait for their libraries."""
    if hung:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(run())
