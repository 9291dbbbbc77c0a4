"""Stop requests: which signals are handled, which stay ignored, and when they interrupt."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from ssl_cli.errors import Interrupted
from ssl_cli.signals import StopRequest, on_interrupt, stop_request


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


def test_a_block_around_a_stopped_one_knows_of_the_signal() -> None:
    """Such as a pipeline whose stage was in its last step."""
    with stop_request() as outer:
        with stop_request() as inner, inner.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match="SIGTERM was received"):
            outer.raise_if_signalled()


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


def test_an_interrupt_is_noticed_while_the_main_thread_computes() -> None:
    """It is called from a thread of its own, which needs no instruction of the main thread."""
    names: list[str] = []
    noticed = threading.Event()

    def notice() -> None:
        names.append(threading.current_thread().name)
        noticed.set()

    before = signal.set_wakeup_fd(-1)
    with stop_request() as request, request.deferred(), on_interrupt(notice):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert noticed.wait(timeout=60)
    assert names == ["on_interrupt"]
    assert signal.set_wakeup_fd(before) == -1
    assert not [thread for thread in threading.enumerate() if thread.name == "on_interrupt"]


def test_other_signals_call_nothing() -> None:
    calls: list[int] = []
    with stop_request() as request, request.deferred(), on_interrupt(lambda: calls.append(1)):
        os.kill(os.getpid(), signal.SIGTERM)
    assert calls == []  # its thread has ended


def test_outside_the_main_thread_an_interrupt_is_not_watched() -> None:
    entered: list[bool] = []

    def body() -> None:
        with on_interrupt(lambda: None):
            entered.append(True)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert entered == [True]
