"""Memory in large pages for a whole command: handed out, and then found, in a fraction of the time.

A step takes and gives back gigabytes in pieces of megabytes. The C library asks for large pages only if a variable says
so before the process begins, so a command that finds it unset begins once more with it.
"""

import os
import sys
from pathlib import Path

VARIABLE, VALUE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
ASKED = "_SSLCLI_BEGUN_AGAIN"
"""Set when a process begins once more: should the first variable be lost on the way, it does not do so for ever."""
LEAST = (2, 35)
"""The version of the GNU C library that first had it."""
SWITCH = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def begin_with_them() -> None:
    """Begin this process once more where that gives it large pages; return where it does not, or it has them."""
    if VARIABLE in os.environ or ASKED in os.environ or not offered():
        return
    os.environ |= {VARIABLE: VALUE, ASKED: "1"}
    try:
        os.execv(sys.executable, sys.orig_argv)
    except OSError:
        return  # it does without


def offered() -> bool:
    """Whether system and C library have large pages for those who ask."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return name == "glibc" and _numbers(version) >= LEAST and "[madvise]" in SWITCH.read_text()
    except (OSError, ValueError, AttributeError):
        return False


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
