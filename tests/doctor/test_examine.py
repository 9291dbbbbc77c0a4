"""The doctor: what is wrong is said with an exit code, on machines that are made up; and this one is fit for runs."""

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssl_cli import cgroups
from ssl_cli.cli import main
from ssl_cli.doctor import examine as examined
from ssl_cli.doctor.check import Check
from ssl_cli.doctor.speeds import decode_speed, write_speed


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(examined, "BUSY_FOR", 0.01)
    monkeypatch.setattr(examined, "write_speed", lambda folder: 100e6)
    monkeypatch.setattr(examined, "decode_speed", lambda threads: 500.0)


def put(monkeypatch: pytest.MonkeyPatch, module: str, name: str, value: Any) -> None:
    monkeypatch.setattr(getattr(examined, module), name, value)


def test_a_machine_that_is_fit_has_no_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[:10]] == [
        *("versions", "device", "bf16", "cores", "memory", "disk", "decoding", "files", "launcher", "settings")
    ]
    assert "runs work here" in out
    assert main(["doctor", "--device", "cpu", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["works"] is True
    assert document["checks"]["versions"]["versions"].keys() >= {"sslcli", "python", "torch", "numpy", "pillow"}
    assert document["checks"]["disk"]["write"] == 100e6
    assert list(tmp_path.iterdir()) == []


def test_the_first_fatal_problem_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(monkeypatch, "memory", "available", lambda: 4e8)
    (tmp_path / "sslcli.toml").write_text("[optim]\nlearning = 1\n", encoding="utf-8")
    assert main(["doctor", "--device", "cpu", "--json"]) == 5
    document = json.loads(capsys.readouterr().out)
    assert not document["works"]
    problems = {entry["check"]: entry["code"] for entry in document["problems"]}
    assert (problems["memory"], problems["settings"]) == (5, 2)
    assert main(["doctor", "--device", "cpu"]) == 5
    out = capsys.readouterr().out
    assert "exit code 5" in out
    assert "optim.learning" in out


@pytest.mark.parametrize(("free", "code", "wrong"), [(4e8, 5, True), (1e9, 0, True), (5e9, 0, False)])
def test_little_memory_is_said(monkeypatch: pytest.MonkeyPatch, free: float, code: int, wrong: bool) -> None:
    put(monkeypatch, "memory", "available", lambda: int(free))
    check = examined._memory()
    assert (check.code, bool(check.problem)) == (code, wrong)


def test_a_disk_that_cannot_be_written_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(examined, "write_speed", write_speed)
    check = examined._disk(Path("/proc/runs"))
    assert (check.code, check.facts["folder"]) == (5, "/proc")

    (tmp_path / "file").touch()
    check = examined._disk(tmp_path / "file")
    assert (check.code, check.facts["folder"]) == (2, str(tmp_path))
    assert "file is no folder" in check.problem

    def full(folder: Path) -> float:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(examined, "write_speed", full)
    assert "No space left" in examined._disk(tmp_path / "a" / "b").problem
    monkeypatch.setattr(examined, "write_speed", lambda folder: 2e6)
    slow = examined._disk(tmp_path)
    assert (slow.code, "checkpoint" in slow.problem) == (0, True)


def test_packages_that_are_too_old_or_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = ["numpy>=99.1", "nonesuch>=1", "pillow>=1", "timm>=99; extra == 'timm'"]
    monkeypatch.setattr(examined, "requires", lambda name: needed)
    check = examined._versions()
    assert check.code == 2
    assert "99.1 is needed" in check.problem
    assert "nonesuch is not installed" in check.problem
    assert "timm is" not in check.problem


def test_a_device_that_is_not_there_is_said() -> None:
    (check,) = examined._device("nonesuch")
    assert (check.code, "nonesuch" in check.problem) == (2, True)


@pytest.mark.parametrize(
    ("env", "code", "said"),
    [
        ({}, 0, ""),
        ({"WORLD_SIZE": "4", "RANK": "0"}, 2, "MASTER_ADDR, MASTER_PORT are not set"),
        ({"WORLD_SIZE": "4", "RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, 0, ""),
        ({"SLURM_NTASKS": "8"}, 0, "Slurm starts 8 tasks"),
        ({"WORLD_SIZE": "many"}, 0, ""),
    ],
)
def test_half_of_a_launcher_is_said(env: dict[str, str], code: int, said: str) -> None:
    check = examined._launcher(env)
    assert check.code == code
    assert said in check.problem
    assert bool(check.problem) == bool(said)


def test_only_variables_of_launchers_are_shown() -> None:
    env = {"HF_TOKEN": "secret", "AWS_SECRET_ACCESS_KEY": "secret", "OMP_NUM_THREADS": "2", "SSLCLI_RUN__SEED": "1\x1b"}
    check = examined._launcher(env)
    assert "secret" not in repr(check)
    assert check.facts["variables"] == {"OMP_NUM_THREADS": "2", "SSLCLI_RUN__SEED": "1\\x1b"}


@pytest.mark.parametrize(("quota", "busy", "said"), [(None, 0.0, ""), (0.5, 0.0, "0.5 cores"), (None, 64.0, "Other")])
def test_too_few_cores_are_said(monkeypatch: pytest.MonkeyPatch, quota: float | None, busy: float, said: str) -> None:
    put(monkeypatch, "cgroups", "cores", lambda: quota)
    put(monkeypatch, "spinning", "cores_in_use", lambda before, after: busy)
    put(monkeypatch, "torch", "get_num_threads", lambda: 1)
    monkeypatch.setattr(examined, "processors", lambda: 2)
    check = examined._cores({})
    assert said in check.problem
    assert bool(check.problem) == bool(said)


def test_speeds_are_measured_and_nothing_is_left(tmp_path: Path) -> None:
    assert write_speed(tmp_path, 0.01) > 0
    assert list(tmp_path.iterdir()) == []
    assert decode_speed(2, 0.01) > 0


def test_each_check_is_made_once(tmp_path: Path) -> None:
    names = [check.name for check in checks(tmp_path)]
    assert len(names) == len({*names}) == 10


def checks(folder: Path) -> Iterator[Check]:
    yield from examined.examine(folder, "cpu", {})


V2 = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
CPU, CPUACCT = "/sys/fs/cgroup", "/sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs"
V1 = "35 31 0:32 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
QUOTAS: dict[str, tuple[str, str, dict[str, str], float | None]] = {
    "v2": ("0::/a", V2, {f"{CPU}/a/cpu.max": "150000 100000"}, 1.5),
    "v2, no limit": ("0::/a", V2, {f"{CPU}/a/cpu.max": "max 100000"}, None),
    "v2, above": (
        "0::/a/b",
        V2,
        {f"{CPU}/a/cpu.max": "200000 100000", f"{CPU}/a/b/cpu.max": "400000 100000"},
        2.0,
    ),
    "v1": (
        "4:cpu,cpuacct:/a\n5:memory:/m",
        V1,
        {f"{CPUACCT}_quota_us": "50000", f"{CPUACCT}_period_us": "100000"},
        0.5,
    ),
    "v1, no limit": (
        "4:cpu,cpuacct:/a",
        V1,
        {f"{CPUACCT}_quota_us": "-1", f"{CPUACCT}_period_us": "100000"},
        None,
    ),
    "nonsense": ("0::/a", V2, {f"{CPU}/a/cpu.max": "many 0 x"}, None),
    "a period of zero": ("0::/a", V2, {f"{CPU}/a/cpu.max": "100 0"}, None),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_the_tightest_group_bounds_the_cores(name: str, tmp_path: Path) -> None:
    groups, mounts, files, wanted = QUOTAS[name]
    for path, text in {"/proc/self/cgroup": groups, "/proc/self/mountinfo": mounts, **files}.items():
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n", encoding="utf-8")
    assert cgroups.cores(tmp_path) == wanted
