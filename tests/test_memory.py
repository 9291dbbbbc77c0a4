"""Limits of control groups and `ulimit`: read from trees as systemd, Slurm and Docker make them, and for real."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ssl_cli import cgroups, memory
from ssl_cli.data import reader
from ssl_cli.errors import convert_exception

GB = 10**9
UNLIMITED = "9223372036854771712"
V2 = "/sys/fs/cgroup"
V1 = "/sys/fs/cgroup/memory"
MOUNT_V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate"
MOUNT_V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"
HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"


def tree(root: Path, groups: str, mounts: str, files: Mapping[str, object]) -> Path:
    """Write `/proc` and `/sys` below `root`."""
    named = {"/proc/self/cgroup": groups, "/proc/self/mountinfo": mounts, **files}
    for name, text in named.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def v2(folder: str, most: object, used: int, **more: object) -> dict[str, object]:
    found = {"max": most, "current": used, **more}
    return {f"{folder}/memory.{name}": value for name, value in found.items()}


def v1(folder: str, most: object, used: int, **more: object) -> dict[str, object]:
    found = {"limit_in_bytes": most, "usage_in_bytes": used, **more}
    return {f"{folder}/memory.{name}": value for name, value in found.items()}


DOCKER = "/docker/0a1b"
SLURM = "/slurm/uid_1000/job_7/step_0/task_0"
STEP = "/system.slice/slurmstepd.scope/job_7/step_0/user/task_0"
LAYOUTS: dict[str, tuple[str, str, dict[str, object], int | None]] = {
    "v2, no limit": ("0::/user.slice", MOUNT_V2, v2(f"{V2}/user.slice", "max", GB), None),
    "v2, its own group": ("0::/a", MOUNT_V2, v2(f"{V2}/a", 3 * GB, GB), 2 * GB),
    "v2, a systemd slice above a scope": (
        "0::/user.slice/user-1000.slice/run-1.scope",
        MOUNT_V2,
        v2(f"{V2}/user.slice/user-1000.slice", 2 * GB, GB)
        | v2(f"{V2}/user.slice/user-1000.slice/run-1.scope", "max", 5),
        GB,
    ),
    "v2, the topmost of four": (
        "0::/a/b/c/d",
        MOUNT_V2,
        v2(f"{V2}/a", 2 * GB, GB) | v2(f"{V2}/a/b", "max", 0) | v2(f"{V2}/a/b/c/d", 4 * GB, 0),
        GB,
    ),
    "v2, memory.high": ("0::/a", MOUNT_V2, v2(f"{V2}/a", 4 * GB, GB, high=2 * GB), GB),
    "v2, over memory.high": ("0::/a", MOUNT_V2, v2(f"{V2}/a", "max", 3 * GB, high=2 * GB), 0),
    "v2, cached files": (
        "0::/a",
        MOUNT_V2,
        v2(f"{V2}/a", 2 * GB, 2 * GB, stat=f"inactive_file {GB}\nactive_file {GB // 2}\nfile_mapped {GB // 4}"),
        GB + GB // 4,
    ),
    "v2, more cache than use": ("0::/a", MOUNT_V2, v2(f"{V2}/a", GB, 5, stat=f"inactive_file {GB}"), GB),
    "v2, a Slurm step": (f"0::{STEP}", MOUNT_V2, v2(f"{V2}/system.slice/slurmstepd.scope/job_7", 2 * GB, GB), GB),
    "v2, Docker with a namespace": ("0::/", MOUNT_V2, v2(V2, GB, 0), GB),
    "v2, Docker, a mount of the group alone": (
        f"0::{DOCKER}",
        MOUNT_V2.replace(" / /sys", f" {DOCKER} /sys"),
        v2(V2, GB, 0),
        GB,
    ),
    "v2, Docker, a group within its own": (
        f"0::{DOCKER}/init",
        MOUNT_V2.replace(" / /sys", f" {DOCKER} /sys"),
        v2(V2, 2 * GB, 0) | v2(f"{V2}/init", GB, 0),
        GB,
    ),
    "v2, a container's path that is not mounted": (f"0::{DOCKER}", MOUNT_V2, v2(V2, GB, 0), GB),
    "v2, above the namespace": ("0::/../other", MOUNT_V2, v2(V2, GB, 0) | v2("/sys/fs/other", 5, 0), GB),
    "v2, another's group mounted too": (
        "0::/mine",
        f"{MOUNT_V2}\n40 23 0:28 /other /mnt/other rw - cgroup2 cgroup2 rw",
        v2(f"{V2}/mine", 2 * GB, 0) | v2("/mnt/other", 5, 5),
        2 * GB,
    ),
    "v2, mounted elsewhere, with a blank": (
        "0::/a b",
        r"31 23 0:28 / /mnt/c\040g rw - cgroup2 none rw",
        v2("/mnt/c g/a b", GB, 0),
        GB,
    ),
    "v2, a group that was removed": ("0::/a/gone (deleted)", MOUNT_V2, v2(f"{V2}/a", GB, 0), GB),
    "v1, no limit": ("4:memory:/a", MOUNT_V1, v1(f"{V1}/a", UNLIMITED, GB), None),
    "v1, the job of a Slurm task": (
        f"4:memory:{SLURM}",
        MOUNT_V1,
        v1(f"{V1}/slurm/uid_1000/job_7", 2 * GB, GB) | v1(f"{V1}{SLURM}", UNLIMITED, GB),
        GB,
    ),
    "v1, cached files of the groups below": (
        "4:memory:/a",
        MOUNT_V1,
        v1(f"{V1}/a", 2 * GB, 2 * GB, stat=f"inactive_file 0\ntotal_inactive_file {GB}\ntotal_active_file 0"),
        GB,
    ),
    "v1, memory and swap": (
        "4:memory:/a",
        MOUNT_V1,
        v1(f"{V1}/a", 4 * GB, 0)
        | {f"{V1}/a/memory.memsw.{name}_in_bytes": n for name, n in (("limit", GB), ("usage", 0))},
        GB,
    ),
    "v1, Docker, a mount of the group alone": (
        f"4:memory:{DOCKER}",
        MOUNT_V1.replace(" / /sys", f" {DOCKER} /sys"),
        v1(V1, GB, 0),
        GB,
    ),
    "v1, with other controllers": (
        "4:cpu,memory:/a",
        MOUNT_V1.replace("rw,memory", "rw,cpu,memory"),
        v1(f"{V1}/a", GB, 0),
        GB,
    ),
    "hybrid, limited in v1": ("4:memory:/a\n0::/b", f"{MOUNT_V1}\n{HYBRID}", v1(f"{V1}/a", GB, 0), GB),
    "hybrid, limited in v2": (
        "4:cpu:/x\n0::/b",
        f"{MOUNT_V1.replace('memory', 'cpu')}\n{HYBRID}",
        v2("/sys/fs/cgroup/unified/b", GB, 0),
        GB,
    ),
    "no mounts listed, v2": ("0::/a", "", v2(f"{V2}/a", GB, 0), GB),
    "no mounts listed, v1": ("4:memory:/a", "", v1(f"{V1}/a", GB, 0), GB),
    "nothing listed": ("", "", v2(V2, GB, 0), GB),
    "lines of something else": ("nonsense\n\x00:", "nonsense - \n - cgroup2", {f"{V2}/memory.max": "many"}, None),
    "unreadable numbers": (
        "0::/a",
        MOUNT_V2,
        v2(f"{V2}/a", "-5", 0) | {f"{V2}/a/memory.stat": "inactive_file\nx y"},
        None,
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_tightest_group_from_the_process_s_own_upwards_bounds_it(name: str, tmp_path: Path) -> None:
    groups, mounts, files, left = LAYOUTS[name]
    assert cgroups.free(tree(tmp_path, groups, mounts, files)) == left


def test_a_system_without_control_groups_has_no_limit(tmp_path: Path) -> None:
    assert cgroups.free(tmp_path) is None
    assert cgroups.oom_kills(tmp_path) == {}
    assert not cgroups.killed_since({}, tmp_path)


def test_what_limits_leave_bounds_what_is_available(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "free", lambda: 5)
    assert memory.available() == memory.within_limits() == 5
    monkeypatch.setattr(cgroups, "free", lambda: None)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert memory.within_limits() is None
    assert memory.available() > 5


@pytest.mark.parametrize("kind", [resource.RLIMIT_AS, resource.RLIMIT_DATA])
def test_a_limit_of_what_the_process_maps_bounds_what_is_available(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {kind: 1 << 50}
    monkeypatch.setattr(cgroups, "free", lambda: None)
    monkeypatch.setattr(resource, "getrlimit", lambda asked: (limits.get(asked, resource.RLIM_INFINITY),))
    found = memory.within_limits()
    assert found is not None
    assert 0 < (1 << 50) - found < 1 << 46
    limits[kind] = 4096
    assert memory.available() == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["-v", "-d"])
def test_ulimit_bounds_what_is_available(kind: str) -> None:
    code = "from ssl_cli import memory; print(memory.available())"
    script = f'ulimit {kind} 6000000; exec "{sys.executable}" -c "{code}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert 0 < int(done.stdout) < 6000000 * 1024


COUNTERS = {
    "v2": (
        "0::/a/b",
        MOUNT_V2,
        f"{V2}/a/b/memory.events",
        "low 0\nhigh 3\nmax 9\noom 2\noom_kill {}\noom_group_kill 0",
    ),
    "v2, of the slice above": ("0::/a/b", MOUNT_V2, f"{V2}/a/memory.events", "oom_kill {}"),
    "v1": ("4:memory:/a/b", MOUNT_V1, f"{V1}/a/b/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill {}"),
    "the machine's": ("0::/a/b", MOUNT_V2, "/proc/vmstat", "nr_free_pages 12\noom_kill {}"),
}
MACHINE = {"/proc/sys/kernel/random/boot_id": "c0ffee", "/proc/vmstat": "oom_kill 7"}


@pytest.mark.parametrize("name", COUNTERS)
@pytest.mark.parametrize("kills", [0, 1, 3])
def test_a_kill_is_seen_by_the_counter_that_has_risen(name: str, kills: int, tmp_path: Path) -> None:
    groups, mounts, file, text = COUNTERS[name]
    root = tree(tmp_path, groups, mounts, {**MACHINE, f"{V2}/a/b/x": "", f"{V1}/a/b/x": "", file: text.format(2)})
    before = json.loads(json.dumps(cgroups.oom_kills(root)))
    assert 2 in before.values()
    tree(root, groups, mounts, {file: text.format(2 + kills)})
    assert cgroups.killed_since(before, root) == (kills > 0)


def test_a_kill_elsewhere_on_the_machine_is_not_taken_for_ours(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/a", MOUNT_V2, {**MACHINE, f"{V2}/a/memory.events": "oom_kill 0"})
    before = cgroups.oom_kills(root)
    tree(root, "0::/a", MOUNT_V2, {"/proc/vmstat": "oom_kill 9"})
    assert not cgroups.killed_since(before, root)


def test_where_the_group_has_gone_the_machine_s_counter_decides(tmp_path: Path) -> None:
    files = {**MACHINE, f"{V2}/a/memory.events": "oom_kill 0", f"{V2}/b/memory.events": "oom_kill 5"}
    root = tree(tmp_path, "0::/a", MOUNT_V2, files)
    before = cgroups.oom_kills(root)
    tree(root, "0::/b", MOUNT_V2, {})
    assert not cgroups.killed_since(before, root)  # the counter of another group says nothing
    tree(root, "0::/b", MOUNT_V2, {"/proc/vmstat": "oom_kill 8"})
    assert cgroups.killed_since(before, root)
    tree(root, "0::/b", MOUNT_V2, {"/proc/sys/kernel/random/boot_id": "another"})
    assert not cgroups.killed_since(before, root)


def test_a_group_made_anew_under_the_same_path_is_another(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/", MOUNT_V2, {**MACHINE, f"{V2}/memory.events": "oom_kill 0"})
    before = cgroups.oom_kills(root)
    (root / V2[1:]).rename(root / "before")  # its inode is still taken
    tree(root, "0::/", MOUNT_V2, {f"{V2}/memory.events": "oom_kill 4"})
    assert not cgroups.killed_since(before, root)


@pytest.mark.parametrize("form", ["{}", "[]", "null", '"x"', "7", "nan", "text", "bool", "keys", "list", "float"])
def test_what_is_malformed_says_nothing(form: str, tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/a", MOUNT_V2, {**MACHINE, f"{V2}/a/memory.events": "oom_kill 4"})
    counts = cgroups.oom_kills(root)
    forms: dict[str, Any] = {
        "nan": dict.fromkeys(counts, float("nan")), "text": dict.fromkeys(counts, "0"),
        "bool": dict.fromkeys(counts, False), "keys": {1: 0, None: 0, (): 0}, "list": {key: [0] for key in counts},
        "float": dict.fromkeys(counts, 0.5),
    }  # fmt: skip
    assert not cgroups.killed_since(forms[form] if form in forms else json.loads(form), root)


def test_threads_that_cannot_start_are_told_before_openmp_ends_the_process() -> None:
    code = "from ssl_cli import memory; memory.require_threads(2)"
    script = f'export OMP_NUM_THREADS=3; ulimit -s 3000000; ulimit -v 5000000; exec "{sys.executable}" -c "{code}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=120)
    assert "can't start new thread" in done.stderr
    assert "libgomp" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MemoryError(), 5),
        (RuntimeError("std::bad_alloc"), 5),
        (RuntimeError("could not create a primitive"), 5),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried"), 5),
        (OSError(12, "Cannot allocate memory"), 5),
        (ImportError("libx.so: failed to map segment from shared object"), 5),
        (RuntimeError("can't start new thread"), 5),
        (RuntimeError("could not create a primitive descriptor for a convolution"), 1),
        (RuntimeError("the sizes differ"), 1),
    ],
    ids=str,
)
def test_every_way_of_being_out_of_memory_is_told(error: Exception, code: int) -> None:
    assert convert_exception(error).code == code


def test_an_image_is_read_though_its_thread_died(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is out of memory outside of a read ends without an outcome."""
    honest, died = reader._Worker.run, list[object]()

    def run(worker: reader._Worker) -> None:
        if died:
            honest(worker)
        died.append(worker)

    monkeypatch.setattr(reader._Worker, "run", run)
    image: Any = SimpleNamespace(read=lambda index, cap: torch.full((1, 1, 1), index))
    with reader.Reader(image, threads=1, deadline=0.1) as opened:
        assert int(opened.result(opened.submit(7))) == 7


