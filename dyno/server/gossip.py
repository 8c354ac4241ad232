"""The UDP socket of gossip: datagrams in and out, within one loop turn.

What is not understood, or comes from another cluster, is counted and dropped: anybody can send datagrams.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from dyno.server.addresses import Addresses, format_address
from dyno.wire import datagram
from dyno.wire.codec import ProtocolError

if TYPE_CHECKING:
    from dyno.transport.reactor import Reactor
    from dyno.wire.messages import Datagram

_RECEIVE_BYTES = 65_536  # more than a datagram can hold, so that an oversized one is seen as such
_DATAGRAMS_PER_TURN = 128


class GossipSocket:
    """receive(source address, message). cluster() is the id that datagrams must carry, b"" before joining."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        reactor: Reactor,
        addresses: Addresses,
        cluster: Callable[[], bytes],
        receive: Callable[[str, Datagram], None],
    ) -> None:
        self.closed = False
        self.refused = 0  # datagrams that were not understood
        self._sock = sock
        self._reactor = reactor
        self._addresses = addresses
        self._cluster = cluster
        self._receive = receive
        sock.setblocking(False)
        reactor.register(sock, self)

    def on_readable(self) -> None:
        for _ in range(_DATAGRAMS_PER_TURN):
            try:
                data, source = self._sock.recvfrom(_RECEIVE_BYTES)
            except BlockingIOError:
                return
            except OSError:
                continue  # an earlier datagram found nobody (ICMP); its sender's own timeout tells
            cluster = self._cluster()
            if not cluster:
                continue
            try:
                message = datagram.decode(cluster, data)
            except ProtocolError:
                self.refused += 1
                continue
            self._receive(format_address(source), message)

    def on_writable(self) -> None:
        raise AssertionError("the gossip socket is never watched for writing")

    def send(self, address: str, message: Datagram) -> None:
        """Best effort, as UDP is: what the kernel does not take now is lost."""
        target = self._addresses.lookup(address)
        if target is None:
            return
        try:
            self._sock.sendto(datagram.encode(self._cluster(), message), target)
        except OSError:
            return  # unreachable or no room; failure detection exists to notice

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._reactor.unregister(self._sock)
            self._sock.close()
