"""The storage thread: one batch at a time is committed while the loop goes on.

A batch goes in through a queue; that it is done is told by one byte in a pipe that the reactor watches, for
that is cheaper than Trio's threads and needs no task. LMDB commits outside the interpreter lock.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import TypeAlias

from dyno.storage.engine import Engine
from dyno.transport.reactor import Reactor

Work: TypeAlias = tuple[Mapping[bytes, bytes], Mapping[str, bytes]]


class Disk:
    """on_done(error or None) runs on the loop, once per submitted batch."""

    def __init__(
        self, engine: Engine, reactor: Reactor, *, on_done: Callable[[Exception | None], None]
    ) -> None:
        self.closed = False
        self._engine = engine
        self._reactor = reactor
        self._on_done = on_done
        self._work: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._results: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        self._awake, self._wake = os.pipe()
        os.set_blocking(self._awake, False)
        reactor.register(self._awake, self)
        self._thread = threading.Thread(target=self._run, name="dyno-disk", daemon=True)
        self._thread.start()

    def submit(self, writes: Mapping[bytes, bytes], meta: Mapping[str, bytes]) -> None:
        self._work.put((writes, meta))

    def on_readable(self) -> None:
        os.read(self._awake, 64)
        while not self._results.empty():
            self._on_done(self._results.get())

    def on_writable(self) -> None:
        raise AssertionError("a pipe's read end is never watched for writing")

    def stop(self) -> None:
        """Commits what was submitted, ends the thread and waits for it: at most one commit long."""
        self._work.put(None)
        self._thread.join()

    def close(self) -> None:
        """After `stop`; the results of the last batch, if they were not read yet, are dropped."""
        if not self.closed:
            self.closed = True
            self._reactor.unregister(self._awake)
            os.close(self._awake)
            os.close(self._wake)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            error: Exception | None = None
            try:
                self._engine.write_batch(*work)
            except Exception as failure:  # noqa: BLE001 - handed to the loop, which judges it
                error = failure
            self._results.put(error)
            os.write(self._wake, b"\0")
