"""Run `sslcli` as `python -m ssl_cli` and as the installed command."""

import os
import sys
from pathlib import Path

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Whether the kernel gives transparent huge pages to all memory, on request (`madvise`), or never."""


def request_huge_pages() -> None:
    """Have PyTorch's CPU allocator request huge pages where the kernel gives them on request.

    Note: sets `THP_MEM_ALLOC_ENABLE`, which PyTorch reads at its first allocation, so call it before importing torch.
    A value that the user has set is left.
    """
    try:
        on_request = "[madvise]" in HUGE_PAGES.read_text(encoding="ascii")
    except (OSError, ValueError):  # not Linux, or a kernel without them
        return
    if on_request:
        os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def run() -> int:
    """Run the command line of this process; returns its exit code."""
    request_huge_pages()
    from ssl_cli.cli import main  # imported late: its imports must find the variable set

    return main()


if __name__ == "__main__":
    sys.exit(run())
