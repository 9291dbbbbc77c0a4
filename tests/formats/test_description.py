"""What an export says of itself."""

import pytest

from ssl_cli.formats.description import rounded


@pytest.mark.parametrize(("error", "most"), [(0.0, 0.0), (1.2e-7, 1e-6), (2.4e-7, 1e-6), (1e-3, 1e-3), (0.2, 1.0)])
def test_the_error_is_rounded_up_so_that_two_exports_are_equal(error: float, most: float) -> None:
    verification = rounded({"max_error": error, "cosine": 0.99999987, "batch_sizes": (1, 2)})
    assert verification["max_error"] == pytest.approx(most)
    assert error <= verification["max_error"]
    assert (verification["cosine"], verification["batch_sizes"]) == (1.0, (1, 2))
