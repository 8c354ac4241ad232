"""A thread beside the loop: work goes in through a queue, and its result comes back on the loop.

That a result is there is told by one byte in a pipe that the reactor watches, for that is cheaper than Trio's
threads and needs no task. A node has one worker for commits (LMDB commits outside the interpreter lock) and
one for reads when the disk is cold.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from dyno.transport.reactor import Reactor

In = TypeVar("In")
Out = TypeVar("Out")


class Worker(Generic[In, Out]):
    """do(work) runs on the thread and must not raise; on_done(result) runs on the loop, in the order of the
    work, for at most `per_turn_max` results a turn. Who submits bounds how much waits."""

    def __init__(
        self,
        reactor: Reactor,
        *,
        name: str,
        do: Callable[[In], Out],
        on_done: Callable[[Out], None],
        per_turn_max: int = 1024,
    ) -> None:
        self.closed = False
        self._reactor = reactor
        self._do = do
        self._on_done = on_done
        self._per_turn_max = per_turn_max
        self._work: queue.SimpleQueue[tuple[In] | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Out] = queue.SimpleQueue()
        self._awake, self._wake = os.pipe()
        os.set_blocking(self._awake, False)
        reactor.register(self._awake, self)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, work: In) -> None:
        self._work.put((work,))

    def poll(self) -> bool:
        """Tell of results now if there are any; whether there were."""
        if self._results.empty():
            return False
        self.on_readable()
        return True

    def on_readable(self) -> None:
        # A byte for each result: what is left of them keeps the pipe readable for the next turn.
        try:
            told = os.read(self._awake, self._per_turn_max)
        except BlockingIOError:
            return  # polled between a result and its byte, or told by `poll` already
        for _ in told:
            self._on_done(self._results.get())

    def on_writable(self) -> None:
        raise AssertionError("a pipe's read end is never watched for writing")

    def close(self) -> None:
        """Finishes what was submitted, without telling of it, and ends the thread."""
        if not self.closed:
            self.closed = True
            self._work.put(None)
            self._thread.join()
            self._reactor.unregister(self._awake)
            os.close(self._awake)
            os.close(self._wake)

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            self._results.put(self._do(item[0]))
            os.write(self._wake, b"\0")