@pytest.fixture
def group() -> Iterator[Path]:
    """Make a control group (v1) below that of this process, with one within it; skip where that is not allowed."""
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    path = next((path for _, kind, path in own if kind == "memory"), None)
    outer = Path(f"{V1}{path}", f"sslcli_test_{os.getpid()}")
    try:
        (outer / "inner").mkdir(parents=True)
    except OSError:
        pytest.skip("no control group can be made here")
    yield outer
    for folder in (outer / "inner", outer):
        folder.rmdir()


def within(group: Path, limit: int, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run sslcli in the group within `group`, which may take `limit` bytes."""
    (group / "memory.limit_in_bytes").write_text(str(limit))
    script = 'echo $$ > "$0/inner/cgroup.procs"; exec "$@"'
    command = ["bash", "-c", script, str(group), sys.executable, "-m", "ssl_cli", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


@pytest.mark.slow
def test_a_run_plans_and_stays_within_a_real_group(group: Path, tmp_path: Path) -> None:
    words = ("pretrain", "--recipe", "shapes", "--batch", "512", "--max-time", "20s", "--set", "run.evaluate=false")
    done = within(group, 1_200_000_000, *words, "--set", "model.bn_group=64", "--out", str(tmp_path / "run"))
    assert done.returncode == 75, done.stderr[-2000:]
    planned = {choice["name"]: choice for choice in json.loads((tmp_path / "run" / "plan.json").read_text())["choices"]}
    assert "limits" in planned["memory"]["reason"]
    assert "oom_kill 0" in (group / "inner" / "memory.oom_control").read_text()
