"""Before a node returns at another address: does somebody still live at the old one?

A data directory that was copied while its node runs, or whose old process was forgotten on another machine,
would come up as a second live claimant of one name. So a node whose remembered address is not its present
one dials the old one first, and says nothing to anybody until it knows:

    LOOKING   the old address answers as this name, by another start → TAKEN (the newcomer stops)
              it answers as somebody else, or not in time            → FREE  (the node comes up)

One that returns at its old address holds its port, so nobody else can. What a network hides this way is met
later, by the order of start stamps (DESIGN, Identity).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dyno.protocol.outbox import Outbox
    from dyno.wire.messages import Hello


class Claim:
    """name, start: this process's. former: where its directory lived last, or None where there is nothing to
    look after. wait_s: how long the old address is given to answer."""

    __slots__ = ("_former", "_name", "_start", "_until", "_wait_s", "free")

    def __init__(self, *, name: str, start: bytes, former: str | None, wait_s: float) -> None:
        self.free = former is None
        self._former = former
        self._name = name
        self._start = start
        self._wait_s = wait_s
        self._until: float | None = None

    def begin(self, now: float, out: Outbox) -> None:
        if self._former is not None:
            self._until = now + self._wait_s
            out.connect.append(self._former)

    def link_up(self, address: str, hello: Hello, now: float, out: Outbox) -> None:
        """The old address answered."""
        if address != self._former:
            return
        if hello.name == self._name and hello.start != self._start:
            out.stop = (
                f"the name {self._name} is taken: a process that lives at {address} has it, "
                f"and this data directory is a copy of its own; stop that one first"
            )
            return
        self._let_go(now, out)

    def refused(self, address: str, now: float, out: Outbox) -> None:
        """Whoever answered there belongs elsewhere, or has not joined anything."""
        if address == self._former:
            self._let_go(now, out)

    def give_up(self) -> None:
        """The process ends before it knew."""
        self._until = None

    def tick(self, now: float, out: Outbox) -> bool:
        """True once, when the name has turned out to be free."""
        if self.free or self._until is None or now < self._until:
            return False
        if self._former is not None:
            self._let_go(now, out)  # silent
        self.free = True
        return True

    def deadline(self) -> float | None:
        return None if self.free else self._until

    def _let_go(self, now: float, out: Outbox) -> None:
        """The link is dropped before the membership may want one to the same address for a reason of its own,
        so the node begins with the next tick."""
        assert self._former is not None
        out.disconnect.append(self._former)
        self._former = None
        self._until = now
