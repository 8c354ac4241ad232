"""Links that this node dials: one to every other member, kept up.

An address that the core asked for is dialled, greeted, and dialled again after a jittered, growing pause for
as long as the core wants it. Messages to a link that is not up are dropped: the core was told that it is
down, and sends again when it is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from dyno.transport.link import Link
from dyno.wire.messages import Hello, Refuse

if TYPE_CHECKING:
    import socket
    from random import Random

    from dyno.config import Config
    from dyno.protocol.node import Node as Core
    from dyno.server.addresses import Addresses
    from dyno.transport.reactor import Reactor
    from dyno.wire.messages import Message

_LOOKUP_PAUSE_S = 0.05  # until a name that is being looked up is asked for again


class _Peer:
    """One address that the core wants a link to. dial_at: None while a link exists. up_since: when the other
    side said hello on it, None before that."""

    __slots__ = ("dial_at", "failures", "greet_by", "link", "said", "up_since")

    def __init__(self, dial_at: float) -> None:
        self.dial_at: float | None = dial_at
        self.greet_by: float | None = None
        self.failures = 0
        self.link: Link | None = None
        self.up_since: float | None = None
        self.said = ""


class Outbound:
    """Tells the core of link_up and link_down, and hands every answer to `answer(address, message)`."""

    def __init__(
        self,
        *,
        core: Core,
        config: Config,
        reactor: Reactor,
        addresses: Addresses,
        family: socket.AddressFamily,
        random: Random,
        now: Callable[[], float],
        up: Callable[[str, Hello], None],
        down: Callable[[str], None],
        refused: Callable[[str, Refuse], None],
        answer: Callable[[str, Message], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._core = core
        self._config = config
        self._reactor = reactor
        self._addresses = addresses
        self._family = family
        self._random = random
        self._now = now
        self._up = up
        self._down = down
        self._refused = refused
        self._answer = answer
        self._log = log
        self._peers: dict[str, _Peer] = {}
        self._due: float | None = None  # the earliest of all peers' times…
        self._changed = False  # …unless one of them changed since

    def connect(self, address: str) -> None:
        if address not in self._peers:
            self._peers[address] = _Peer(self._now())
            self._changed = True

    def disconnect(self, address: str) -> None:
        peer = self._peers.pop(address, None)
        if peer is not None and peer.link is not None:
            peer.link.close("not wanted any more")

    def send(self, address: str, message: Message) -> None:
        peer = self._peers.get(address)
        if peer is not None and peer.up_since is not None and peer.link is not None:
            try:
                peer.link.send(message)
            except ValueError as error:
                self._log("error", f"dropped a message to {address}: {error}")

    def deadline(self) -> float | None:
        if self._changed:
            self._changed = False
            peers = self._peers.values()
            times = [at for peer in peers for at in (peer.dial_at, peer.greet_by) if at is not None]
            self._due = min(times, default=None)
        return self._due

    def tick(self, now: float) -> None:
        due = self.deadline()
        if due is None or due > now:
            return
        self._changed = True
        for address, peer in list(self._peers.items()):
            if peer.dial_at is not None and peer.dial_at <= now:
                self._dial(address, peer, now)
            elif peer.greet_by is not None and peer.greet_by <= now and peer.link is not None:
                peer.link.close("no hello in time")

    def close(self) -> None:
        for address in list(self._peers):
            self.disconnect(address)

    # ── one link's life ──

    def _dial(self, address: str, peer: _Peer, now: float) -> None:
        target = self._addresses.lookup(address)
        if target is None:
            peer.failures += 1
            peer.dial_at = now + _LOOKUP_PAUSE_S * min(peer.failures, 40)
            return
        peer.dial_at = None
        peer.greet_by = now + self._config.handshake_timeout_s
        try:
            peer.link = Link.dial(
                self._reactor,
                self._family,
                target,
                on_messages=self._first_messages,
                on_closed=self._closed,
                on_connected=self._connected,
                backlog_bytes_max=self._config.link_backlog_bytes_max,
                owner=address,
            )
        except OSError as error:
            self._failed(address, peer, error.strerror or str(error))

    def _connected(self, link: Link) -> None:
        link.send(self._core.hello())

    def _first_messages(self, link: Link, messages: Sequence[Message]) -> None:
        address: str = link.owner
        peer = self._peers[address]
        first, *rest = messages
        if isinstance(first, Refuse):
            self._refused(address, first)
            link.close(f"refused: {first.text}")
            return
        if not isinstance(first, Hello):
            link.close("the first message was no hello")
            return
        self._changed = True
        peer.greet_by = None
        peer.up_since = self._now()
        link.welcome(self._messages)
        self._log("debug", f"link to {first.name} at {address} is up")
        self._up(address, first)
        if rest and not link.closed:
            self._messages(link, rest)

    def _messages(self, link: Link, messages: Sequence[Message]) -> None:
        address: str = link.owner
        for message in messages:
            try:
                self._answer(address, message)
            except ValueError as error:
                link.close(f"not understood: {error}")
                return

    def _closed(self, link: Link, reason: str) -> None:
        address: str = link.owner
        peer = self._peers.get(address)
        if peer is not None and peer.link is link:
            self._failed(address, peer, reason)
        # else the core does not want this address any more, but still has to know that the link is gone
        elif peer is None:
            self._down(address)

    def _failed(self, address: str, peer: _Peer, reason: str) -> None:
        """Dial again after 50 ms, 100 ms, … up to reconnect_max_s, each ± half of it. Only a link that lasted
        ends that row: there may be a node that takes every link and closes it for what it hears."""
        config, now = self._config, self._now()
        up_since, peer.up_since, peer.link, peer.greet_by = peer.up_since, None, None, None
        self._changed = True
        if up_since is not None and now - up_since >= config.reconnect_max_s:
            peer.failures = 0
            peer.said = ""
        pause = min(config.reconnect_max_s, config.reconnect_min_s * 2 ** min(peer.failures, 16))
        peer.failures += 1
        peer.dial_at = now + pause * (0.5 + self._random.random())
        if reason != peer.said:  # the same failure again and again is said once
            peer.said = reason
            self._log("info", f"no link to {address}: {reason}")
        if up_since is not None:
            self._down(address)
