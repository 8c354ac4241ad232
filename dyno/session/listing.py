"""Walk all keys of a bucket, partition by partition, in bounded memory: `Bucket.keys` as a machine.

Every partition is listed page by page; a page is a call of the session, asked at an owner of its partition
and again elsewhere where that fails, until its timeout. So that nobody waits for every single answer, the
next AHEAD_MAX partitions are asked for a page each while the keys of the first are taken; no further page
is asked before one was taken, so a slow consumer holds up the nodes and never fills this memory: at most
AHEAD_MAX pages wait here.

In: `next_call`, which is to be waited for, then `take` with it; what they ask goes to the outbox. Out: pages
of keys, the partitions in order. Guarantees: every key once, whatever is asked twice; nothing is skipped, for
a page that fails is raised by `take`, and asked again if the walk goes on. What was asked ahead may have used
up its time while nobody waited for it, so its failure is no news: it is asked again first, with all its time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from dyno.errors import Overloaded
from dyno.session import options
from dyno.session.pages import Page

if TYPE_CHECKING:
    from dyno.session.calls import Call
    from dyno.session.options import BucketOptions
    from dyno.session.outbox import SessionOutbox
    from dyno.session.session import Session

AHEAD_MAX: Final = 8  # pages asked for, or waiting to be taken


class _Lane:
    """One partition. after: the cursor of the last page that was taken. call: asks for the next one. ahead:
    whether that was asked before anybody waited for it."""

    __slots__ = ("after", "ahead", "call", "partition")

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.after = b""
        self.ahead = False
        self.call: Call | None = None


class Listing:
    """r, pr: as in a get. timeout: seconds, of every page. Raises InvalidRequest for what cannot be right."""

    def __init__(
        self,
        session: Session,
        bucket: BucketOptions,
        *,
        r: int | str | None = None,
        pr: int | str | None = None,
        timeout: float | None = None,
    ) -> None:
        self._session = session
        self._bucket = bucket
        self._r = bucket.r if r is None else options.quorum(r, "r", 0)
        self._pr = bucket.pr if pr is None else options.quorum(pr, "pr", 0)
        self._timeout = bucket.seconds(timeout, session.requests.timeout)
        self._members: Call | None = None  # asks how many partitions there are
        self._next = 0  # the first partition without a lane
        self._lanes: deque[_Lane] = deque()
        self._closed = False

    def next_call(self, now: float, out: SessionOutbox) -> Call | None:
        """The call whose page comes next, perhaps ended already; None when all keys were taken. Raises
        Overloaded when the session cannot take it."""
        if self._closed:
            return None
        if not self._session.partitions:
            if self._members is None:
                self._members = self._session.members(timeout=self._timeout, now=now, out=out)
            return self._members
        if not self._lanes and not self._open_lane():
            return None
        head = self._lanes[0]
        if head.call is None:
            head.ahead = False
            head.call = self._ask(head, now, out)
        self._ask_ahead(now, out)
        return head.call

    def take(self, call: Call, now: float, out: SessionOutbox) -> list[str | bytes]:
        """The keys of the call that `next_call` gave, once it has ended; perhaps none. Raises its error."""
        self.drop(call, now, out)
        if self._closed:
            return []
        if not isinstance(call.result, Page):
            if call.error is not None and not (self._lanes and self._lanes[0].ahead):
                raise call.error
            return []  # it is asked again; or these were the members, and now the partitions are known
        head = self._lanes[0]
        head.after = call.result.cursor
        if not head.after:
            self._lanes.popleft()
        self._ask_ahead(now, out)
        return call.result.keys

    def drop(self, call: Call, now: float, out: SessionOutbox) -> None:
        """Nobody waits any more for the call that `next_call` gave; the next one asks the same again."""
        self._session.cancel(call, now, out)
        if call is self._members:
            self._members = None
        elif self._lanes and self._lanes[0].call is call:
            self._lanes[0].call = None

    def close(self, now: float, out: SessionOutbox) -> None:
        """The rest is not wanted. Whoever waits for a call hears that it is over, and takes nothing."""
        self._closed = True
        calls = [lane.call for lane in self._lanes]
        self._lanes.clear()
        for call in (self._members, *calls):
            if call is not None:
                self._session.cancel(call, now, out)
                out.finished.append(call)

    # ── inside ──

    def _ask_ahead(self, now: float, out: SessionOutbox) -> None:
        """As much as may be under way; what the session has no room for is left for later."""
        try:
            while len(self._lanes) < AHEAD_MAX and self._open_lane():
                pass
            for lane in self._lanes:
                if lane.call is None:
                    lane.ahead = True
                    lane.call = self._ask(lane, now, out)
        except Overloaded:
            pass

    def _open_lane(self) -> bool:
        """Begin another partition, if there is one."""
        if self._next >= self._session.partitions:
            return False
        self._lanes.append(_Lane(self._next))
        self._next += 1
        return True

    def _ask(self, lane: _Lane, now: float, out: SessionOutbox) -> Call:
        return self._session.list_keys(
            self._bucket,
            lane.partition,
            lane.after,
            r=self._r,
            pr=self._pr,
            timeout=self._timeout,
            now=now,
            out=out,
        )
