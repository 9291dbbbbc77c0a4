"""Look at what a run needs of a machine: versions, device, cores, memory, disk, launcher, settings."""

import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import psutil
import torch

from ssl_cli import cgroups, memory, spinning
from ssl_cli.config.units import format_bytes
from ssl_cli.doctor.check import Check
from ssl_cli.doctor.speeds import decode_speed, write_speed
from ssl_cli.engine.build import resolve_device
from ssl_cli.engine.plan.measure import has_bf16
from ssl_cli.errors import DONE, ResourceError, SslcliError, UsageError, convert_exception
from ssl_cli.names import shown
from ssl_cli.packages import EXTRAS, is_installed
from ssl_cli.world import processors

LEAST_MEMORY, LITTLE_MEMORY = 500e6, 2e9
"""Bytes with which no run works: PyTorch alone takes as much; and with which only small ones do."""
LEAST_DISK, LITTLE_DISK, SLOW_DISK = 50e6, 2e9, 10e6
"""Bytes free for checkpoints, and bytes a second."""
FEW_FILES = 256
BUSY_FOR = 0.3
"""Seconds in which it is seen how busy the cores are."""
SHOWN_PACKAGES = ("torch", "torchvision", "numpy", "onnx", "onnxruntime", "pillow")
LAUNCHER = re.compile(
    r"RANK|WORLD_SIZE|LOCAL_RANK|LOCAL_WORLD_SIZE|MASTER_(ADDR|PORT)|TORCHELASTIC_RUN_ID|CUDA_VISIBLE_DEVICES"
    r"|SLURM_(JOB_ID|NTASKS|PROCID|CPUS_PER_TASK|MEM_PER_NODE)|(OMP|MKL)_NUM_THREADS|OMP_WAIT_POLICY|GOMP_SPINCOUNT"
    r"|KMP_BLOCKTIME|GLIBC_TUNABLES|(NCCL|GLOO)_SOCKET_IFNAME|NCCL_(DEBUG|P2P_DISABLE|IB_DISABLE)|SSLCLI_\w+"
)
"""Variables that launchers set or that change how a run computes; none holds a secret."""


def examine(folder: Path, device: str = "auto", env: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """Yield what a run would find here, one thing after the other, within a few seconds.

    Args:
        folder: in which runs would be written, or the nearest one above that is there.
        device: on which they would run.
        env: the environment.
    """
    yield _versions()
    yield from _device(device)
    yield _cores(env)
    yield _memory()
    yield _disk(folder)
    yield _decoding()
    yield _files()
    yield _launcher(env)
    yield _settings()


def _versions() -> Check:
    """Compare the installed packages with what sslcli requires."""
    found = {"sslcli": version("sslcli"), "python": sys.version.split()[0]}
    wrong = []
    for line in requires("sslcli") or ():
        name, least = re.match(r"([\w.-]+)(?:>=([\d.]+))?", line).groups()  # type: ignore[union-attr]
        if "extra ==" in line:
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        if least and _numbers(found[name]) < _numbers(least):
            wrong.append(f"{name} is {found[name]}, and {least} is needed")
    extras = sorted(name for name, modules in EXTRAS.items() if all(map(is_installed, modules)))
    words = ", ".join(f"{name} {found[name]}" for name in ("sslcli", "python", *SHOWN_PACKAGES) if name in found)
    facts = {"versions": found, "extras": extras}
    if wrong:
        return Check("versions", words, facts, f"{'; '.join(wrong)}.", "pip install --upgrade sslcli", UsageError.code)
    return Check("versions", f"{words}; extras: {', '.join(extras) or 'none'}", facts)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text.split("+")[0])[:3])


def _device(asked: str) -> Iterator[Check]:
    """Compute on the device, and say whether it has bf16 instructions."""
    try:
        device = resolve_device(asked)
        total = float((torch.ones(64, 64, device=device) @ torch.ones(64, 64, device=device)).sum())
        if total != 64**3:
            what = f"A matrix product on {device} is wrong: {total:g} in place of {64**3}."
            raise UsageError(what, "Use another device.")
    except (SslcliError, RuntimeError) as error:
        converted = convert_exception(error)
        yield Check("device", shown(asked), {"device": asked}, converted.message, converted.hint, converted.code)
        return
    facts: dict[str, Any] = {"device": str(device), "cuda": torch.version.cuda, "gpus": []}
    name, problem = _processor(), ""
    if device.type == "cuda":
        names = [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())]
        facts |= {"gpus": names, "free": [torch.cuda.mem_get_info(k)[0] for k in range(len(names))]}
        name = f"{', '.join(names)}; CUDA {torch.version.cuda}; {format_bytes(facts['free'][0])} free on the first"
    elif Path("/proc/driver/nvidia/version").exists() and asked == "auto":
        build = "is built without CUDA" if torch.version.cuda is None else "does not find a GPU it can use"
        problem = f"There is an NVIDIA driver, and this PyTorch ({torch.__version__}) {build}: runs use the CPU."
    hint = "Install PyTorch for CUDA, and look at CUDA_VISIBLE_DEVICES." if problem else ""
    yield Check("device", f"{device.type}: {name}", facts, problem, hint)
    native = torch.cuda.is_bf16_supported(including_emulation=False) if device.type == "cuda" else has_bf16(device)
    words = "instructions are there" if native else "no instructions: runs compute in fp32"
    yield Check("bf16", words, {"native": native})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return shown(next(names, "processor"), 60)


