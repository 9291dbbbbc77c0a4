"""What makes the tests quick: one torch thread for each test process, and each network counted and measured once.

And `run`, a folder with a run too small to learn anything, for the tests of what is done with a finished one.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Set before torch is imported, since more threads would compete with the other test processes for the cores; the
# processes that tests start inherit it.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any load")  # no test may fail because the machine is busy
for number in (signal.SIGINT, signal.SIGHUP):
    # in the background or under nohup they are ignored, which the processes that tests start would inherit
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
ENOUGH = 10**9
"""Bytes beyond which more room changes nothing for the networks of tests."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on the embedded data, of the tests of a module; see `toy_run`."""
    from tests.engine.toy_run import toy_settings, write_run  # late: it imports torch

    folder = tmp_path_factory.mktemp("run")
    write_run(folder, toy_settings())
    return folder


def pytest_collection_finish() -> None:
    """Set one thread here too, where torch was imported before this file; remember what plans count and measure."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if store := sys.modules.get("ssl_cli.data.image_store"):
        store.KEEP_FREE = 0  # type: ignore[attr-defined]  # the disk of the machine may be nearly full
    if export := sys.modules.get("ssl_cli.exports.onnx"):
        export.convert = _converted_once(export.convert)  # type: ignore[attr-defined]
        _read_operators_once()
    if cost := sys.modules.get("ssl_cli.engine.plan.cost"):
        cost.count_activations = remembered(cost.count_activations, _counted)  # type: ignore[attr-defined]
        cost.measure_step = remembered(cost.measure_step, _measured)  # type: ignore[attr-defined]


def remembered(measure: Callable[..., Any], key: Callable[..., Hashable]) -> Callable[..., Any]:
    """Call `measure` once for the same networks and the same `key` of its other arguments: it takes most of a run."""
    found: dict[Hashable, Any] = {}

    def once(objective: Any, *args: Any, **options: Any) -> Any:
        full = (_network(objective), key(*args, **options))
        if full not in found:
            found[full] = measure(objective, *args, **options)
        return found[full]

    return once


def _converted_once(convert: Callable[..., Any]) -> Callable[..., Any]:
    """Convert each encoder, by its weights, to ONNX once for all tests that are about what comes before and after."""
    from onnx import load_from_string

    from ssl_cli.nn.evaluating import fingerprint

    found: dict[Hashable, bytes] = {}

    def once(encoder: Any, *args: Any) -> Any:
        options = str({name: value for name, value in vars(encoder).items() if not name.startswith("_")})
        key = (_network(encoder), options, fingerprint(encoder), args)
        if key not in found:
            found[key] = convert(encoder, *args).SerializeToString()
        encoder.cpu().eval().requires_grad_(False)
        return load_from_string(found[key])

    return once


def _read_operators_once() -> None:
    """Let torch's exporter to ONNX read its table of operators once: a fourth of each conversion of a small network."""
    from torch.onnx._internal.exporter import _registration

    table = _registration.ONNXRegistry
    table.from_torchlib = staticmethod(functools.cache(table.from_torchlib))  # type: ignore[method-assign]


def _network(objective: Any) -> Hashable:
    """Return what tells networks apart: a test that replaces a forward pass has another one."""
    code = tuple((type(module), type(module).forward) for module in objective.modules())
    state = (*objective.named_parameters(), *objective.named_buffers())
    return code, repr(objective), tuple((name, value.shape, value.requires_grad) for name, value in state)


def _counted(size: int, precision: str, *, checkpointing: bool = False) -> Hashable:
    return size, precision, checkpointing


def _measured(
    pipeline: Any, sample: Any, batch: int, arithmetic: Any, *, max_rows: int, available: int, smallest: Any
) -> Hashable:
    shapes = tuple(image.shape for image in sample.images)
    form = (arithmetic.precision, arithmetic.memory_format)
    return pipeline.orders, pipeline.size, shapes, batch, form, max_rows, min(available, ENOUGH), smallest.size
