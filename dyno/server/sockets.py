"""The two sockets of a node, on one port: TCP for links, UDP for gossip."""

from __future__ import annotations

import errno
import socket

import trio

from dyno.errors import ConfigurationError

_BACKLOG = 1024
_ATTEMPTS_FOR_A_PAIR = 20  # port 0: the TCP port may be taken for UDP


async def bind(host: str, port: int) -> tuple[socket.socket, socket.socket]:
    """(listener, gossip socket), both non-blocking. Raises ConfigurationError when the host is not ours or
    the port is in use."""
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    family, _, _, _, address = found[0]
    for attempt in range(_ATTEMPTS_FOR_A_PAIR):
        try:
            return _bind_pair(family, address)
        except OSError as error:
            if port != 0 or attempt == _ATTEMPTS_FOR_A_PAIR - 1:
                text = error.strerror or str(error)
                raise ConfigurationError(f"cannot listen on {host}:{port}: {text}{_advice(error)}") from None
    raise AssertionError("unreachable")


def _advice(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "; is another node running there? Stop it, or choose another port"
    return ""


def _bind_pair(family: int, address: tuple[object, ...]) -> tuple[socket.socket, socket.socket]:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted node must not wait for the old connections' TIME_WAIT.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        gossip = socket.socket(family, socket.SOCK_DGRAM)
        try:
            gossip.setblocking(False)
            gossip.bind(listener.getsockname())
        except BaseException:
            gossip.close()
            raise
    except BaseException:
        listener.close()
        raise
    return listener, gossip
