"""Log records and warnings of other packages: captured within the block, printed as before after it."""

import logging
import sys
import warnings

import pytest

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
