"""Cases of a parametrised test that only `make test-all` runs."""

from typing import Any

import pytest


def slow(*cases: Any) -> list[Any]:
    """Mark these values, or tuples of several, as slow: the default selection has others of their kind."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow) for case in cases]
