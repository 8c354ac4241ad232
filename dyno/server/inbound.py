"""Links that others opened: peers, clients, and whoever else found the port.

A link is a stranger until its Hello is judged: it may send one small frame within `handshake_timeout_s`, and
strangers are few, the oldest makes room for the newest, so that a thousand half-open connections cost
nobody else anything. After the handshake its messages go to the node under the link's number.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dyno.protocol.handshake import CLIENT
from dyno.transport.link import Link
from dyno.wire.messages import Hello, Refuse

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.protocol.node import Node as Core
    from dyno.transport.reactor import Reactor
    from dyno.wire.messages import Message

_HELLO_BYTES_MAX = 4096
_STRANGERS_MAX = 256
_ACCEPTS_PER_TURN = 64
_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Inbound:
    """receive(number, requests), as they came together; `now` is the runner's clock at this turn."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        core: Core,
        config: Config,
        reactor: Reactor,
        now: Callable[[], float],
        receive: Callable[[int, Sequence[Message]], None],
        log: Callable[[str, str], None],
    ) -> None:
        self.closed = False
        self._listener = listener
        self._core = core
        self._config = config
        self._reactor = reactor
        self._now = now
        self._receive = receive
        self._log = log
        self._last_number = 0
        self._clients: dict[int, bool] = {}
        self._links: dict[int, Link] = {}
        self._strangers: dict[int, tuple[float, Link]] = {}  # in the order of their deadlines
        self._resume_at: float | None = None
        reactor.register(listener, self)

    def send(self, replies: Sequence[tuple[int, Any]]) -> None:
        """An answer to a link that is gone is dropped."""
        links = self._links
        for number, message in replies:
            link = links.get(number)
            if link is not None:
                try:
                    link.send(message)
                except ValueError as error:
                    self._log("error", f"dropped an answer: {error}")

    @property
    def has_clients(self) -> bool:
        return bool(self._clients)

    def hang_up(self, number: int, reason: str) -> None:
        link = self._links.get(number)
        if link is not None:
            link.close(reason)

    def deadline(self) -> float | None:
        head = next(iter(self._strangers.values()), None)
        if head is None or self._resume_at is None:
            return self._resume_at if head is None else head[0]
        return min(self._resume_at, head[0])

    def tick(self, now: float) -> None:
        while self._strangers and (head := next(iter(self._strangers.values())))[0] <= now:
            head[1].close("said no hello in time")
        if self._resume_at is not None and self._resume_at <= now:
            self._resume_at = None
            self._reactor.register(self._listener, self)

    def stop_listening(self) -> None:
        if not self.closed:
            self.closed = True
            if self._resume_at is None:
                self._reactor.unregister(self._listener)
            self._resume_at = None
            self._listener.close()

    def close(self) -> None:
        self.stop_listening()
        for link in [*self._links.values(), *(link for _, link in self._strangers.values())]:
            link.close("this node stops")

    # ── new links ──

    def on_readable(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(error)
                    return
                continue  # that one was gone before we looked
            self._greet(sock)

    def on_writable(self) -> None:
        raise AssertionError("a listener is never watched for writing")

    def _pause(self, error: OSError) -> None:
        """Without descriptors accepting again at once would only spin."""
        self._log("error", f"cannot accept connections: {error.strerror}")
        self._reactor.unregister(self._listener)
        self._resume_at = self._now() + 1.0

    def _greet(self, sock: socket.socket) -> None:
        while len(self._strangers) >= _STRANGERS_MAX:
            next(iter(self._strangers.values()))[1].close("too many half-open connections")
        self._last_number += 1
        number = self._last_number
        try:
            link = Link(
                self._reactor,
                sock,
                on_messages=self._first_messages,
                on_closed=self._closed,
                backlog_bytes_max=self._config.link_backlog_bytes_max,
                owner=number,
            )
        except OSError:
            sock.close()  # reset between accept and now
            return
        link.distrust(_HELLO_BYTES_MAX)
        self._strangers[number] = (self._now() + self._config.handshake_timeout_s, link)

    def _first_messages(self, link: Link, messages: Sequence[Message]) -> None:
        hello = messages[0]
        if not isinstance(hello, Hello) or len(messages) > 1:
            link.close("the first message was no hello")
            return
        refuse = self._core.accept(hello, self._now())
        if refuse is None:
            refuse = self._no_room(hello.role)
        if refuse is not None:
            self._log("info", f"refused a {hello.role}: {refuse.text}")
            link.send(refuse)
            link.flush()
            link.close("refused")
            return
        number: int = link.owner
        del self._strangers[number]
        self._links[number] = link
        if hello.role == CLIENT:
            self._clients[number] = True
        link.welcome(self._messages)
        link.send(self._core.hello(hello))

    def _no_room(self, role: str) -> Refuse | None:
        config, clients = self._config, len(self._clients)
        if role == CLIENT:
            if clients >= config.client_links_max:
                return Refuse("overloaded", f"{self._core.name} has {clients} clients already")
        elif len(self._links) - clients >= config.peer_links_max:
            return Refuse("overloaded", f"{self._core.name} has links from {config.peer_links_max} peers")
        return None

    # ── links in use ──

    def _messages(self, link: Link, messages: Sequence[Message]) -> None:
        try:
            self._receive(link.owner, messages)
        except ValueError as error:
            link.close(f"not understood: {error}")

    def _closed(self, link: Link, reason: str) -> None:
        number: int = link.owner
        if self._strangers.pop(number, None) is None and self._links.pop(number, None) is not None:
            self._log("debug", f"inbound link {number} closed: {reason}")
            self._clients.pop(number, None)
