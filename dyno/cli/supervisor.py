"""The processes of `dyno cluster`: start, watch, stop.

In: every node's place and the words of its start. Out: their lines on our stdout and stderr, and no process
left when `supervise` returns or raises. Two phases: until all are ready, the end of one ends all; afterwards
an end is reported and the others go on.

Children have a session of their own, so that Ctrl-C reaches this process alone, which then stops them in
order. Should it be killed, the pipe that they watch (`node.watch_lifeline`) ends them.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence

import trio

from dyno.cli import invocation, output
from dyno.cli.cluster import Seat, restart_line, welcome
from dyno.cli.node import LIFELINE_VARIABLE
from dyno.cli.outcome import REFUSED, one_line, say
from dyno.errors import ConfigurationError, DynoError, StorageFailed

STOP_AT_MOST_S = 10.0  # then SIGKILL
PATIENCE_S = 3.0  # then it is said which nodes are not ready

_LINE_BYTES_MAX = 64 << 10
_ERROR = "dyno: "


async def supervise(seats: Sequence[Seat], starts: Sequence[list[str]], founded: Callable[[], None]) -> None:
    """Run the nodes until a signal, or the end of the last. founded: called once the first one serves.
    Raises ConfigurationError or StorageFailed when one cannot start."""
    events, happened = trio.open_memory_channel["Child"](math.inf)
    children = [Child(seat, words, events) for seat, words in zip(seats, starts, strict=True)]
    reading, lifeline = os.pipe()
    gc.enable()
    try:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with trio.open_nursery() as nursery:
                for child in children:
                    nursery.start_soon(child.run, reading)
                watching, stopping = trio.CancelScope(), trio.CancelScope()
                nursery.start_soon(_cancel_by_signals, signals, watching, stopping)
                nursery.start_soon(_remind, children)
                try:
                    with watching:
                        await _until_ready(children, happened, founded)
                        await _while_alive(children, happened)
                finally:
                    with stopping:
                        await _stop(children)
                    nursery.cancel_scope.cancel()  # and with it whoever did not stop, see Child.run
    finally:
        os.close(reading)
        os.close(lifeline)


class Child:
    """One node's process. It is sent to `events` when it is ready and when it has ended."""

    def __init__(self, seat: Seat, words: Sequence[str], events: trio.MemorySendChannel[Child]) -> None:
        self.seat = seat
        self.ready = False
        self.process: trio.Process | None = None
        self.ended = trio.Event()
        self._words = words
        self._events = events
        self._started = trio.Event()
        self._error = ""
        self._stopping = False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def code(self) -> int:
        assert self.process is not None and self.process.returncode is not None
        return self.process.returncode

    async def run(self, lifeline: int) -> None:
        """From its start to its end. lifeline: what the child is to watch. Cancelling kills it."""
        self.process = await trio.lowlevel.open_process(
            [*invocation.own_command(), *self._words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, LIFELINE_VARIABLE: str(lifeline)},
            pass_fds=(lifeline,),
            start_new_session=True,
        )
        try:
            self._started.set()
            assert self.process.stdout is not None and self.process.stderr is not None
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_each_line, self.process.stdout, self._printed)
                nursery.start_soon(_each_line, self.process.stderr, self._logged)
                await self.process.wait()
        finally:
            self.process.kill()
            self.ended.set()
            self._events.send_nowait(self)

    async def terminate(self) -> None:
        """Ask it to stop; returns when it has."""
        await self._started.wait()
        assert self.process is not None
        self._stopping = True
        self.process.terminate()
        await self.ended.wait()

    def failure(self) -> DynoError:
        """Why it did not start."""
        kind = StorageFailed if self.code == REFUSED else ConfigurationError
        reason = self._error.removeprefix(f"{self.seat.name} ") or self.how_it_ended()
        return kind(f"{self.seat.name} did not start: {reason}")

    def obituary(self) -> str:
        why = f": {self._error}" if self._error else ""
        return f"{self.seat.name} (pid {self.pid}) {self.how_it_ended()}{why}"

    def how_it_ended(self) -> str:
        if self.code >= 0:
            return f"ended with exit code {self.code}"
        try:
            return f"was killed by {signal.Signals(-self.code).name}"
        except ValueError:
            return f"was killed by signal {-self.code}"

    def _printed(self, line: str) -> None:
        if line == f"dyno: {self.seat.name} ready on {self.seat.address}" and not self.ready:
            self.ready = True
            self._events.send_nowait(self)

    def _logged(self, line: str) -> None:
        if line.startswith(_ERROR):
            self._error = line.removeprefix(_ERROR)  # told with its end
        elif not self._stopping:  # that the others go is no news then
            say(f"{self.seat.name}: {one_line(line)}")


async def _until_ready(
    children: Sequence[Child], happened: trio.MemoryReceiveChannel[Child], founded: Callable[[], None]
) -> None:
    for _ in children:  # each says so once; what comes after that is for `_while_alive`
        child = await happened.receive()
        if child.ended.is_set():
            raise child.failure()
        if child is children[0]:
            founded()
    output.announce(*welcome([child.seat for child in children], [child.pid for child in children]))


async def _while_alive(children: Sequence[Child], happened: trio.MemoryReceiveChannel[Child]) -> None:
    seats = [child.seat for child in children]
    for _ in children:
        child = await happened.receive()
        output.announce(f"dyno: {child.obituary()}; restart it with", f"  {restart_line(child.seat, seats)}")
    output.announce("dyno: no node is left")


async def _stop(children: Sequence[Child]) -> None:
    with trio.move_on_after(STOP_AT_MOST_S):
        async with trio.open_nursery() as nursery:
            for child in children:
                nursery.start_soon(child.terminate)


async def _cancel_by_signals(signals: AsyncIterator[int], *scopes: trio.CancelScope) -> None:
    """Each signal cancels the next scope: the first one stops, the second does not wait."""
    for scope in scopes:
        await anext(signals)
        scope.cancel()


async def _remind(children: Sequence[Child]) -> None:
    await trio.sleep(PATIENCE_S)
    waited_for = [child.seat.name for child in children if not child.ready]
    if waited_for:
        say(f"dyno: still waiting for {', '.join(waited_for)} to be ready")


async def _each_line(stream: trio.abc.ReceiveStream, handle: Callable[[str], None]) -> None:
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LINE_BYTES_MAX:
            lines.append(rest)
            rest = b""
        for line in lines:
            handle(line.decode(errors="replace"))
    if rest:
        handle(rest.decode(errors="replace"))
