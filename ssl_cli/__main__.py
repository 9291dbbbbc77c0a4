"""`python -m ssl_cli`."""

import sys

from ssl_cli.cli import main

if __name__ == "__main__":
    sys.exit(main())
