"""A thread beside the loop, and how its results come back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from dyno.server.worker import Worker
from dyno.transport.reactor import Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


def test_results_come_back_in_order_and_not_too_many_in_one_turn(reactor: Reactor) -> None:
    done: list[int] = []
    worked = threading.Semaphore(0)

    def double(number: int) -> int:
        if number == 5:  # all before it have been told of
            worked.release()
        return number * 2

    worker = Worker(reactor, name="test", do=double, on_done=done.append, per_turn_max=2)
    for number in range(6):
        worker.submit(number)
    worked.acquire()
    for most in (2, 4):
        assert reactor.turn()
        assert done == [number * 2 for number in range(most)]
    while len(done) < 6:
        reactor.turn()
    assert done == [0, 2, 4, 6, 8, 10]
    assert not reactor.turn()
    worker.close()
    worker.close()


def test_who_polls_hears_of_results_at_once_and_once(reactor: Reactor) -> None:
    done: list[int] = []
    worked = threading.Semaphore(0)

    def release(number: int) -> int:
        worked.release()
        return number

    worker = Worker(reactor, name="test", do=release, on_done=done.append)
    assert not worker.poll()
    worker.submit(1)
    worked.acquire()
    while not done:
        worker.poll()
    assert not worker.poll()
    worker.on_readable()  # as a reactor would that saw it readable before it was polled
    assert done == [1]
    worker.close()


def test_what_was_submitted_is_finished_before_the_end(reactor: Reactor) -> None:
    done: list[int] = []
    worker = Worker(reactor, name="test", do=done.append, on_done=lambda _: None)
    for number in range(100):
        worker.submit(number)
    worker.close()
    assert done == list(range(100))
