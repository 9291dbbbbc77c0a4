"""Files that are no images and folders of the system: passed over, and counted by their endings."""

import os
from collections import Counter

from ssl_cli.data.extras import SUFFIXES
from ssl_cli.names import counted, shown

MOST = 1000
"""Different endings that are counted."""
_SHOWN = 4
_LONGEST = 8
NEVER_COUNTED = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db", "folder.htt"})
"""Files that a system writes, in lower case."""


class Passed:
    """Count what was passed over."""

    def __init__(self) -> None:
        self.files: Counter[str] = Counter()
        self.folders: Counter[str] = Counter()
        self.results = 0

    def file(self, name: str) -> None:
        """Count a file by the ending of its name."""
        if name.lower() in NEVER_COUNTED:
            return
        ending = ending_of(name)
        known = ending in self.files or len(self.files) < MOST
        self.files[ending if known else "other"] += 1

    def folder(self, name: str) -> None:
        """Count a folder of the system."""
        self.folders[name] += 1

    def result(self) -> None:
        """Count the folder of a run or a study."""
        self.results += 1

    def note(self) -> str:
        """Describe it in a phrase, the most frequent first; empty where there is nothing."""
        files, folders = _listed(self.files), _listed(self.folders)
        runs = f"{counted(self.results, 'folder')} of runs or studies" if self.results else ""
        parts = [part for part in (files, f"system folders ({folders})" if folders else "", runs) if part]
        extras = sorted({SUFFIXES[ending][1] for ending in self.files.keys() & SUFFIXES})
        advice = f" (to read some: pip install 'sslcli[{','.join(extras)}]')" if extras else ""
        return f"passed over: {' and '.join(parts)}{advice}" if parts else ""


def _listed(counts: "Counter[str]") -> str:
    first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    more = sum(counts.values()) - sum(count for _, count in first)
    return ", ".join([f"{count:,} {shown(name)}" for name, count in first] + ([f"{more:,} others"] if more else []))


def ending_of(name: str) -> str:
    """Return the ending of a file's name in lower case, or `without an ending`, also where it is too long for one."""
    ending = os.path.splitext(name)[1].lower()  # noqa: PTH122
    return ending if 1 < len(ending) <= _LONGEST else "without an ending"
