"""The upkeep of a client's links and of what it knows of the cluster.

Opening dials every listed address; the first link that comes up ends it. From then on links that break are
dialled again when they are needed, and a node is asked for the members when a link comes up or breaks, when
a node speaks of a changing ring, and every REFRESH_S while the client is in use: one at a time, another one
than last time if possible. A client that nobody uses falls quiet.

In: what the shell says of links, Members, and `tick` at `due_at`. Out: dials, drops and questions in the
outbox; what it learns goes to `Routing`, `Paths` and `Changes`, calls that lose their link to `Dispatch`.
Guarantees: no link to a node of another cluster, or that talks another protocol, is ever used; an opening
ends.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dyno.session import failures
from dyno.session.links import PATIENCE_S, LinkState
from dyno.session.status import status_of
from dyno.wire.codec import ProtocolError
from dyno.wire.hints import unpack_hints
from dyno.wire.messages import PROTOCOL_VERSION, AskMembers, AskStatus, Hello

if TYPE_CHECKING:
    from dyno.session.calls import Call
    from dyno.session.changes import Changes
    from dyno.session.dispatch import Dispatch
    from dyno.session.links import Links, NodeLink
    from dyno.session.outbox import SessionOutbox
    from dyno.session.paths import Paths
    from dyno.session.routing import Routing
    from dyno.wire.messages import Members

PROTOCOL_LOW = 1
OPEN_GRACE_S = 1.0  # how long an opening goes on when every listed address has failed once
REFRESH_S = 2.0  # between two looks at the members, while in use
FRESH_S = 1.0  # what was learned so lately is not asked again when a link comes up
IN_USE_S = 10.0  # after its last call a client counts as in use for so long
CLUSTER_BYTES = 16


class Upkeep:
    """cluster: its id; b"" before the first link was up. used_at: when the last call began. refresh_at: when
    the members are to be asked for again by a client in use. due_at: when `tick` has something to do."""

    def __init__(
        self, links: Links, routing: Routing, paths: Paths, changes: Changes, dispatch: Dispatch
    ) -> None:
        self.cluster = b""
        self.used_at = -math.inf
        self.refresh_at = math.inf
        self.due_at = math.inf
        self._links = links
        self._routing = routing
        self._paths = paths
        self._changes = changes
        self._dispatch = dispatch
        self._opening: Call | None = None
        self._opening_may_fail_at = math.inf
        self._asked: NodeLink | None = None  # whom the members were asked of last
        self._asked_at = -math.inf
        self._asking = False  # and whether it still owes the answer
        self._learned_at = -math.inf

    def open(self, call: Call, now: float, out: SessionOutbox) -> None:
        """The call ends when a link is up, or when every listed address has failed and a grace is over."""
        self._opening = call
        self._opening_may_fail_at = now + OPEN_GRACE_S
        self.used_at = now
        self._dispatch.hold(call)
        self.tick(now, out)

    # ── links ──

    def hello(self) -> Hello:
        return Hello(PROTOCOL_LOW, PROTOCOL_VERSION, "client", self.cluster, 0, "", b"", b"", "")

    def link_up(self, address: str, hello: Hello, now: float, out: SessionOutbox) -> None:
        link = self._links.get(address)
        if link is None or link.state is not LinkState.DIALLING:
            return
        objection = self._objection(hello)
        if objection:
            out.disconnect.append(address)
            self._down(link, objection, now, out)
            self.tick(now, out)
            return
        self.cluster = hello.cluster
        if link.failures:
            self._changes.link_changed(now)
        self._links.came_up(link, hello.name, now)
        self._paths.forget()
        if now >= self._learned_at + FRESH_S:
            self.ask_members(now, out)
        if self._opening is not None:
            opening, self._opening = self._opening, None
            if opening.id in self._dispatch.calls:
                self._dispatch.conclude(opening, None, now, out)
        self._dispatch.send_waiting(now, out)

    def link_down(self, address: str, reason: str, now: float, out: SessionOutbox) -> None:
        link = self._links.get(address)
        if link is not None and link.state is not LinkState.DOWN:
            self._down(link, reason, now, out)
            self.tick(now, out)

    def _objection(self, hello: Hello) -> str:
        """Why we would not talk to a node, or ""."""
        if hello.protocol_low > PROTOCOL_VERSION or hello.protocol_high < PROTOCOL_LOW:
            return (
                f"talks protocol versions {hello.protocol_low} to {hello.protocol_high}, "
                f"this client {PROTOCOL_LOW} to {PROTOCOL_VERSION}"
            )
        if hello.role != "peer" or not hello.name:
            return "is not a dyno node"
        if len(hello.cluster) != CLUSTER_BYTES:
            return "has not joined a cluster yet"
        if self.cluster and hello.cluster != self.cluster:
            return f"belongs to cluster {hello.cluster.hex()}, the others to {self.cluster.hex()}"
        return ""

    def _down(self, link: NodeLink, reason: str, now: float, out: SessionOutbox) -> None:
        unsent: dict[int, bool] = {}
        for address, message in out.sends:
            if address == link.address:
                unsent[message.id] = True
        if unsent:
            out.sends[:] = [send for send in out.sends if send[0] != link.address]
        was_up = link.state is LinkState.UP
        self._links.went_down(link, reason, now)
        self._paths.forget()
        if was_up:
            self._changes.link_changed(now)
        self._dispatch.link_lost(link, reason, unsent, now, out)
        if was_up:
            self._asking = self._asking and self._asked is not link
            self.ask_members(now, out)

    # ── members ──

    def ask_members(self, now: float, out: SessionOutbox) -> None:
        """Ask a node, another one than last time if possible; unless one was asked and may still answer."""
        if self._asking and now < self._asked_at + PATIENCE_S:
            return
        self.refresh_at = now + REFRESH_S
        last = () if self._asked is None else (self._asked,)
        link = self._links.any_ready(last) or self._links.any_ready(())
        self._asking = link is not None
        if link is not None:
            out.sends.append((link.address, AskMembers(0)))
            self._asked = link
            self._asked_at = now
            self.due_at = min(self.due_at, now + PATIENCE_S)

    def await_members(self, call: Call) -> bool:
        """The call ends when the members are known. False: they are, or nobody was asked for them."""
        if self._routing.known or not self._asking:
            return False
        self._dispatch.hold(call)
        return True

    def members(self, link: NodeLink, told: Members, now: float, out: SessionOutbox) -> None:
        """A node told them, whoever asked."""
        try:
            if told.cluster != self.cluster:
                raise ProtocolError("members of another cluster")
            first = not self._routing.known
            hints = unpack_hints(told.hints)
            changed = self._routing.learn(told)
        except ValueError as error:
            out.disconnect.append(link.address)
            self._down(link, f"not understood: {error}", now, out)
            self.tick(now, out)
            return
        self._asking = False
        self._learned_at = now
        if changed:
            self._paths.forget()
            self._changes.learned(self._routing.members, now)
            self._links.forget_all_but([member.address for member in self._routing.members])
        if first:
            for held in self._dispatch.held():
                self._dispatch.conclude(held, None, now, out)
        call = self._dispatch.calls.get(told.id)
        if call is not None and isinstance(call.request, AskStatus):
            status = status_of(self._routing, cluster=told.cluster, partitions=told.partitions, hints=hints)
            self._dispatch.conclude(call, status, now, out)
        elif call is not None and isinstance(call.request, AskMembers):
            self._dispatch.conclude(call, told.partitions, now, out)

    def _no_members(self, now: float, out: SessionOutbox) -> None:
        """Who was asked for the members has not answered: ask somebody else."""
        link = self._asked
        assert link is not None
        if link.heard_at <= self._asked_at:
            link.fall_silent(now)
        self.ask_members(now, out)

    # ── time ──

    def tick(self, now: float, out: SessionOutbox) -> None:
        """Give up what is overdue, dial, look at the members, and set when to come back."""
        for link, reason in self._links.overdue(now):
            out.disconnect.append(link.address)
            self._down(link, reason, now, out)
        in_use = bool(self._dispatch.calls) or now < self.used_at + IN_USE_S
        if self._asking and self._asked_at + PATIENCE_S <= now:
            self._no_members(now, out)
        if in_use and self.refresh_at <= now:
            self.ask_members(now, out)
        redial = in_use and self._links.any_ready(()) is None
        if redial:
            for member in self._routing.members:
                self._links.of_member(member.name, member.address)
            self._links.dial_all(now, out)
        at = self._links.next_event(redial=redial)
        if in_use:
            at = min(at, self.refresh_at)
        if self._asking:
            at = min(at, self._asked_at + PATIENCE_S)
        if self._opening is not None:
            at = self._check_opening(self._opening, at, now, out)
        self.due_at = at

    def _check_opening(self, opening: Call, at: float, now: float, out: SessionOutbox) -> float:
        """Give up an opening for which every address has had its chance; when to look again otherwise."""
        if opening.id not in self._dispatch.calls:
            self._opening = None  # it was cancelled, or had no more time
        elif now < self._opening_may_fail_at:
            return min(at, self._opening_may_fail_at)
        elif self._links.listed_all_failed():
            self._opening = None
            self._dispatch.fail(opening, failures.unreachable(self._links.why()), now, out)
        return at
