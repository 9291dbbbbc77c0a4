"""Stop requests: which signals are handled, which stay ignored, and when they interrupt."""

import os
import signal
from collections.abc import Iterator

import pytest

from ssl_cli.errors import Interrupted
from ssl_cli.signals import StopRequest, stop_request


@pytest.fixture
def hang_up() -> Iterator[None]:
    """Restore the handler of SIGHUP after the test."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_is_a_resumable_stop(hang_up: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with stop_request() as request:
        with request.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
        assert request.signal is signal.SIGHUP
        with pytest.raises(Interrupted, match="SIGHUP was received") as stop:
            request.raise_if_signalled()
    assert stop.value.code == 75
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_under_nohup_it_stays_ignored(hang_up: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_request() as outer, stop_request() as inner:
        os.kill(os.getpid(), signal.SIGHUP)
    assert (outer.signal, inner.signal) == (None, None)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_a_second_interrupt_is_not_deferred() -> None:
    request = StopRequest()
    with request.deferred():
        request(signal.SIGINT, None)
        with pytest.raises(Interrupted) as stop:
            request(signal.SIGINT, None)
    assert stop.value.code == 130


def test_a_signal_interrupts_at_once_where_no_step_is_running() -> None:
    request = StopRequest()
    with pytest.raises(Interrupted, match="SIGTERM was received"):
        request(signal.SIGTERM, None)
