"""Names to socket addresses, never on the loop's time.

A numeric host is translated at once; a name is looked up in the background and remembered for a while.
Until the answer is there the caller goes without: a datagram is dropped, a dial is tried again.

Names come from strangers too (gossip, requests to ping somebody), so whatever a resolver makes of one is
survived, LOOKUPS_MAX are looked up at once, and NAMES_MAX are remembered.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import trio

from dyno.wire.address import parse_address

SocketAddress: TypeAlias = tuple[Any, ...]

LOOKUPS_MAX: Final = 64
NAMES_MAX: Final = 4096

_REMEMBERED_S = 30.0


class Addresses:
    """family: the one that our sockets have. spawn: starts an async function in the background."""

    def __init__(
        self, *, family: socket.AddressFamily, spawn: Callable[..., None], log: Callable[[str, str], None]
    ) -> None:
        self._family = family
        self._spawn = spawn
        self._log = log
        self._numeric: dict[str, SocketAddress] = {}
        self._found: dict[str, tuple[float, SocketAddress | None]] = {}
        self._looking: dict[str, bool] = {}
        self._closed = False

    def lookup(self, address: str) -> SocketAddress | None:
        """The socket address of "host:port", or None while it is not known. Raises nothing."""
        known = self._numeric.get(address)
        if known is not None:
            return known
        host, port = parse_address(address)
        numeric = _numeric(host, port, self._family)
        if numeric is not None:
            if len(self._numeric) >= NAMES_MAX:
                self._numeric.clear()
            self._numeric[address] = numeric
            return numeric
        expires, found = self._found.get(address, (0.0, None))
        if trio.current_time() >= expires and self._may_look_up(address):
            self._looking[address] = True
            self._spawn(self._look_up, address, host, port)
        return found

    def close(self) -> None:
        """Nothing can be spawned any more: give only what is known."""
        self._closed = True

    def _may_look_up(self, address: str) -> bool:
        return not self._closed and address not in self._looking and len(self._looking) < LOOKUPS_MAX

    async def _look_up(self, address: str, host: str, port: int) -> None:
        found: SocketAddress | None = None
        flags = socket.AI_V4MAPPED if self._family == socket.AF_INET6 else 0
        try:
            answers = await trio.socket.getaddrinfo(
                host, port, family=self._family, type=socket.SOCK_DGRAM, flags=flags
            )
            found = answers[0][4]
        except (OSError, UnicodeError) as error:  # the latter for labels that no name can have
            self._log("warning", f"cannot resolve {address}: {getattr(error, 'strerror', None) or error}")
        finally:
            del self._looking[address]
            self._remember(address, found)

    def _remember(self, address: str, found: SocketAddress | None) -> None:
        self._found.pop(address, None)
        if len(self._found) >= NAMES_MAX:
            del self._found[next(iter(self._found))]
        self._found[address] = (trio.current_time() + _REMEMBERED_S, found)


def _numeric(host: str, port: int, family: socket.AddressFamily) -> SocketAddress | None:
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return None
    if family == socket.AF_INET6:
        text = f"::ffff:{host}" if parsed.version == 4 else host
        return (text, port, 0, 0)
    return (host, port) if parsed.version == 4 else None


def format_address(address: SocketAddress) -> str:
    """A socket address as "host:port", IPv6 in brackets, IPv4 within IPv6 as IPv4."""
    host, port = str(address[0]), address[1]
    if ":" not in host:
        return f"{host}:{port}"
    mapped = ipaddress.ip_address(host.partition("%")[0])
    if isinstance(mapped, ipaddress.IPv6Address) and mapped.ipv4_mapped is not None:
        return f"{mapped.ipv4_mapped}:{port}"
    return f"[{host}]:{port}"