def _cores(env: Mapping[str, str]) -> Check:
    """Count the cores that this process may use, by affinity and control group, and how many others use now."""
    allowed, quota, threads = processors(), cgroups.cores(), torch.get_num_threads()
    before = spinning.cpu_time()
    time.sleep(BUSY_FOR)
    busy = spinning.cores_in_use(before, spinning.cpu_time())
    facts = {"machine": os.cpu_count(), "allowed": allowed, "quota": quota, "threads": threads}
    words = f"{allowed} of {os.cpu_count()} allowed"
    words += f", {quota:g} by the control group" if quota is not None else ""
    words += f"; {threads} threads of PyTorch; others use {busy:.1f} now"
    problem = hint = ""
    if quota is not None and max(allowed, threads) > quota + 0.5:
        whole = max(int(quota), 1)
        problem = f"The control group gives the time of {quota:g} cores, and {allowed} threads would share it."
        hint = f"Set OMP_NUM_THREADS={whole} and pass --set data.threads={whole}."
    elif threads > allowed:
        problem = f"PyTorch starts {threads} threads on {allowed} cores."
        hint = f"Set OMP_NUM_THREADS={allowed}." if "OMP_NUM_THREADS" in env else ""
    elif busy > allowed / 2:
        problem = f"Other programs use {busy:.1f} of {allowed} cores: a run would take longer than it could."
        hint = "Wait for them, or end them."
    return Check("cores", words, {**facts, "busy": busy}, problem, hint)


def _memory() -> Check:
    free, total, limit = memory.available(), psutil.virtual_memory().total, memory.within_limits()
    words = f"{format_bytes(free)} free of {format_bytes(total)}"
    words += "" if limit is None else f"; limits (control groups, ulimit) leave {format_bytes(limit)}"
    facts = {"free": free, "total": total, "limit": limit}
    if free < LITTLE_MEMORY:
        problem = f"Only {format_bytes(free)} are free."
        hint = "Close other programs, or raise the limit of the container or job."
        return Check("memory", words, facts, problem, hint, ResourceError.code if free < LEAST_MEMORY else DONE)
    return Check("memory", words, facts)


def _disk(folder: Path) -> Check:
    """Write to the disk on which runs would be."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    name = shown(str(place), 80)
    if folder != place and os.path.lexists(folder):
        what = f"{shown(str(folder), 80)} is no folder."
        return Check("disk", name, {"folder": str(place)}, what, "Give runs another place with --out.", UsageError.code)
    try:
        free, speed = shutil.disk_usage(place).free, write_speed(place)
    except OSError as error:
        why = error.strerror or str(error)
        hint = "Give runs another place with --out."
        return Check(
            "disk", name, {"folder": str(place)}, f"{name} cannot be written: {why}.", hint, ResourceError.code
        )
    words = f"{format_bytes(free)} free, written and synced at {format_bytes(speed)}/s, in {name}"
    facts = {"folder": str(place), "free": free, "write": speed}
    if free < LITTLE_DISK:
        problem, code = f"Only {format_bytes(free)} are free.", ResourceError.code if free < LEAST_DISK else DONE
        return Check("disk", words, facts, problem, "Free some space, or give runs another place with --out.", code)
    if speed < SLOW_DISK:
        problem = f"The disk takes {format_bytes(speed)}/s: each checkpoint holds a run up."
        return Check(
            "disk", words, facts, problem, "Give runs another place with --out, or raise run.checkpoint_every."
        )
    return Check("disk", words, facts)


def _decoding() -> Check:
    threads = processors()
    speed = decode_speed(threads)
    words = f"{speed:,.0f} photographs/s of 500 x 375 pixels, in {threads} threads"
    return Check("decoding", words, {"rate": speed, "threads": threads})


def _files() -> Check:
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    facts = {"open": None if soft == resource.RLIM_INFINITY else soft}
    words = "no limit of open files" if facts["open"] is None else f"{soft:,} may be open"
    few = facts["open"] is not None and soft < FEW_FILES
    problem = f"Only {soft} files may be open at once." if few else ""
    return Check("files", words, facts, problem, "Raise the limit: ulimit -n 4096" if few else "")


def _launcher(env: Mapping[str, str]) -> Check:
    """Name the variables of launchers, and refuse half of a world."""
    set_here = spinning.SHORT if spinning.is_chosen_here() else {}
    found = {name: shown(env[name], 80) for name in sorted(env) if LAUNCHER.fullmatch(name) and name not in set_here}
    words = ", ".join(f"{name}={value}" for name, value in found.items()) or "no variables of one"
    facts = {"variables": found}
    size = int(found["WORLD_SIZE"]) if found.get("WORLD_SIZE", "").isdigit() else 1
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in found]
    if size > 1 and missing:
        problem = f"WORLD_SIZE is {size}, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set."
        hint = "Start the ranks with torchrun or --devices, or unset WORLD_SIZE."
        return Check("launcher", words, facts, problem, hint, UsageError.code)
    tasks = found.get("SLURM_NTASKS", "")
    if tasks.isdigit() and int(tasks) > 1 and "WORLD_SIZE" not in found:
        problem = f"Slurm starts {tasks} tasks, each of which would be a run of its own."
        return Check("launcher", words, facts, problem, "Start one torchrun a node, as the job in examples/ does.")
    return Check("launcher", words, facts)


def _settings() -> Check:
    """Settle the settings of this folder, of the user and of the environment."""
    from ssl_cli.config.sources import settle

    try:
        origins = settle({}).origins
    except SslcliError as error:
        return Check("settings", "cannot be used", {}, error.message, error.hint, error.code)
    given = {key: origin for key, origin in origins.items() if not origin.startswith(("default", "recipe"))}
    words = ", ".join(f"{key} (from {shown(origin)})" for key, origin in list(given.items())[:5])
    more = f" and {len(given) - 5} more" if len(given) > 5 else ""
    return Check("settings", f"{words}{more}" or "defaults and recipes alone", {"given": given})
