"""Being asked to stop by a signal, whatever an environment does with signals."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from esd.training.stop import StopRequest


def send(number: int) -> None:
    """To this process; Python's handlers have run when it returns."""
    os.kill(os.getpid(), number)
    time.sleep(0)


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP"])
def test_each_signal_asks_to_stop_and_its_handler_is_put_back(number: str) -> None:
    kind = signal.Signals[number]
    before = signal.getsignal(kind)
    stop = StopRequest()
    with stop.listening():
        assert not stop.requested
        send(kind)
        assert stop.requested
        assert stop.number == kind
    assert signal.getsignal(kind) is before


def test_a_second_interrupt_is_python_s_own() -> None:
    stop = StopRequest()
    with stop.listening():
        send(signal.SIGINT)
        stop.renew()
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_a_hangup_that_was_ignored_as_by_nohup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with stop.listening():
            send(signal.SIGHUP)
            stop.renew()
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_signal_that_another_handler_took_is_found_and_ours_are_put_back() -> None:
    stop = StopRequest()
    with stop.listening():
        for number in StopRequest.SIGNALS:
            signal.signal(number, lambda *_: None)
        send(signal.SIGUSR1)
        assert not stop.requested
        stop.renew()
        assert stop.requested
        stop.requested = False
        send(signal.SIGTERM)
        assert stop.requested


def test_signals_that_were_ignored_or_blocked_are_heard_again_after_renew() -> None:
    stop = StopRequest()
    with stop.listening():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        assert not stop.requested
        stop.renew()  # unblocks, and the signal arrives
        assert stop.requested
        stop.requested = False
        send(signal.SIGTERM)
        assert stop.requested


def test_a_broken_pipe_stays_an_error_and_does_not_end_the_process() -> None:
    stop = StopRequest()
    with stop.listening():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        stop.renew()
        reader, writer = os.pipe()
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            os.write(writer, b"x")
        os.close(writer)


def test_a_forked_child_dies_of_sigterm_and_does_not_stop_its_parent() -> None:
    stop = StopRequest()
    with stop.listening():
        child = os.fork()
        if not child:
            signal.signal(signal.SIGUSR1, lambda *_: None)
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(30)
            os._exit(0)
        time.sleep(0.1)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        stop.renew()
        assert os.WTERMSIG(status) == signal.SIGTERM
        assert not stop.requested


def test_a_thread_beside_the_main_one_listens_to_nothing_and_does_not_fail() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def listen() -> None:
        stop = StopRequest()
        with stop.listening():
            stop.renew()
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]


def test_the_first_signal_alone_is_answered_at_once() -> None:
    stop, heard = StopRequest(), []
    with stop.listening():
        stop.announce = heard.append
        send(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
        send(signal.SIGUSR1)
        stop.renew()
        assert heard == [signal.SIGTERM]


@pytest.mark.parametrize("asked", [True, False])
def test_a_process_that_ends_because_it_was_asked_to_is_not_ended_by_the_next_signal(
    asked: bool,
) -> None:
    before = {number: signal.getsignal(number) for number in StopRequest.SIGNALS}
    stop = StopRequest()
    try:
        with stop.listening(ends_process=True):
            if asked:
                os.kill(os.getpid(), signal.SIGUSR2)
        after = {number: signal.getsignal(number) for number in StopRequest.SIGNALS}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert after == (dict.fromkeys(before, signal.SIG_IGN) if asked else before)
