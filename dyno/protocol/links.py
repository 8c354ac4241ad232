"""Which addresses this node keeps an outbound link to, and which of these links are up.

The runner dials and redials; here is only decided whom it should keep dialling. In go the wanted addresses
and link events, out go `connect` and `disconnect`. An address is connected once, however many records name
it, and disconnected once none does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dyno.protocol.outbox import Outbox


class Links:
    """Bounded by what is wanted: the addresses in the member table and the seeds."""

    __slots__ = ("_is_up",)

    def __init__(self) -> None:
        self._is_up: dict[str, bool] = {}

    def want(self, addresses: Iterable[str], out: Outbox) -> None:
        """Exactly these from now on."""
        wanted = dict.fromkeys(addresses)
        for address in [known for known in self._is_up if known not in wanted]:
            del self._is_up[address]
            if address in out.connect:
                out.connect.remove(address)  # not begun yet
            else:
                out.disconnect.append(address)
        for address in wanted:
            if address not in self._is_up:
                self._is_up[address] = False
                out.connect.append(address)

    def went_up(self, address: str) -> bool:
        """False for a link that nobody wants any more."""
        if address not in self._is_up:
            return False
        self._is_up[address] = True
        return True

    def went_down(self, address: str) -> None:
        if address in self._is_up:
            self._is_up[address] = False

    def is_up(self, address: str) -> bool:
        return self._is_up.get(address, False)

    def up(self) -> list[str]:
        return [address for address, is_up in self._is_up.items() if is_up]
