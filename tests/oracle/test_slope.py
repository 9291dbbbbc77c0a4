"""The complex step against slopes by hand; and that oracles owe nothing to what they judge."""

import ast
import cmath
import math
from pathlib import Path

import pytest
import torch

from tests.oracle import paper
from tests.oracle.agree import agree
from tests.oracle.slope import slope


def test_slopes_by_hand() -> None:
    rows = [[0.3, -1.2], [2.0, 40.0]]
    flat = [x for row in rows for x in row]
    total = math.fsum(math.exp(x) for x in flat)
    found = slope(lambda z: cmath.log(sum((cmath.exp(x) for row in z for x in row), 0j)), rows)
    agree("complex step", torch.tensor(found, dtype=torch.float64), [[math.exp(x) / total for x in r] for r in rows])
    found = slope(lambda z: z[0][0] ** 3 * z[1][1] + z[0][1] / z[1][0], rows)
    by_hand = [[3 * 0.09 * 40.0, 1 / 2.0], [1.2 / 4.0, 0.027]]
    agree("complex step", torch.tensor(found, dtype=torch.float64), by_hand)


def test_what_is_apart_does_not_agree() -> None:
    for ours in (1 + 2e-9, math.nan):
        with pytest.raises(AssertionError, match="apart"):
            agree("apart", ours, 1.0)


def test_the_oracles_import_the_standard_library_alone() -> None:
    for module in (paper.__file__, slope.__code__.co_filename):
        tree = ast.parse(Path(module).read_text(encoding="utf-8"))
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert names <= {"math", "cmath", "collections.abc"}
