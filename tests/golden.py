"""Fingerprints of short training runs, to show that a change moves no number: `python -m tests.golden [METHOD ...]`.

Every method is trained for six steps on 512 embedded images, on one thread, in each of the four memory modes and in
float32 and float64; then once more from the checkpoint of step 3, and once as two gloo ranks. Each line of the table
holds the first digits of four sha256: of the final weights, the buffers, the optimiser state and the logged metrics.

The digits depend on the processor and on the version of torch, so two tables are comparable only when they come from
the same machine: `python -m tests.golden > before`, change the code, `python -m tests.golden > after`, `diff`.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from ssl_cli.config.sources import settle
from ssl_cli.engine.pretrain import pretrain
from ssl_cli.nn.resnet import ResNet
from ssl_cli.objective import Objective

METHODS = ("instdisc", "invaspread", "moco-v1", "moco-v2", "simclr", "simclr-v2")
STEPS, RESUMED_FROM = 6, 3
SETTINGS = (
    "data.images=512", "data.size=16", "data.threads=1", "run.batch=256", "schedule.epochs=3", "schedule.warmup=1",
    "model.backbone=resnet18", "model.width=0.0625", "model.sk=false", "model.bn_group=64", "run.seed=5",
    "run.log_every=1", "run.checkpoint_every=3", "run.monitor=false", "run.evaluate=false", "hardware.device=cpu",
    "hardware.precision=fp32", "hardware.memory_format=channels_last", "hardware.memory=4GB", "hardware.compile=off",
)  # fmt: skip
OF_METHOD = {
    "instdisc": ("method.noise=32",),
    "moco-v1": ("method.queue=200",),
    "moco-v2": ("method.queue=200", "method.symmetric=true"),
    "simclr-v2": ("method.memory=200",),
}
OF_MODE = {
    "direct": ("hardware.micro_batch=512",),
    "cached": ("hardware.micro_batch=128",),
    "tail-keep": ("hardware.micro_batch=64",),
    "checkpointed": ("hardware.micro_batch=256",),
}


def settings_of(method: str, mode: str) -> list[str]:
    """The `--set` words of a run."""
    return [*SETTINGS, *OF_METHOD.get(method, ()), *OF_MODE[mode], f"hardware.mode={mode}"]


def train(method: str, mode: str, out: Path, *, resume: bool = False) -> None:
    """Train in this process, or continue the run in `out`."""
    settled = settle({"method": {"name": method}, "run": {"out": str(out)}}, settings_of(method, mode), env={})
    for _ in pretrain(settled.settings, origins=settled.origins, resume=resume, overwrite=False):
        pass


def train_as_two_ranks(method: str, mode: str, out: Path) -> None:
    """Train by the command line in two processes that share every step."""
    words = [word for item in settings_of(method, mode) for word in ("--set", item)]
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ssl_cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CI": "true"}
    done = subprocess.run(
        [sys.executable, *launcher, "pretrain", "--method", method, "--out", str(out), *words],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)


def forget_after(out: Path, step: int) -> None:
    """Make the run in `out` one that was interrupted after `step` steps."""
    for path in (out / "checkpoints").glob(f"step_{STEPS:08d}.*"):
        path.unlink()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    kept = [json.dumps(line) for line in lines if line["step"] <= step and line["event"] != "finished"]
    (out / "metrics.jsonl").write_text("\n".join(kept) + "\n")


def fingerprints(out: Path) -> list[str]:
    """Weights, buffers, optimiser state and metrics of a finished run."""
    state = torch.load(out / "checkpoints" / f"step_{STEPS:08d}.pt", weights_only=True)
    objective = state["objective"]
    weights = {name: tensor for name, tensor in objective.items() if _moved_by_the_optimiser(name)}
    buffers = {name: tensor for name, tensor in objective.items() if not _moved_by_the_optimiser(name)}
    logged: dict[int, Any] = {}
    for line in (out / "metrics.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["event"] == "stepped":
            logged[record["step"]] = [record[key] for key in ("epoch", "loss", "lr", "grad_norm", "numbers")]
    assert sorted(logged) == list(range(1, STEPS + 1))
    return [_digest(weights), _digest(buffers), _digest(dict(_leaves(state["optimiser"]))), _digest(logged)]


def _moved_by_the_optimiser(name: str) -> bool:
    """Whether a tensor of the objective is a weight: not a running statistic, a momentum encoder, a queue or a bank."""
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    return name.startswith(("backbone.", "projector.")) and not name.endswith(statistics)


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list | tuple):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(part, f"{name}.{key}")
    else:
        yield name, value


def _digest(values: dict[Any, Any]) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(values.items()):
        digest.update(f"{name} ".encode())
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)} ".encode())
            digest.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()[:10]


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Within the block objectives are moved to their device in float64, and images are cast on their way into them."""

    def cast(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not isinstance(module, ResNet):
            return None
        dtype = next(module.parameters()).dtype
        return tuple(x.to(dtype) for x in inputs)

    def to(objective: Objective, *args: Any, **kwargs: Any) -> Objective:
        loss = objective.loss
        objective.loss = lambda z, *others: loss(z.double(), *others)  # type: ignore[method-assign]  # planning has float32
        return nn.Module.to(objective.double(), *args, **kwargs)

    hook = nn.modules.module.register_module_forward_pre_hook(cast)  # type: ignore[arg-type]
    try:
        with mock.patch.object(Objective, "to", to):
            yield
    finally:
        hook.remove()


def main(methods: Sequence[str]) -> None:
    """Print a line for each run."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(f"{'method':<11}{'mode':<13}{'run':<17}weights    buffers    optimiser  metrics")
    with tempfile.TemporaryDirectory() as folder:
        for method in methods:
            for mode in OF_MODE:
                for dtype in ("float32", "float64"):
                    out = Path(folder) / f"{method}-{mode}-{dtype}"
                    with float64() if dtype == "float64" else contextlib.nullcontext():
                        train(method, mode, out)
                        _show(method, mode, dtype, out)
                        forget_after(out, RESUMED_FROM)
                        train(method, mode, out, resume=True)
                        _show(method, mode, f"{dtype}, resumed", out)
            for mode in ("direct", "cached"):
                out = Path(folder) / f"{method}-{mode}-ranks"
                train_as_two_ranks(method, mode, out)
                _show(method, mode, "two ranks", out)


def _show(method: str, mode: str, run: str, out: Path) -> None:
    print(f"{method:<11}{mode:<13}{run:<17}{' '.join(fingerprints(out))}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or METHODS)
