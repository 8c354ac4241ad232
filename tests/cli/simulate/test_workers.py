"""Processes that run seeds, and what becomes of them."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from multiprocessing import Pipe
from threading import Thread

import pytest

from dyno.cli.simulate import workers
from dyno.cli.simulate.workers import Far, Result, SeedLost, Workers, _how_it_ended, result_of, work
from dyno.simulator.trial import Trial

SHORT = Trial(nodes=3, hours=0.001, faults=("crash",))


def test_every_seed_is_run_once() -> None:
    with Workers(SHORT, range(3, 8), processes=2) as pool:
        results = [news for news in pool.news() if isinstance(news, Result)]
    assert sorted(result.seed for result in results) == [3, 4, 5, 6, 7]
    assert all(result.cpu_s > 0 and result.outcome.violations == () for result in results)
    (third,) = [result for result in results if result.seed == 3]
    assert third.outcome == SHORT.run(3)


def test_a_process_that_is_killed_is_an_error_that_names_its_seed() -> None:
    trial = SHORT._replace(hours=1.0)
    with Workers(trial, range(1), processes=1) as pool:
        (process,) = pool._processes.values()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(SeedLost) as lost:
            list(pool.news())
    assert str(lost.value) == (
        "the process that ran seed 0 was killed (signal 9), as it is where memory is short, so this says "
        f"nothing of it; again: {trial.command(0)}"
    )


@pytest.mark.parametrize("before", [True, False])
def test_nobody_waits_for_a_process_whose_pipe_somebody_else_holds(
    before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So its end does not show in the pipe, whenever it died."""
    monkeypatch.setattr(workers, "LOOK_EVERY_S", 0.01)
    ours, theirs = Pipe()
    with Workers(SHORT._replace(hours=1.0), range(4, 5), processes=1) as pool:
        ((connection, process),) = pool._processes.items()
        pool._processes = {ours: process}
        if before:
            process.kill()
            process.join()
        else:
            theirs.send(Far(4, 0.5))
        news = pool.news()
        if not before:
            assert next(news) == Far(4, 0.5)
            process.kill()
        with pytest.raises(SeedLost, match="seed 4 was killed"):
            next(news)
    theirs.close()
    connection.close()


def test_what_a_process_said_before_its_end_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LOOK_EVERY_S", 0.0)
    ours, theirs = Pipe()
    with Workers(SHORT._replace(hours=1.0), range(4, 5), processes=1) as pool:
        ((connection, process),) = pool._processes.items()
        pool._processes = {ours: process}
        process.kill()
        process.join()
        pool._busy = {ours: 4}
        theirs.send(Far(4, 0.9))
        pool._look()  # says nothing yet
        assert ours.recv() == Far(4, 0.9)
        with pytest.raises(SeedLost):
            pool._look()
    theirs.close()
    connection.close()


def test_a_process_that_closes_its_pipe_and_stays_is_lost_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "END_S", 0.01)
    ours, theirs = Pipe()
    with Workers(SHORT._replace(hours=100.0), range(4, 5), processes=1) as pool:
        ((connection, process),) = pool._processes.items()
        pool._processes = {ours: process}
        theirs.close()
        with pytest.raises(SeedLost, match="seed 4 answers no more"):
            list(pool.news())
    assert process.exitcode == -signal.SIGKILL
    connection.close()


@pytest.mark.parametrize(
    ("code", "how"),
    [(1, "ended with exit code 1"), (-signal.SIGTERM, "was killed by signal 15")],
)
def test_how_a_process_ended_is_told(code: int, how: str) -> None:
    assert _how_it_ended(code) == how


def test_leaving_ends_all_processes() -> None:
    with Workers(SHORT._replace(hours=100.0), range(2), processes=2) as pool:
        processes = list(pool._processes.values())
        assert len(processes) == 2
    assert [process.exitcode for process in processes] == [-9, -9]


def test_it_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "NEWS_EVERY_S", 0.0)
    ours, theirs = Pipe()
    result = result_of(SHORT._replace(hours=0.002), 1, theirs)
    news = []
    while ours.poll():
        news.append(ours.recv())
    assert result.seed == 1
    assert all(isinstance(one, Far) and one.seed == 1 for one in news)
    assert 0 < news[0].share < news[-1].share < 1


@pytest.fixture
def collector() -> Iterator[None]:
    """A process of its own may set it as it likes; this one gets back what it had."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("collector")
def test_a_process_ends_when_nobody_asks_any_more() -> None:
    ours, theirs = Pipe()
    thread = Thread(target=work, args=(theirs, SHORT))
    thread.start()
    ours.send(4)
    news = ours.recv()
    while isinstance(news, Far):
        news = ours.recv()
    assert news.seed == 4
    ours.close()
    thread.join(timeout=30)
    assert not thread.is_alive()
