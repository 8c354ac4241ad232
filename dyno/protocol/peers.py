"""The other nodes as a coordinator sees them: by name, and only while they can be asked.

A node can be asked over a link to the very address that the ring has for it, once its hello there gave that
name. So neither a newcomer that claims a member's name from elsewhere, nor an old process whose link
lingers, is ever taken for the member. In go the ring's addresses and the links that come and go; out comes
which names that makes askable, or not askable any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from dyno.protocol.outbox import Outbox
from dyno.wire.messages import ClientRequest, PeerMessage


class Peers:
    """Names to addresses and back, for links that are up."""

    __slots__ = ("_address_of", "_can", "_name_at", "_placed", "_said")

    def __init__(self) -> None:
        self._placed: dict[str, str] = {}  # name → address, as the ring has it
        self._said: dict[str, str] = {}  # address → name, as the hello on the link that is up had it
        self._can: dict[str, Sequence[str]] = {}  # address → what the node there understands
        self._address_of: dict[str, str] = {}  # where the two agree
        self._name_at: dict[str, str] = {}

    def place(self, addresses: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """The ring has these addresses, by name. Gives the names that cannot be asked any more, or not
        where they could be asked before, and those that can be asked now."""
        before = self._address_of
        self._placed = dict(addresses)
        self._address_of = {
            name: address for name, address in addresses.items() if self._said.get(address) == name
        }
        self._name_at = {address: name for name, address in self._address_of.items()}
        lost = [name for name, address in before.items() if self._address_of.get(name) != address]
        found = [name for name, address in self._address_of.items() if before.get(name) != address]
        return lost, found

    def up(self, name: str, address: str, can: Sequence[str] = ()) -> bool:
        """A link is up; True when that node can be asked now. can: its capabilities (handshake)."""
        self._said[address] = name
        self._can[address] = can
        if self._placed.get(name) != address:
            return False
        self._address_of[name] = address
        self._name_at[address] = name
        return True

    def down(self, address: str) -> str | None:
        """A link is down; gives the name of the node that cannot be asked any more."""
        self._said.pop(address, None)
        self._can.pop(address, None)
        name = self._name_at.pop(address, None)
        if name is not None:
            del self._address_of[name]
        return name

    def name_at(self, address: str) -> str | None:
        return self._name_at.get(address)

    def address_of(self, name: str) -> str | None:
        """None when that node cannot be asked now."""
        return self._address_of.get(name)

    def can_ask(self, name: str) -> bool:
        return name in self._address_of

    def understands(self, name: str, capability: str) -> bool:
        """Whether that node can be asked now, and knows of that."""
        address = self._address_of.get(name)
        return address is not None and capability in self._can.get(address, ())

    def send(self, name: str, message: PeerMessage | ClientRequest, out: Outbox) -> bool:
        """False when that node cannot be asked now; nothing was sent then."""
        address = self._address_of.get(name)
        if address is None:
            return False
        out.sends.append((address, message))
        return True


class Askable(Protocol):
    """Whom a part can ask: the peers, or some of them."""

    def can_ask(self, name: str) -> bool: ...

    def send(self, name: str, message: PeerMessage | ClientRequest, out: Outbox) -> bool: ...


class Able:
    """Those of the peers that know of a capability; others would close the link at a message of it."""

    def __init__(self, peers: Peers, capability: str) -> None:
        self._peers = peers
        self._capability = capability

    def can_ask(self, name: str) -> bool:
        return self._peers.understands(name, self._capability)

    def send(self, name: str, message: PeerMessage | ClientRequest, out: Outbox) -> bool:
        """As of Peers."""
        return self.can_ask(name) and self._peers.send(name, message, out)
