"""Log records and warnings of other packages: captured within the block, printed as before after it."""

import io
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image

from ssl_cli.logs import capture_logging


class Stderr(logging.Handler):
    """Print to the present stderr, as torch's own handler does."""

    @property
    def stream(self) -> object:
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"{record.getMessage()}\n")


@pytest.fixture
def chatty() -> logging.Logger:
    logger = logging.getLogger("tests.chatty")
    logger.handlers, logger.propagate = [Stderr()], False
    return logger


def test_records_and_warnings_are_captured(chatty: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with capture_logging(lines.append):
            chatty.getChild("child").warning("No CUDA runtime is found, using CUDA_HOME='%s'", "/usr")
            logging.getLogger("tests.silent").error("broken")
            chatty.info("below the level")
            warnings.warn("deprecated", DeprecationWarning, stacklevel=1)
    assert lines[:2] == [
        "tests.chatty.child WARNING: No CUDA runtime is found, using CUDA_HOME='/usr'",
        "tests.silent ERROR: broken",
    ]
    assert "DeprecationWarning: deprecated" in lines[2]
    assert capfd.readouterr() == ("", "")


def test_everything_is_restored(chatty: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    before = warnings.showwarning, logging.getLogger().handlers.copy()
    lines: list[str] = []
    with pytest.raises(ValueError, match="any"), capture_logging(lines.append):
        raise ValueError("any")
    chatty.warning("after")
    assert (warnings.showwarning, logging.getLogger().handlers) == before
    assert lines == []
    assert capfd.readouterr().err == "after\n"


def test_a_line_of_torch_is_captured(capfd: pytest.CaptureFixture[str]) -> None:
    """Its loggers print to stderr by themselves, whatever the root logger does."""
    import torch  # which adds the handlers

    lines: list[str] = []
    with capture_logging(lines.append):
        logging.getLogger(f"{torch.__name__}.utils.cpp_extension").warning("No CUDA runtime is found")
    assert lines == ["torch.utils.cpp_extension WARNING: No CUDA runtime is found"]
    assert capfd.readouterr() == ("", "")


def test_a_handler_of_torch_on_an_earlier_stderr_is_captured(capfd: pytest.CaptureFixture[str]) -> None:
    """As torch 2.11's, made at its import."""
    earlier = io.StringIO()
    logger = logging.getLogger("torch.tests.earlier")
    logger.handlers, logger.propagate = [logging.StreamHandler(earlier)], False
    lines: list[str] = []
    with capture_logging(lines.append):
        logger.warning("once")
    assert lines == ["torch.tests.earlier WARNING: once"]
    logger.warning("after")
    assert earlier.getvalue() == "after\n"


def test_a_handler_that_writes_elsewhere_is_left_alone(tmp_path: Path) -> None:
    for name in ("torch.tests.elsewhere", "tests.elsewhere"):
        logger, lines = logging.getLogger(name), list[str]()
        file = logging.FileHandler(tmp_path / name)
        logger.handlers, logger.propagate = [file], False
        with capture_logging(lines.append):
            logger.warning("kept")
        file.close()
        assert lines == []
        assert (tmp_path / name).read_text() == "kept\n"


def damaged_tiff() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((80, 60), 90).save(buffer, "TIFF", compression="tiff_lzw")
    data = bytearray(buffer.getvalue())
    data[200:300] = b"\xff" * 100
    return bytes(data)


def run(code: str, folder: Path, before: str = "", unbuffered: str = "") -> subprocess.CompletedProcess[str]:
    """Run `code` in a process whose stderr is a pipe, with `folder`, `capture_logging` and `native` at hand."""
    start = (
        "import faulthandler, io, os, subprocess, sys\nfrom pathlib import Path\n"
        "from ssl_cli.logs import capture_logging\nfolder = Path(sys.argv[1])\n"
        "def native(text): os.write(2, text.encode())\n"
    )
    return subprocess.run(
        [sys.executable, "-c", f"{start}{before}\n{code}", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_what_libraries_print_is_in_the_file_and_our_own_words_are_not(tmp_path: Path, unbuffered: str) -> None:
    code = """
held = sys.stderr
native("before\\n")
with capture_logging(print, folder):
    print("ours", file=sys.stderr)
    held.write("held\\n")
    native("\\x1b[31mlibrary ")
    with capture_logging(print, folder):
        native("inner ")
    native("outer ")
    subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('child')"])
    held.write("last\\n")
held.write("after\\n")
native("end")
"""
    done = run(code, tmp_path, unbuffered=unbuffered)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.split() == ["before", "ours", "held", "last", "after", "end"]
    assert (tmp_path / "train.log").read_text() == "\x1b[31mlibrary inner outer child"


def test_libtiff_s_lines_are_in_the_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with capture_logging(print, tmp_path):
        with pytest.raises(OSError, match="decoder"):
            Image.open(io.BytesIO(damaged_tiff())).load()
        sys.stderr.write("ours\n")
    assert capfd.readouterr() == ("", "ours\n")
    assert "tempfile.tif" in (tmp_path / "train.log").read_text()
    os.write(2, b"after")
    assert capfd.readouterr().err == "after"


@pytest.mark.parametrize(
    ("call", "words"), [("faulthandler._sigabrt()", "Fatal Python error: Aborted"), ("os.abort()", "last words")]
)
def test_the_last_words_of_a_crash_are_in_the_file(tmp_path: Path, call: str, words: str) -> None:
    before = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); faulthandler.enable()"
    done = run(f"with capture_logging(print, folder):\n    native('last words ')\n    {call}", tmp_path, before)
    assert done.returncode < 0
    assert words in (tmp_path / "train.log").read_text()
    assert done.stderr == ""


@pytest.mark.parametrize(
    "before",
    [
        "os.close(2)",
        "sys.stderr = sys.__stderr__ = None; os.close(2); taken = open(folder / 'own', 'w')",
        "sys.stderr = None",
        "sys.stderr = io.StringIO()",
        "sys.stderr.close()",
    ],
)
def test_stderr_that_is_closed_or_replaced(tmp_path: Path, before: str) -> None:
    code = """
with capture_logging(print, folder):
    try:
        native("library")
    except OSError:
        pass
print("went on")
"""
    done = run(code, tmp_path, before)
    assert (done.returncode, done.stdout) == (0, "went on\n")


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    opened = descriptors()
    with capture_logging(print, tmp_path / "gone"):
        os.write(2, b"library")
    assert capfd.readouterr().err == "library"
    for _ in range(5):
        with capture_logging(print, tmp_path):
            pass
    assert opened == descriptors()


def test_a_full_disk_never_makes_a_library_wait(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "train.log").symlink_to("/dev/full")
    code = """
with capture_logging(print, folder):
    for _ in range(100):
        try:
            native("x" * 4096)
        except OSError:
            pass
    sys.stderr.write("ours")
"""
    done = run(code, tmp_path)
    assert (done.returncode, done.stderr) == (0, "ours")
