"""The power is lost after any operation: whatever is left of what was not synced, a state that was saved loads."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.operations import Disk, write_tree
from tests.faults.scripts import Life, assert_intact

Tree = dict[str, bytes | None]


pytestmark = pytest.mark.usefixtures("unsynced")  # while a folder is reopened; the recorded operations count


def states(life: Life) -> Iterator[tuple[Tree, set[int | None]]]:
    """Yield what a power loss may leave after each operation, and the steps of which one must load; each once."""
    disk, seen = Disk(life.before), set()
    for number, operation in enumerate(life.log):
        disk.apply(operation)
        allowed = life.allowed(number + 1)
        if not life.script.keeps and None in allowed:
            allowed |= {10}  # an older one of the run that is being deleted: deletions are in no order
        for tree in disk.states():
            files = {path: content for path, content in tree.items() if not path.endswith(".lock")}
            key = hash((frozenset(files.items()), frozenset(allowed)))
            if key not in seen:
                seen.add(key)
                yield tree, allowed


def check(life: Life, folder: Path, stride: int) -> int:
    found = list(states(life))[stride // 2 :: stride]
    for tree, allowed in found:
        write_tree(tree, folder)
        assert_intact(folder / "run", allowed, life)
    return len(found)


def test_a_sample_of_what_a_power_loss_leaves(life: Life, tmp_path: Path) -> None:
    assert check(life, tmp_path / "left", 6) >= len([*life.copies.iterdir()]) // 6


@pytest.mark.slow
def test_all_that_a_power_loss_leaves(life: Life, tmp_path: Path) -> None:
    assert check(life, tmp_path / "left", 1) >= len([*life.copies.iterdir()])


def test_the_disk_that_is_simulated_ends_as_the_real_one(life: Life) -> None:
    disk = Disk(life.before)
    for operation in life.log:
        disk.apply(operation)
    real = life.before.parent / "recorded"
    files = {path.relative_to(real).as_posix(): path for path in real.rglob("*")}
    everything = next(tree for tree in disk.states() if tree.keys() == files.keys())
    for path, content in everything.items():
        assert content == (None if files[path].is_dir() else files[path].read_bytes())
