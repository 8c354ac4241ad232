"""How much memory all links of a reactor hold together, and who has to go when it is too much.

A link that is alone may hold a large message in pieces and a long backlog; a thousand may not. Links report
what they hold whenever that changes; once the sum is over the bound, the link that holds most is closed, for
it is the one that sends slowly what it announced, or reads slowly what it asked for. Links that hold next to
nothing are not on the books.
"""

from __future__ import annotations

from typing import Final, Protocol

LITTLE_BYTES: Final = 16 << 10  # less is not counted
UNBOUNDED: Final = 1 << 62


class Holder(Protocol):
    def close(self, reason: str) -> None: ...


class Ledger:
    """bytes_max: of all holders together. total: what they hold now."""

    __slots__ = ("_bytes_max", "_held", "total")

    def __init__(self, bytes_max: int = UNBOUNDED) -> None:
        self.total = 0
        self._bytes_max = bytes_max
        self._held: dict[Holder, int] = {}

    def hold(self, holder: Holder, size: int) -> bool:
        """From now on it holds so much; whoever holds most may be closed for that. Whether it is counted."""
        self.total += size - self._held.pop(holder, 0)
        if size <= LITTLE_BYTES:
            self.total -= size
            return False
        self._held[holder] = size
        while self.total > self._bytes_max:
            heaviest = max(self._held, key=self._held.__getitem__)
            self.total -= self._held.pop(heaviest)
            heaviest.close("all links together hold too much that is sent or read slowly")
        return holder in self._held
