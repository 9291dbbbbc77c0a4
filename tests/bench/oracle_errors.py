"""How far ours is from the papers in plain loops: `python -m tests.bench.oracle_errors`, a table of largest errors."""

import sys

import pytest

from tests.oracle.agree import COMPARED, LARGEST


def main() -> int:
    """Run the oracles' tests here and print what they found."""
    code = pytest.main(["-q", "-p", "no:cacheprovider", "tests/oracle"])
    print("\n| what | numbers compared | largest error |\n|---|---|---|")
    for name in sorted(LARGEST):
        print(f"| {name} | {COMPARED[name]:,} | {LARGEST[name]:.0e} |")
    print(f"| all | {COMPARED.total():,} | {max(LARGEST.values(), default=float('nan')):.1e} |")
    return code


if __name__ == "__main__":
    sys.exit(main())
