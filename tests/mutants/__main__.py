"""`python -m tests.mutants [NAME|TRAP...]`: plant each mutant in a copy of the package and print which test catches it.

Every mutant has a process of its own, forked from this one, which has imported what takes long (PyTorch) and nothing
of the package: where processes cannot fork, this does not run.
"""

import importlib
import multiprocessing
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import ROOT, Mutant

WARM = ("torch", "torchvision.transforms.v2.functional", "pytest", "pydantic", "rich.console", "sklearn.linear_model")
HANGS = 120.0
"""Seconds until a test that does not end counts as one that failed."""
ELSEWHERE = 90
"""Exit code: what is imported is not the copy."""


def try_copy(folder: Path, tests: Sequence[str], bytecode: bool) -> None:
    """Run the copy's tests up to the first failure in this process; write their output to `folder/output`.

    With a mutant in place no bytecode is kept: a file that changes twice within a second would be taken for the other.
    """
    sys.dont_write_bytecode = not bytecode
    with (folder / "output").open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == "tests"]:
        del sys.modules[name]
    for name in ("ssl_cli", "tests"):
        if folder not in Path(str(importlib.import_module(name).__file__)).parents:
            os._exit(ELSEWHERE)
    import pytest

    options = ["-x", "-q", "--tb=line", "-p", "no:cacheprovider"]
    code = pytest.main([*options, *tests])
    sys.stdout.flush()
    os._exit(code)


def outcome(folder: Path, tests: Sequence[str], *, bytecode: bool = False, limit: float | None = None) -> int | None:
    """Return the exit code of pytest on the copy, None if it hangs.

    Raises:
        RuntimeError: not the copy was imported.
    """
    process = multiprocessing.get_context("fork").Process(target=try_copy, args=(folder, tests, bytecode))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    if process.exitcode == ELSEWHERE:
        raise RuntimeError(f"What is imported is not the copy in {folder}.")
    return process.exitcode


def caught_by(folder: Path, mutant: Mutant) -> str | None:
    """Return the test that fails with the mutant in place, None if all pass.

    Raises:
        ValueError: the mutant does not apply, or no test could run with it.
    """
    path = folder / mutant.file
    original, times = path.read_text(encoding="utf-8"), path.stat()
    path.write_text(mutant.planted_in(original), encoding="utf-8")
    try:
        code = outcome(folder, mutant.tests, limit=HANGS)
    finally:
        path.write_text(original, encoding="utf-8")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    if code is None:
        return f"no test ended within {HANGS:g} s"
    if code == 0:
        return None
    output = (folder / "output").read_text(encoding="utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+::.+?)(?: - .*)?$", output, re.MULTILINE)  # ERROR: in a fixture
    if code != 1 or failed is None:
        raise ValueError(f"{mutant.name}: no test could run.\n{output[-2000:]}")
    return failed[1]


def chosen(names: Sequence[str]) -> list[Mutant]:
    """Return the mutants of these names or trap numbers; all if there are none."""
    known = {name for mutant in MUTANTS for name in (mutant.name, str(mutant.trap))}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"There is no mutant called {', '.join(unknown)}.")
    return [mutant for mutant in MUTANTS if not names or mutant.name in names or str(mutant.trap) in names]


def run(folder: Path, mutants: Sequence[Mutant]) -> int:
    """Write a row for each mutant; return 0 if all were caught."""
    for name in ("ssl_cli", "tests", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(ROOT / "pyproject.toml", folder)
    if outcome(folder, sorted({test for mutant in mutants for test in mutant.tests}), bytecode=True) != 0:
        sys.exit("Tests fail without any mutant:\n" + (folder / "output").read_text(encoding="utf-8")[-4000:])
    width = max(len(mutant.name) for mutant in mutants)
    missed = 0
    for mutant in mutants:
        since = time.monotonic()
        try:
            test = caught_by(folder, mutant)
            caught = test or "NOTHING: it survived"
        except ValueError as error:
            test, caught = None, f"NOTHING: {error}"
        missed += test is None
        seconds = time.monotonic() - since
        sys.stdout.write(f"{mutant.trap or '-':>4}  {mutant.name:{width}}  {seconds:5.1f} s  {caught}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(mutants) - missed} of {len(mutants)} mutants were caught.\n")
    return 1 if missed else 0


def main() -> int:
    """Run those named, or all."""
    mutants = chosen(sys.argv[1:])
    os.environ["OMP_NUM_THREADS"] = "1"  # a process with threads must not fork
    for name in WARM:
        importlib.import_module(name)
    with tempfile.TemporaryDirectory() as folder:
        return run(Path(folder).resolve(), mutants)


if __name__ == "__main__":
    sys.exit(main())
