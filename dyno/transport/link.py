"""A TCP link: a non-blocking socket joined to a `LinkCodec`.

Bytes are received into the reactor's one buffer and handed to `on_messages` as whole messages; what is sent
in a turn leaves in one system call. A peer that reads too slowly fills `backlog_bytes_max` and is cut off;
what all links hold, half-arrived or unsent, is on the reactor's ledger. So no peer and no crowd of them can
make a node's memory grow. Everything that ends a link ends in exactly one call of `on_closed`;
a peer whose machine is gone without a word ends it too, after GONE_AFTER_S.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from dyno.config import FRAME_BYTES_MAX
from dyno.transport.ledger import LITTLE_BYTES
from dyno.transport.reactor import Reactor
from dyno.wire.codec import ProtocolError
from dyno.wire.link import LinkCodec
from dyno.wire.messages import Message

SocketAddress: TypeAlias = tuple[Any, ...]

# Where the system can be told: an idle link is probed, one that owes acknowledgements is timed. Else clients
# that vanished would take up the places of live ones for good.
GONE_AFTER_S: Final = 40
_PROBE_AFTER_S, _PROBE_EVERY_S, _PROBES = 20, 5, 4
_TCP_OPTIONS: Final = [
    (getattr(socket, name), value)
    for name, value in (
        ("TCP_NODELAY", 1),
        ("TCP_KEEPIDLE", _PROBE_AFTER_S),
        ("TCP_KEEPINTVL", _PROBE_EVERY_S),
        ("TCP_KEEPCNT", _PROBES),
        ("TCP_USER_TIMEOUT", GONE_AFTER_S * 1000),
    )
    if hasattr(socket, name)
]


class Link:
    """on_messages(link, messages) · on_closed(link, reason) · on_connected(link) for a dialled one.

    `owner` is the runner's to use: what this link is to it."""

    __slots__ = (
        "_backlog",
        "_backlog_bytes_max",
        "_codec",
        "_connecting",
        "_counted",
        "_dirty",
        "_on_closed",
        "_on_connected",
        "_on_messages",
        "_reactor",
        "_sock",
        "_watching_writable",
        "closed",
        "owner",
    )

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        *,
        on_messages: Callable[[Link, Sequence[Message]], None],
        on_closed: Callable[[Link, str], None],
        on_connected: Callable[[Link], None] | None = None,
        backlog_bytes_max: int,
        owner: Any = None,
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _TCP_OPTIONS:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
        self._reactor = reactor
        self._sock = sock
        self._codec = LinkCodec()
        self._backlog = memoryview(b"")
        self._backlog_bytes_max = backlog_bytes_max
        self._on_messages = on_messages
        self._on_closed = on_closed
        self._on_connected = on_connected
        self._connecting = on_connected is not None
        self._watching_writable = self._connecting
        self._dirty = False
        self._counted = False  # whether it holds enough to be on the ledger
        self.closed = False
        self.owner = owner
        reactor.register(sock, self, writable=self._connecting)

    @classmethod
    def dial(
        cls,
        reactor: Reactor,
        family: int,
        address: SocketAddress,
        *,
        on_messages: Callable[[Link, Sequence[Message]], None],
        on_closed: Callable[[Link, str], None],
        on_connected: Callable[[Link], None],
        backlog_bytes_max: int,
        owner: Any = None,
    ) -> Link:
        """Begin to connect; raises OSError when that fails at once (no route, no descriptors left)."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            begun = sock.connect_ex(address)
            if begun not in (0, errno.EINPROGRESS):
                raise OSError(begun, os.strerror(begun))
            return cls(
                reactor,
                sock,
                on_messages=on_messages,
                on_closed=on_closed,
                on_connected=on_connected,
                backlog_bytes_max=backlog_bytes_max,
                owner=owner,
            )
        except BaseException:
            sock.close()
            raise

    def distrust(self, frame_bytes_max: int) -> None:
        """Before the handshake a stranger may send small frames only."""
        self._codec.frame_bytes_max = frame_bytes_max

    def welcome(self, on_messages: Callable[[Link, Sequence[Message]], None]) -> None:
        """After the handshake: full frames, and somebody else takes the messages."""
        self._codec.frame_bytes_max = FRAME_BYTES_MAX
        self._on_messages = on_messages

    def send(self, message: Message) -> None:
        """Queue a message for this turn's flush. On a closed link it is dropped, as a network would.

        Raises ValueError for one that is larger than any message may be."""
        if self.closed:
            return
        self._codec.send(message)
        if not self._dirty:
            self._dirty = True
            self._reactor.mark_dirty(self)

    def flush(self) -> None:
        """Send what is queued; what the kernel does not take stays as backlog until it is writable."""
        self._dirty = False
        if self.closed or self._connecting:
            return
        if not self._backlog and not self._send_some(self._codec.drain()):
            return
        unsent = len(self._backlog) + self._codec.queued_bytes
        if unsent > self._backlog_bytes_max:
            self.close("the other side reads too slowly")
            return
        if (unsent > LITTLE_BYTES or self._counted) and not self._account():
            return
        wanted = bool(self._backlog) or self._codec.pending
        if wanted != self._watching_writable:
            self._watching_writable = wanted
            self._reactor.watch_writable(self._sock, self, wanted)

    def close(self, reason: str) -> None:
        """Idempotent; `on_closed` hears of it once."""
        if self.closed:
            return
        self.closed = True
        if self._counted:
            self._reactor.ledger.hold(self, 0)
        self._reactor.unregister(self._sock)
        self._sock.close()
        self._on_closed(self, reason)

    def on_readable(self) -> None:
        try:
            count = self._sock.recv_into(self._reactor.buffer)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.close(_reason(error))
            return
        if not count:
            self.close("closed by the other side")
            return
        try:
            messages = self._codec.feed(self._reactor.buffer[:count])
        except ProtocolError as error:
            self.close(f"not understood: {error}")
            return
        if (self._codec.arriving_bytes > LITTLE_BYTES or self._counted) and not self._account():
            return
        if messages:
            self._on_messages(self, messages)

    def on_writable(self) -> None:
        if self._connecting:
            self._finish_connecting()
            return
        if not self._backlog or (self._send_some(self._backlog) and not self._backlog):
            self.flush()

    def _account(self) -> bool:
        """Tell the ledger what this link holds; it may close another one for that, or, then False, this."""
        codec = self._codec
        held = codec.arriving_bytes + codec.queued_bytes + len(self._backlog)
        self._counted = self._reactor.ledger.hold(self, held)
        return not self.closed

    def _finish_connecting(self) -> None:
        failed = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            self.close(os.strerror(failed))
            return
        self._connecting = False
        assert self._on_connected is not None
        self._on_connected(self)
        self.flush()

    def _send_some(self, data: bytes | memoryview) -> bool:
        """What the kernel does not take becomes the backlog. False when the link broke."""
        if not data:
            return True
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.close(_reason(error))
            return False
        self._backlog = memoryview(data)[sent:]
        return True


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
