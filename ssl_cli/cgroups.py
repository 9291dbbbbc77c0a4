"""Limits of memory and cores, and kills for want of memory, of the Linux control groups that hold this process."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path("/")
_USUAL = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_LIMITS = (
    ("memory.max", "memory.current"),
    ("memory.high", "memory.current"),  # above it the kernel slows a group down until it gives memory back
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ("memory.memsw.limit_in_bytes", "memory.memsw.usage_in_bytes"),
)
_NO_LIMIT = 1 << 62
"""Version 1 has a number of about this size in place of "no limit"."""
_MACHINE = "boot "


def free(root: Path = ROOT) -> int | None:
    """Return the bytes that the tightest group leaves, cached files not counted as used; None where none is limited.

    Args:
        root: where `/proc` and `/sys` are.
    """
    found = []
    for group in _groups(root):
        for limit_name, used_name in _LIMITS:
            limit, used = _number(group / limit_name), _number(group / used_name)
            if limit is not None and used is not None and limit < _NO_LIMIT:
                found.append(max(limit - used + min(_evictable(group), used), 0))
    return min(found, default=None)


def cores(root: Path = ROOT) -> float | None:
    """Return the cores whose time the tightest group gives; None where none is limited.

    Args:
        root: where `/proc` and `/sys` are.
    """
    found = []
    for group in _groups(root, "cpu"):
        version_1 = [_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        for pair in (_text(group / "cpu.max").split(), version_1):  # microseconds of so many; "max" or -1: no limit
            if len(pair) == 2 and all(map(str.isdecimal, pair)) and int(pair[1]):
                found.append(int(pair[0]) / int(pair[1]))
    return min(found, default=None)


def oom_kills(root: Path = ROOT) -> dict[str, int]:
    """Return how many processes the kernel has killed for want of memory: in each group, and since the machine booted.

    A key names the group, too, by its inode: of two groups with one path, as containers have, each has its own.
    """
    found = {}
    for group in _groups(root):
        counts = {**_table(group / "memory.oom_control"), **_table(group / "memory.events")}
        if "oom_kill" in counts:
            found[f"{group} {group.stat().st_ino}"] = counts["oom_kill"]
    boot = _text(root / "proc/sys/kernel/random/boot_id").strip()
    on_machine = _table(root / "proc/vmstat").get("oom_kill")
    return found if on_machine is None or not boot else {**found, _MACHINE + boot: on_machine}


def killed_since(before: object, root: Path = ROOT) -> bool:
    """Return whether the kernel has killed a process for want of memory since `before`, what `oom_kills` returned.

    The groups decide, where this process is still in those of then. The machine, if it has not been booted since,
    decides where they had no counter, or are others now: a container or a job that was killed is gone.

    Args:
        before: as read from a file; what is malformed in it says nothing.
        root: where `/proc` and `/sys` are.
    """
    if not isinstance(before, Mapping):
        return False
    then = {key: count for key, count in before.items() if isinstance(key, str) and type(count) is int}
    now = oom_kills(root)
    own = next((key for key in then if not key.startswith(_MACHINE)), "")  # those above it also count what else runs
    decisive = [own] if own in now else [key for key in then if key.startswith(_MACHINE) and key in now]
    return any(now[key] > then[key] for key in decisive)


def _groups(root: Path, controller: str = "memory") -> Iterator[Path]:
    """Yield the folders of the groups that hold this process, in each hierarchy from its own group to the topmost."""
    paths = {}
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers or controller in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = path
    mounts, usual = list(_mounts(root, controller)), (*_USUAL, f"{_USUAL[0]}/{controller}")
    for kind, path in (paths or {"cgroup": "/", "cgroup2": "/"}).items():
        tops = [(top.rstrip("/"), place) for found, top, place in mounts if found == kind]
        inside = [(place, path.removeprefix(top)) for top, place in tops if f"{path}/".startswith(f"{top}/")]
        # a container may see its own group alone, while the path is that outside
        for place, below in inside or [(place, path) for _, place in tops] or [(place, path) for place in usual]:
            parts = [part for part in below.split("/") if part]
            if ".." in parts:  # above what this process may see
                parts = []
            for depth in range(len(parts), -1, -1):
                if (group := root.joinpath(place.lstrip("/"), *parts[:depth])).is_dir():
                    yield group


def _mounts(root: Path, controller: str) -> Iterator[tuple[str, str, str]]:
    """Yield the kind of each mounted hierarchy with a controller, its topmost group, and where it is mounted."""
    for line in _text(root / "proc/self/mountinfo").splitlines():
        fields, _, source = line.partition(" - ")
        names, kind = fields.split(" "), source.split(" ")
        if len(names) > 4 and (kind[0] == "cgroup2" or (kind[0] == "cgroup" and controller in kind[-1].split(","))):
            top, place = (re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), name) for name in names[3:5])
            yield kind[0], top, place


def _evictable(group: Path) -> int:
    """Return the bytes of a group that the kernel evicts on demand: cached files that no process maps."""
    stat = _table(group / "memory.stat")
    cached, mapped = ("inactive_file", "active_file"), "file_mapped"
    if f"total_{cached[0]}" in stat:  # version 1: those without `total_` leave out the groups below
        cached, mapped = ("total_inactive_file", "total_active_file"), "total_mapped_file"
    files = sum(stat.get(name, 0) for name in cached) - stat.get(mapped, 0)
    return max(files, 0) + stat.get("slab_reclaimable", 0)


def _table(path: Path) -> dict[str, int]:
    """Read the lines `name number` of a file; empty where it cannot be read."""
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdecimal() else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
