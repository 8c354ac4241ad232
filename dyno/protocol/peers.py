"""The other nodes as a coordinator sees them: by name, and only while an outbound link to them is up."""

from __future__ import annotations

from dyno.protocol.outbox import Outbox
from dyno.wire.messages import ClientRequest, PeerMessage


class Peers:
    """Names to addresses of the links that are up; a node whose link is down cannot be asked."""

    __slots__ = ("_address_of", "_name_at")

    def __init__(self) -> None:
        self._address_of: dict[str, str] = {}
        self._name_at: dict[str, str] = {}

    def up(self, name: str, address: str) -> None:
        self.down(address)
        self._address_of[name] = address
        self._name_at[address] = name

    def down(self, address: str) -> str | None:
        """The name of the node that cannot be asked any more over that address."""
        name = self._name_at.pop(address, None)
        if name is not None and self._address_of.get(name) == address:
            del self._address_of[name]
        return name

    def name_at(self, address: str) -> str | None:
        return self._name_at.get(address)

    def address_of(self, name: str) -> str | None:
        return self._address_of.get(name)

    def send(self, name: str, message: PeerMessage | ClientRequest, out: Outbox) -> bool:
        """False when there is no link to that node now; nothing was sent then."""
        address = self._address_of.get(name)
        if address is None:
            return False
        out.sends.append((address, message))
        return True
