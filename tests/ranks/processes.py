"""Train as several ranks on this machine, and return the final state of each."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ssl_cli import distributed
from ssl_cli.config.tree import Settings
from ssl_cli.data.source import Groups
from ssl_cli.data.sources import open_pretraining
from ssl_cli.engine.build import build_loader, build_objective
from ssl_cli.engine.train import Trainer, train
from ssl_cli.engine.views import Views
from ssl_cli.objective import Batch
from ssl_cli.planning.resolved import Resolved
from tests.engine.side_stream import side_stream

CPU = torch.device("cpu")
IMAGES, BATCH = 130, 26
Found = dict[str, Any]
Case = tuple[str, str, str]
"""Method, BatchNorm groups and micro-batch plan."""
METHODS: Mapping[str, Mapping[str, Any]] = {
    "simclr": {"name": "simclr", "temperature": 0.2},
    "moco-v2": {"name": "moco-v2", "queue": 31, "ema": 0.9},
    "moco-v2, symmetric": {"name": "moco-v2", "queue": 31, "ema": 0.9, "symmetric": True},
    "instdisc": {"name": "instdisc", "noise": 8},
    "instdisc, softmax": {"name": "instdisc", "noise": 0, "temperature": 0.1, "proximal": 0.5},
    "invaspread": {"name": "invaspread"},
    "simclr-v2": {"name": "simclr-v2", "temperature": 0.2, "memory": 31, "ema": 0.9},
    "simclr-v2, past": {"name": "simclr-v2", "temperature": 0.2, "memory": 31, "ema": 0.9, "memory_keys": "past"},
    "byol": {"name": "examples/your_own_method.py:BYOL"},
}
LOW = 0.005
"""The rate of what would at a higher one grow the last bits of a sum to more than the tests allow."""
BY_GROUP = ", by group"
GROUPED = [f"{method}{BY_GROUP}" for method in METHODS if method != "byol"]
"""The methods with positives by group."""
GROUPS: Mapping[str, Any] = {"groups of 8": 8, "one group": "global"}
WAYS: Mapping[str, Mapping[str, Any]] = {
    "direct": {"mode": "direct", "micro_batch": 1000, "kept": 1000},
    "cached": {"mode": "cached", "micro_batch": 8, "kept": 0},
    "tail-keep": {"mode": "tail-keep", "micro_batch": 16, "kept": 1},
    "checkpointed": {"mode": "checkpointed", "micro_batch": 16, "kept": 1, "checkpointing": True},
    "prefetch": {"mode": "direct", "micro_batch": 1000, "kept": 1000},
}
"""Micro-batch plans; `prefetch`: several ranks make views a step early on a side stream, as on GPUs."""


def cases() -> list[Case]:
    """Return all combinations that differ."""
    return [
        (method, groups, way)
        for method in [*METHODS, *GROUPED]
        for groups in GROUPS
        for way in WAYS
        if not (groups == "one group" and way in ("cached", "tail-keep", "prefetch"))
        and not (method.removesuffix(BY_GROUP) != "simclr" and way in ("tail-keep", "checkpointed", "prefetch"))
    ]


def in_float64(trainer: Trainer) -> Trainer:
    """Let a trainer cast its views to the dtype of the weights."""
    augment = trainer.views.augment

    def cast(batch: Batch) -> Views:
        views = augment(batch)
        return replace(views, x=views.x.double())

    trainer.views.augment = cast  # type: ignore[method-assign]
    return trainer


def five_steps(method: str, groups: str, way: str) -> Found:
    """Train five steps as this rank; return all that a checkpoint would hold, and the losses."""
    by_group = method.endswith(BY_GROUP)
    settings = Settings.model_validate(
        {
            "method": METHODS[method.removesuffix(BY_GROUP)],
            "model": {"width": 0.0625, "bn_group": GROUPS[groups]},
            "data": {"size": 16, "images": IMAGES, "threads": 1, "positives": "group" if by_group else "image"},
            "augment": {"order": ["crop", "flip"]},
            "optim": {"lr": LOW if method.startswith(("byol", "instdisc")) else 0.06},
            "schedule": {"epochs": 1},
            "run": {"batch": BATCH, "monitor": False},
        }
    )
    source = open_pretraining(settings.data, 0)
    if by_group:  # as many as fit a batch, of some sizes, and a third of the images in none
        of = torch.arange(IMAGES) % 7
        source.groups = Groups(torch.where(of < 4, of, -1), "abcd")  # type: ignore[attr-defined]
    objective = build_objective(settings, CPU, len(source), source=source).double()
    resolved = Resolved.from_dict({"device": "cpu", "precision": "fp32", "images": IMAGES, **WAYS[way]})
    loader = build_loader(settings, objective, source, CPU, cache_bytes=10**9)
    losses: list[float] = []
    loss = objective.loss

    def recorded(*args: Any) -> torch.Tensor:
        value = loss(*args)
        losses.append(value.item())
        return value

    objective.loss = recorded  # type: ignore[assignment,method-assign]
    with side_stream() if way == "prefetch" and distributed.world_size() > 1 else contextlib.nullcontext():
        trainer = in_float64(Trainer(settings, resolved, objective, loader))
        for _ in train(trainer):
            pass
    momenta = {f"momentum.{i}": state["momentum_buffer"] for i, state in enumerate(trainer.optimiser.state.values())}
    return {**objective.state_dict(), **momenta, "losses": torch.tensor(losses, dtype=torch.float64)}


def environment(rank: int, size: int, port: int) -> dict[str, str]:
    """Return the environment that a launcher sets for a rank."""
    words = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return {**os.environ, **{k: str(v) for k, v in words.items()}, "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}


def free_port() -> int:
    """Return a port that is not in use."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def train_as_ranks(size: int, wanted: Sequence[Case]) -> list[dict[Case, Found]]:
    """Return the final states of each of `size` ranks in these cases."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{rank}.pt" for rank in range(size)]
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.ranks.processes", str(file), json.dumps(wanted)],
                env=environment(rank, size, port),
            )
            for rank, file in enumerate(files)
        ]
        codes = [process.wait(timeout=900) for process in running]
        assert codes == [0] * size
        return [torch.load(file, weights_only=True) for file in files]


def main() -> None:
    """Train the cases as one rank of `train_as_ranks`."""
    torch.set_num_threads(1)
    with distributed.process_group(CPU):
        found = {tuple(case): five_steps(*case) for case in json.loads(sys.argv[2])}
    torch.save(found, sys.argv[1])


if __name__ == "__main__":
    main()
