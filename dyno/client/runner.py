"""Runs one session on Trio (PERFORMANCE, rule 10).

Three tasks serve all calls of a client: the *driver* waits for the reactor's descriptor and handles whatever
came in; the *flusher* is parked until a call queued something, and then sends all that was queued in that
scheduler tick, one write per link; the *timer* sleeps until the session's next deadline. A call itself is
one `wait_task_rescheduled`: no task, event or cancel scope of its own.

The tasks are Trio system tasks, so a client may be opened and closed anywhere, exceptions of its user's code
are never wrapped, and a client that was not closed ends with the Trio run. If one of them breaks, every call
fails with an error that names the cause; none is left hanging.

Ctrl-C never strikes between two lines of the client: all that runs here is protected, and Trio raises
KeyboardInterrupt in its main task where that waits; but a function that `update` calls is its user's.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import (
    Abort,
    current_task,
    enable_ki_protection,
    reschedule,
    wait_readable,
    wait_task_rescheduled,
)

from dyno.session.outbox import SessionOutbox
from dyno.transport.link import Link
from dyno.transport.reactor import Reactor
from dyno.wire.address import parse_address
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import Hello, Refuse

if TYPE_CHECKING:
    from dyno.session.calls import Call
    from dyno.session.session import Session
    from dyno.wire.messages import Message

LINK_BACKLOG_BYTES_MAX = 64 << 20
HELLO_BYTES_MAX = 4096
BROKEN = "the client broke and has to be opened anew"


class Runner:
    """on_broken(cause): told when the tasks broke; nothing can be asked any more."""

    def __init__(self, session: Session, *, on_broken: Callable[[BaseException], None]) -> None:
        self.session = session
        self.out = SessionOutbox()
        self._on_broken = on_broken
        self._reactor = Reactor()
        self._now = trio.current_time()
        self._links: dict[str, Link] = {}
        self._dials: dict[str, trio.CancelScope] = {}
        self._scope = trio.CancelScope()
        self._done = trio.Event()
        self._timer = trio.CancelScope()
        self._timer_at = math.inf
        self._flusher: trio.lowlevel.Task | None = None  # while it is parked
        trio.lowlevel.spawn_system_task(self._run, name="dyno client")

    @enable_ki_protection
    async def outcome(self, call: Call) -> Any:
        """The result of a call that was just begun; raises its error."""
        await self.wait(call)
        if call.error is not None:
            raise call.error
        return call.result

    @enable_ki_protection
    async def wait(self, call: Call) -> None:
        """Until the call has its result or error. Cancelled, the call is dropped and no other disturbed."""

        def abort(_: object) -> Abort:
            call.waiter = None
            self.session.cancel(call, trio.current_time(), self.out)
            self._wake_flusher()  # what waited for its room may go
            return Abort.SUCCEEDED

        call.waiter = current_task()
        if self._flusher is not None:
            self._wake_flusher()
        await wait_task_rescheduled(abort)

    def send_soon(self) -> None:
        """What the session wants sent goes out in this tick, though nobody waits for it yet."""
        self._wake_flusher()

    @enable_ki_protection
    async def close(self) -> None:
        """End all calls and tasks, and close all sockets. Not disturbed by cancellation; takes no time."""
        self._now = trio.current_time()
        self.session.close(self._now, self.out)
        self._scope.cancel()
        with trio.CancelScope(shield=True):
            await self._done.wait()

    # ── the tasks ──

    @enable_ki_protection
    async def _run(self) -> None:
        try:
            with self._scope:
                async with trio.open_nursery() as self._nursery:
                    self._nursery.start_soon(self._drive)
                    self._nursery.start_soon(self._flush_when_woken)
                    self._nursery.start_soon(self._keep_time)
        except Exception as error:  # noqa: BLE001 - whatever it is, callers must not hang
            self._break(_first(error))
        finally:
            self._release()
            self._done.set()

    @enable_ki_protection
    async def _drive(self) -> None:
        descriptor = self._reactor.fileno()
        while True:
            await wait_readable(descriptor)
            self._now = trio.current_time()
            self._reactor.turn()
            self._settle()

    @enable_ki_protection
    async def _flush_when_woken(self) -> None:
        def abort(_: object) -> Abort:
            self._flusher = None
            return Abort.SUCCEEDED

        while True:
            self._now = trio.current_time()
            self._reactor.turn()  # a link that is broken already takes no write along
            self._settle()
            self._flusher = current_task()
            await wait_task_rescheduled(abort)

    @enable_ki_protection
    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope(deadline=self._timer_at) as self._timer:
                await trio.sleep_forever()
            self._now = trio.current_time()
            self._reactor.turn()  # what arrived while the loop was busy came in time
            self.session.tick(self._now, self.out)
            self._timer_at = math.inf
            self._settle()

    def _wake_flusher(self) -> None:
        if self._flusher is not None:
            flusher, self._flusher = self._flusher, None
            reschedule(flusher)

    # ── the end of a turn ──

    def _settle(self) -> None:
        """Carry out what the session wants, which may give it news that make it want more."""
        out = self.out
        while True:
            if out.disconnect or out.connect:
                self._change_links()
            if out.sends:
                sends, out.sends = out.sends, []
                links = self._links
                for address, request in sends:
                    link = links.get(address)
                    if link is not None:
                        link.send(request)
            self._reactor.flush()
            if out.finished:
                self._wake_callers()
            if not (out.sends or out.disconnect or out.connect or out.finished):
                break
        deadline = self.session.deadline()
        if deadline < self._timer_at:
            self._timer_at = self._timer.deadline = deadline

    def _wake_callers(self) -> None:
        finished, self.out.finished = self.out.finished, []
        for call in finished:
            waiter, call.waiter = call.waiter, None
            if waiter is not None:
                reschedule(waiter)

    def _change_links(self) -> None:
        out = self.out
        disconnect, out.disconnect = out.disconnect, []
        for address in disconnect:
            link = self._links.pop(address, None)
            if link is not None:
                link.close("not wanted any more")
            dial = self._dials.pop(address, None)
            if dial is not None:
                dial.cancel()
        connect, out.connect = out.connect, []
        for address in connect:
            self._nursery.start_soon(self._dial, address)

    # ── links ──

    @enable_ki_protection
    async def _dial(self, address: str) -> None:
        """Look the name up and connect, to whichever of its addresses answers first (RFC 8305)."""
        with trio.CancelScope() as scope:
            self._dials[address] = scope
            try:
                stream = await trio.open_tcp_stream(*parse_address(address))
            except (OSError, UnicodeError) as error:
                self._dialled(address, scope, None, _reason(error))
            else:
                self._dialled(address, scope, socket.socket(fileno=stream.socket.detach()), "")

    def _dialled(
        self, address: str, scope: trio.CancelScope, sock: socket.socket | None, reason: str
    ) -> None:
        self._now = trio.current_time()
        wanted = self._dials.get(address) is scope
        if wanted:
            del self._dials[address]
            if sock is not None:
                try:
                    self._greet(address, sock)
                    sock = None
                except OSError as error:  # reset already
                    reason = _words(error)
            if reason:
                self.session.link_down(address, reason, self._now, self.out)
            self._settle()
        if sock is not None:
            sock.close()

    def _greet(self, address: str, sock: socket.socket) -> None:
        link = Link(
            self._reactor,
            sock,
            on_messages=self._first_messages,
            on_closed=self._closed,
            backlog_bytes_max=LINK_BACKLOG_BYTES_MAX,
            owner=address,
        )
        link.distrust(HELLO_BYTES_MAX)
        self._links[address] = link
        link.send(self.session.hello())

    def _first_messages(self, link: Link, messages: Sequence[Message]) -> None:
        address: str = link.owner
        first, *rest = messages
        if isinstance(first, Refuse):
            self.session.refused(address, first, self._now, self.out)
        elif isinstance(first, Hello):
            link.welcome(self._messages)
            self.session.link_up(address, first, self._now, self.out)
            self._messages(link, rest)
        else:
            link.close("the first message was no hello; is it a dyno node?")

    def _messages(self, link: Link, messages: Sequence[Message]) -> None:
        address, handle, now, out = link.owner, self.session.handle, self._now, self.out
        try:
            for message in messages:
                handle(address, message, now, out)
        except ProtocolError as error:
            link.close(f"not understood: {error}")

    def _closed(self, link: Link, reason: str) -> None:
        address: str = link.owner
        if self._links.get(address) is link:
            del self._links[address]
            self.session.link_down(address, reason, self._now, self.out)

    # ── the end ──

    def _break(self, cause: Exception) -> None:
        self._on_broken(cause)
        reason = f"{BROKEN}: {cause!r}"
        self.session.close(trio.current_time(), self.out, reason=reason, cause=cause)

    def _release(self) -> None:
        links, self._links = self._links, {}
        for link in links.values():
            link.close("the client was closed")
        self._reactor.close()
        self._wake_callers()


def _first(error: Exception) -> Exception:
    """The first of the errors that a nursery gathered."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _reason(error: OSError | UnicodeError) -> str:
    """What went wrong, in the system's words; in all of them where several addresses of a name failed."""
    cause = error.__cause__
    causes = cause.exceptions if isinstance(cause, BaseExceptionGroup) else (error,)
    return ", ".join(dict.fromkeys(map(_words, causes)))


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)
