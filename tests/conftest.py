"""One torch thread for each test process: more would compete with the other test processes for the cores."""

import os
import sys

# Set before torch is imported; the processes that tests start inherit it.
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def pytest_collection_finish() -> None:
    """Set it here too, where torch was imported before this file."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
