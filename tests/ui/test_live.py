"""A live display whose terminal is made narrower leaves nothing of its old picture behind."""

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from ssl_cli.ui.live import ResizedLive, without_caret_echo, wrapped_rows


@pytest.mark.parametrize(
    ("shape", "width", "rows"),
    [(None, 80, 0), ((80, 10), 80, 0), ((80, 10), 120, 0), ((80, 10), 79, 10), ((80, 10), 40, 10), ((80, 10), 39, 20),
     ((0, 3), 40, 0), ((80, 3), 0, 0)],
)  # fmt: skip
def test_rows_of_a_wrapped_picture(shape: tuple[int, int] | None, width: int, rows: int) -> None:
    assert wrapped_rows(shape, width) == rows


class Terminal:
    """Rows of a terminal that wraps what it holds when it becomes narrower, and the row of its cursor, the last one."""

    def __init__(self, width: int) -> None:
        self.width, self.rows = width, [""]
        self.row = 0

    def feed(self, text: str) -> None:
        while text:
            if text.startswith("\x1b["):
                end = next(k for k, c in enumerate(text) if k > 1 and c.isalpha())
                self._control(text[2:end], text[end])
                text = text[end + 1 :]
            else:
                self._write(text[0])
                text = text[1:]

    def _control(self, number: str, kind: str) -> None:
        if kind == "A":
            self.row = max(0, self.row - int(number or 1))
        elif kind == "K":
            self.rows[self.row] = ""

    def _write(self, character: str) -> None:
        if character == "\n":
            self.row += 1
            if self.row == len(self.rows):
                self.rows.append("")
        elif character != "\r":
            self.rows[self.row] += character

    def narrow(self, width: int) -> None:
        del self.rows[self.row + 1 :]  # erased before
        parts = [[row[k : k + width] for k in range(0, max(len(row), 1), width)] for row in self.rows]
        self.rows, self.width = [part for row in parts for part in row], width
        self.row = len(self.rows) - 1


@pytest.mark.parametrize("widths", [(60, 40), (60, 20), (60, 45, 31), (40, 60, 30)])
def test_nothing_is_left_behind(widths: tuple[int, ...]) -> None:
    file = io.StringIO()
    console = Console(file=file, width=widths[0], height=50, force_terminal=True, color_system=None)

    def picture() -> Text:
        return Text("\n".join(letter * (console.width - 1) for letter in "ABC"))

    live = ResizedLive(console=console, get_renderable=picture, auto_refresh=False)
    terminal = Terminal(widths[0])
    terminal.feed("plan\n")
    with live:
        for width in widths:
            if width < terminal.width:
                terminal.narrow(width)
            terminal.width = width
            console.width = width
            live.refresh()
            terminal.feed(file.getvalue())
            file.seek(0)
            file.truncate()
            rows = [row for row in terminal.rows if row]
            assert rows == ["plan", *(letter * (width - 1) for letter in "ABC")]


SWITCHED = """
import fcntl, os, sys, termios
from ssl_cli.ui.live import without_caret_echo
number = int(sys.argv[1])
fcntl.ioctl(number, termios.TIOCSCTTY, 0)
echoes = lambda: bool(termios.tcgetattr(number)[3] & termios.ECHOCTL)
seen = [echoes()]
with without_caret_echo(os.fdopen(number, "w", closefd=False)):
    seen.append(echoes())
sys.exit([*seen, echoes()] != [True, False, True])
"""


def test_control_characters_are_not_echoed_into_the_display() -> None:
    leader, follower = pty.openpty()
    words = [sys.executable, "-c", SWITCHED, str(follower)]
    done = subprocess.run(words, pass_fds=[follower], start_new_session=True, timeout=60, check=False)
    os.close(leader)
    os.close(follower)
    assert done.returncode == 0


def test_where_there_is_no_terminal_nothing_is_switched(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file, without_caret_echo(file), without_caret_echo(io.StringIO()):
        pass
