"""Which nodes are to be compared with at once, because somebody asked for it (`repairs`).

In: names, and since when: an exchange that began before does not count. Out: who is to be asked next, and
when to look again: a node is not asked anew within `PAUSE_S`, so that one whose copies are written to all the
time is not compared without end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

PAUSE_S: Final = 0.2


class Urgency:
    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._asked_at: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def want(self, since: Mapping[str, float]) -> None:
        """These, and no others."""
        self._since = dict(since)
        self._asked_at = {name: at for name, at in self._asked_at.items() if name in self._since}

    def asked(self, node: str, now: float) -> None:
        if node in self._since:
            self._asked_at[node] = now

    def due(self, node: str, compared_at: float | None, now: float) -> bool:
        """compared_at: when the last finished exchange with it began."""
        since = self._since.get(node)
        if since is None or self._asked_at.get(node, -math.inf) + PAUSE_S > now:
            return False
        return compared_at is None or compared_at < since

    def deadline(self, may_ask: Callable[[str], bool]) -> float:
        """When the next one may be due, of those that can be asked."""
        return min(
            (self._asked_at.get(name, -math.inf) + PAUSE_S for name in self._since if may_ask(name)),
            default=math.inf,
        )
