"""`sslcli`, and `python -m ssl_cli`."""

import sys

from ssl_cli.large_pages import begin_with_them


def run() -> int:
    """The command that this process is for."""
    begin_with_them()
    from ssl_cli.cli import main  # only now, or it would be imported twice

    return main()


if __name__ == "__main__":
    sys.exit(run())
