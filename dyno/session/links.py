"""The links to nodes: which are up, which to dial when, and why the others are not.

States of a link, and what moves it:

    down ──dial──▶ dialling ──link_up──▶ up
      ▲                │ refused,         │ link_down,
      └────────────────┴─ no hello ───────┴─ silent for too long

In: the events of links. Out: addresses to connect and disconnect in the outbox. A link that failed is not
dialled again before a pause that doubles with every failure and is jittered, so that the clients of a node
that restarts do not all come at once. `ready` says whether requests should go there; where none is ready,
one that only asked to be spared for a moment will do.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TYPE_CHECKING

from dyno.hedging.usual import LATER, Usual

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from dyno.session.outbox import SessionOutbox

PATIENCE_S = 0.5  # a link that owes an answer and says nothing at all for so long is silent
DIAL_TIMEOUT_S = 2.0  # from looking up the name to the node's Hello
RECONNECT_MIN_S = 0.05
RECONNECT_MAX_S = 2.0
SILENT_MAX_S = 5.0  # a silent link is dropped and dialled anew after this
DIALS_MAX = 8  # at once, while no link is up
HEDGE_MIN_S = 0.01  # a read is never late before that
HEDGE_MAX_S = 0.5  # and always after that
WINDOW_BYTES_MAX = 16 << 20  # unanswered requests on one link; more wait in the session


class LinkState(Enum):
    DOWN = "down"
    DIALLING = "dialling"
    UP = "up"


class NodeLink:
    """One address. name: the node's, while up. heard_at: when it last said anything. reason: why it is down.

    silent_at: since when it has owed an answer for too long, or None. spared_until: when it may be given work
    again, after it refused some; None: at any time. usual: how long its reads take. sampled_at: when that was
    last learned from an answer. doubted_at: when one was last found late. unanswered_bytes: its window in
    use.
    ready: up, neither silent nor spared, and its window has room; kept as a plain attribute because every
    call asks."""

    __slots__ = (
        "address",
        "dial_by",
        "doubted_at",
        "failures",
        "heard_at",
        "listed",
        "name",
        "ready",
        "reason",
        "retry_at",
        "sampled_at",
        "silent_at",
        "spared_until",
        "state",
        "unanswered_bytes",
        "usual",
    )

    def __init__(self, address: str, *, listed: bool) -> None:
        self.address = address
        self.listed = listed
        self.state = LinkState.DOWN
        self.ready = False
        self.name = ""
        self.reason = ""
        self.failures = 0
        self.retry_at = -math.inf
        self.dial_by = math.inf
        self.heard_at = -math.inf
        self.silent_at: float | None = None
        self.spared_until: float | None = None
        self.usual = Usual(least=HEDGE_MIN_S, most=HEDGE_MAX_S)
        self.doubted_at = -math.inf
        self.sampled_at = -math.inf
        self.unanswered_bytes = 0

    def charge(self, weight: int) -> None:
        """A request of this weight is on its way."""
        self.unanswered_bytes += weight
        if self.unanswered_bytes >= WINDOW_BYTES_MAX:
            self.ready = False

    def discharge(self, weight: int) -> None:
        """It was answered, or nobody waits for its answer any more."""
        self.unanswered_bytes -= weight
        if not self.ready:
            self.refresh()

    def fall_silent(self, now: float) -> None:
        """It owes an answer and says nothing at all: new requests go elsewhere until it is heard again."""
        if self.silent_at is None:
            self.silent_at = now
            self.ready = False

    def spare(self, until: float) -> None:
        """It has too much to do: new requests go elsewhere, as long as there is an elsewhere."""
        if self.spared_until is None or self.spared_until < until:
            self.spared_until = until
        self.ready = False

    def found_after(self, seconds: float, now: float) -> None:
        """A read was answered. What comes in one turn shares one fate, and is one sample: its first answer,
        which waited longest."""
        if now > self.sampled_at:
            self.sampled_at = now
            self.usual.took(seconds)

    def found_late(self, now: float) -> None:
        """A read takes longer than usual. One sample until the node is heard again, for the same reason: a
        stop makes all late that is under way."""
        if self.heard_at >= self.doubted_at:
            self.doubted_at = now
            self.usual.took(LATER)

    @property
    def serves(self) -> bool:
        """Ready, or spared."""
        return (
            self.state is LinkState.UP and self.silent_at is None and self.unanswered_bytes < WINDOW_BYTES_MAX
        )

    def refresh(self) -> None:
        self.ready = self.spared_until is None and self.serves


class Links:
    """All links of one session. seeds: the addresses that the user listed."""

    def __init__(self, seeds: Sequence[str], random: Random) -> None:
        self._random = random
        order = list(dict.fromkeys(seeds))
        random.shuffle(order)  # so that not all clients of a cluster crowd on the node that is listed first
        self._by_address = {address: NodeLink(address, listed=True) for address in order}
        self._by_name: dict[str, NodeLink] = {}

    @property
    def any_up(self) -> bool:
        return bool(self._by_name)

    def get(self, address: str) -> NodeLink | None:
        return self._by_address.get(address)

    def of_member(self, name: str, address: str) -> NodeLink:
        """The link that reaches a member: one that is up under any address, or else its own."""
        link = self._by_name.get(name) or self._by_address.get(address)
        if link is None:
            link = self._by_address[address] = NodeLink(address, listed=False)
        return link

    def any_ready(self, tried: Sequence[NodeLink]) -> NodeLink | None:
        """Any that is; else any that is only spared."""
        for link in self._by_name.values():
            if link.ready and link not in tried:
                return link
        for link in self._by_name.values():
            if link.spared_until is not None and link.serves and link not in tried:
                return link
        return None

    def dial(self, link: NodeLink, now: float, out: SessionOutbox) -> None:
        """Unless its pause is not over."""
        if link.state is LinkState.DOWN and link.retry_at <= now:
            link.state = LinkState.DIALLING
            link.dial_by = now + DIAL_TIMEOUT_S
            out.connect.append(link.address)

    def dial_all(self, now: float, out: SessionOutbox) -> None:
        """As many at once as the bound allows; those that failed least first."""
        free = DIALS_MAX - sum(1 for link in self._by_address.values() if link.state is LinkState.DIALLING)
        down = [link for link in self._by_address.values() if link.state is LinkState.DOWN]
        down.sort(key=lambda link: link.failures)
        for link in [link for link in down if link.retry_at <= now][: max(free, 0)]:
            self.dial(link, now, out)

    def came_up(self, link: NodeLink, name: str, now: float) -> None:
        link.state = LinkState.UP
        link.name = name
        link.reason = ""
        link.failures = 0
        link.heard_at = now
        link.dial_by = math.inf
        link.refresh()
        self._by_name[name] = link

    def went_down(self, link: NodeLink, reason: str, now: float) -> None:
        """50 ms, 100 ms, … up to RECONNECT_MAX_S, less up to half of it, until it may be dialled again."""
        self._forget_name(link)
        pause = min(RECONNECT_MAX_S, RECONNECT_MIN_S * 2 ** min(link.failures, 16))
        link.state = LinkState.DOWN
        link.ready = False
        link.name = ""
        link.reason = reason
        link.failures += 1
        link.retry_at = now + pause * (1 - self._random.random() / 2)
        link.dial_by = math.inf
        link.silent_at = None
        link.spared_until = None
        link.unanswered_bytes = 0

    def _forget_name(self, link: NodeLink) -> None:
        """One node may be linked twice, under two addresses; then the other link stands for it."""
        if self._by_name.get(link.name) is not link:
            return
        del self._by_name[link.name]
        for other in self._by_address.values():
            if other is not link and other.name == link.name:
                self._by_name[other.name] = other

    def forget_all_but(self, addresses: Sequence[str]) -> None:
        """Drop the links that are down, not listed, and belong to no member any more."""
        kept = dict.fromkeys(addresses)
        for link in list(self._by_address.values()):
            if link.state is LinkState.DOWN and not link.listed and link.address not in kept:
                del self._by_address[link.address]

    def overdue(self, now: float) -> list[tuple[NodeLink, str]]:
        """The links to give up, and why."""
        late = []
        for link in self._by_address.values():
            if link.dial_by <= now:
                late.append((link, f"no answer within {DIAL_TIMEOUT_S:g} s"))
            elif link.silent_at is not None and link.silent_at + SILENT_MAX_S <= now:
                late.append((link, f"silent for {SILENT_MAX_S:g} s"))
        return late

    def next_event(self, *, redial: bool) -> float:
        """When `overdue`, or with redial also `dial_all`, has something to do."""
        at = math.inf
        dialling = sum(1 for link in self._by_address.values() if link.state is LinkState.DIALLING)
        for link in self._by_address.values():
            at = min(at, link.dial_by)
            if link.silent_at is not None:
                at = min(at, link.silent_at + SILENT_MAX_S)
            if redial and link.state is LinkState.DOWN and dialling < DIALS_MAX:
                at = min(at, link.retry_at)
        return at

    def listed_all_failed(self) -> bool:
        """Whether every listed address was tried, and failed, at least once."""
        return all(link.failures for link in self._by_address.values() if link.listed)

    def why(self) -> str:
        """ "addr: reason; addr: reason" of the listed ones, in one sentence's length."""
        listed = [link for link in self._by_address.values() if link.listed]
        reasons = [f"{link.address}: {link.reason or 'no answer yet'}" for link in listed[:_NAMED_MAX]]
        if len(listed) > _NAMED_MAX:
            reasons.append(f"and {len(listed) - _NAMED_MAX} more")
        return "; ".join(reasons)


_NAMED_MAX = 5
