"""Seeds on all cores: a process for each core, which gets one seed after the other.

In: a trial and its seeds. Out: news as they come: how far a seed is, and what came of it, with the stories
of what did not hold. Guarantees: a process that is lost is an error that names its seed, and no hang, whoever
else may hold an end of its pipe; leaving ends all processes at once, and they end by themselves when this one
is no more. Ctrl-C reaches this process alone.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, NamedTuple

from dyno.errors import DynoError
from dyno.simulator.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess
    from types import TracebackType
    from typing import Self

    from dyno.simulator.scenario import Outcome

NEWS_EVERY_S = 0.3
STORIES_MAX = 1  # of one seed; the first violation is the one to look at
LOOK_EVERY_S = 1.0  # whether they that say nothing are there still
END_S = 5.0  # for a process that closed its pipe to be gone
COLLECT_EVERY = 5_000_000  # new objects: little garbage needs a collector, and looking costs a sixth


class Far(NamedTuple):
    """How far a seed is. share: 0 to 1."""

    seed: int
    share: float


class Result(NamedTuple):
    """cpu_s: what it took. stories: of the first violations, as lines."""

    outcome: Outcome
    cpu_s: float
    stories: tuple[tuple[str, ...], ...]

    @property
    def seed(self) -> int:
        return self.outcome.seed


class SeedLost(DynoError):
    """The process that ran a seed is gone, and nobody knows what would have come of it."""


class Workers:
    """processes: at most; as many as there are cores, unless somebody says another number."""

    def __init__(self, trial: Trial, seeds: range, *, processes: int | None = None) -> None:
        self._trial = trial
        self._seeds = iter(seeds)
        self._count = min(processes or _cores(), len(seeds))
        self._busy: dict[Connection, int] = {}  # with which seed
        self._processes: dict[Connection, SpawnProcess] = {}

    def __enter__(self) -> Self:
        resource_tracker.ensure_running()  # it would unblock the signal again
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # the processes inherit that
        try:
            for _ in range(self._count):
                self._start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        return self

    def _start(self) -> None:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self._trial), daemon=True)
        process.start()
        theirs.close()
        self._processes[ours] = process

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for process in self._processes.values():
            process.kill()
        for connection, process in self._processes.items():
            process.join()
            connection.close()

    def news(self) -> Iterator[Far | Result]:
        """In no certain order, until all seeds are done. Raises SeedLost when a process is."""
        for connection in self._processes:
            self._next(connection)
        while self._busy:
            ready = wait(list(self._busy), LOOK_EVERY_S)
            for connection in [one for one in self._busy if one in ready]:
                yield self._heard(connection)
            if not ready:
                self._look()

    def _look(self) -> None:
        """A pipe ends with its process only where nobody else holds it."""
        for connection in self._busy:
            if self._processes[connection].exitcode is not None and not connection.poll():
                raise self._lost(connection)

    def _heard(self, connection: Connection) -> Far | Result:
        try:
            news: Far | Result = connection.recv()
        except (EOFError, OSError):
            raise self._lost(connection) from None
        if isinstance(news, Result):
            self._next(connection)
        return news

    def _next(self, connection: Connection) -> None:
        seed = next(self._seeds, None)
        if seed is None:
            self._busy.pop(connection, None)
        else:
            self._busy[connection] = seed
            try:
                connection.send(seed)
            except OSError:
                raise self._lost(connection) from None

    def _lost(self, connection: Connection) -> SeedLost:
        process, seed = self._processes[connection], self._busy[connection]
        process.join(END_S)
        how = _how_it_ended(process.exitcode)
        again = self._trial.command(seed)
        return SeedLost(f"the process that ran seed {seed} {how}, so this says nothing of it; again: {again}")


def _how_it_ended(code: int | None) -> str:
    """code: of a process; None for one that runs, and has closed its pipe."""
    if code is None:
        return "answers no more"
    if code == -signal.SIGKILL:
        return "was killed (signal 9), as it is where memory is short"
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def work(connection: Connection, trial: Trial) -> None:
    """What a process does, until nobody asks any more."""
    gc.enable()
    gc.freeze()  # what is imported stays
    gc.set_threshold(COLLECT_EVERY)
    while True:
        try:
            seed = connection.recv()
            connection.send(result_of(trial, seed, connection))
        except (EOFError, OSError):
            return


def result_of(trial: Trial, seed: int, connection: Connection) -> Result:
    sent_at = time.monotonic()

    def tell(share: float) -> None:
        nonlocal sent_at
        now = time.monotonic()
        if now - sent_at >= NEWS_EVERY_S:
            sent_at = now
            connection.send(Far(seed, share))

    began = time.process_time()
    outcome = trial.run(seed, progress=tell)
    cpu_s = time.process_time() - began
    stories = tuple(
        tuple(trial.tell(seed, violation.key, violation.at)) if violation.key is not None else ()
        for violation in outcome.violations[:STORIES_MAX]
    )
    gc.collect()  # a cluster is full of circles, and the next one is coming
    return Result(outcome, cpu_s, stories)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
