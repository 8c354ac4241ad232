"""One selector for all sockets of a node or a client, polled once per loop turn (Schmidt's Reactor).

Trio waits for one file descriptor, this selector's own; `turn` then visits every socket that is ready,
without a task, a system call for re-arming or a Trio checkpoint per socket. Links that got something to
send are *dirty* and are flushed together at the end of the turn: one send per peer and turn.
"""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING, Protocol

from dyno.transport.ledger import UNBOUNDED, Ledger

if TYPE_CHECKING:
    from socket import socket
    from typing import TypeAlias

    Ready: TypeAlias = list[tuple[selectors.SelectorKey, int]]

_RECEIVE_BYTES = 256 << 10


class Handler(Protocol):
    """Whoever owns a registered socket. `closed` handlers are passed over within a turn."""

    closed: bool

    def on_readable(self) -> None: ...
    def on_writable(self) -> None: ...


class Flushable(Protocol):
    def flush(self) -> None: ...


class Reactor:
    """register, watch_writable and unregister sockets; `turn` polls without waiting and calls handlers.
    held_bytes_max: what all links may hold together."""

    def __init__(self, *, held_bytes_max: int = UNBOUNDED) -> None:
        self.ledger = Ledger(held_bytes_max)
        # All links of a reactor receive into this one, for what was received is decoded before the next one
        # does. It is no wider shared: receiving lets go of the interpreter lock, so two threads would mix.
        self.buffer = memoryview(bytearray(_RECEIVE_BYTES))
        self._selector = selectors.DefaultSelector()
        self._dirty: list[Flushable] = []

    def fileno(self) -> int:
        """The descriptor that is readable while any registered socket is ready."""
        return self._selector.fileno()

    def register(self, sock: socket | int, handler: Handler, *, writable: bool = False) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writable else 0)
        self._selector.register(sock, events, handler)

    def watch_writable(self, sock: socket, handler: Handler, wanted: bool) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
        self._selector.modify(sock, events, handler)

    def unregister(self, sock: socket | int) -> None:
        self._selector.unregister(sock)

    def turn(self) -> bool:
        """Visit every socket that is ready, without waiting. False when none was."""
        ready = self.poll(0)
        self.visit(ready)
        return bool(ready)

    def poll(self, wait_s: float) -> Ready:
        """The sockets that are ready, waited for so long at most. Waiting blocks the thread."""
        return self._selector.select(wait_s)

    def visit(self, ready: Ready) -> None:
        for key, events in ready:
            handler: Handler = key.data
            if events & selectors.EVENT_WRITE and not handler.closed:
                handler.on_writable()
            if events & selectors.EVENT_READ and not handler.closed:
                handler.on_readable()

    def mark_dirty(self, link: Flushable) -> None:
        """The caller sees to it that a link is marked once between two flushes."""
        self._dirty.append(link)

    @property
    def has_dirty(self) -> bool:
        return bool(self._dirty)

    def flush(self) -> None:
        dirty, self._dirty = self._dirty, []
        for link in dirty:
            link.flush()

    def close(self) -> None:
        self._selector.close()
