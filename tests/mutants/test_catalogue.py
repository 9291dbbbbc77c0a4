"""The mutants fit the code as it is: each replaces what is there once, and names tests there are. None is run here."""

import ast
import functools

import pytest

from tests.mutants.catalogue import MUTANTS, NOT_YET
from tests.mutants.mutant import ROOT, Mutant

TRAPS = 39


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_can_be_planted(mutant: Mutant) -> None:
    text = mutant.planted_in((ROOT / mutant.file).read_text(encoding="utf-8"))
    if mutant.file.endswith(".py"):
        ast.parse(text)
    assert mutant.old != mutant.new


@functools.cache
def functions(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_tests_are_there(mutant: Mutant) -> None:
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert not name or name.partition("[")[0] in functions(file), test


def test_names_are_unique() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def test_every_trap_has_a_mutant_or_a_reason() -> None:
    planted = {mutant.trap for mutant in MUTANTS} - {None}
    assert planted | set(NOT_YET) == set(range(1, TRAPS + 1))
    assert not planted & set(NOT_YET)


def test_what_does_not_occur_once_is_refused() -> None:
    mutant = Mutant(None, "it", "file.py", "a", "b", ())
    assert mutant.planted_in("a c") == "b c"
    for text in ("c", "a a"):
        with pytest.raises(ValueError, match="it: what it replaces occurs"):
            mutant.planted_in(text)
