"""Whether there is room for one request more, judged by how long it would wait.

A count says nothing about time: ten thousand writes are nothing to one disk and ten seconds to another. So
what is asked here is the *expected delay* of what comes next, and past a bound it is refused before any work
is done (Dean, Barroso, The Tail at Scale, 2013; Nichols, Jacobson, Controlling Queue Delay, 2012).

`DiskPace` learns from finished commits what the next one will take. `ReadLine` is the queue before a disk
that reads slowly. `PeerLoads` knows how many copies may be on their way to a peer that lately refused some.
`answer_to` is what somebody hears whose request is refused unstarted.

Others' copies get PEERS_ROOM times the room of clients' requests: of a write that comes from a peer the work
has begun, and refusing it there makes an accepted write fail. So coordinators refuse first.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from dyno.errors import Code
from dyno.wire.messages import (
    STATUS_OVERLOADED,
    Compare,
    Compared,
    CompareLeaves,
    Delete,
    Failed,
    Fetch,
    Fetched,
    Get,
    GetMany,
    HandOver,
    LeavesCompared,
    ListKeys,
    Put,
    Read,
    ReadAnswer,
    ReadMany,
    ReadManyAnswer,
    Scan,
    ScanAnswer,
    Store,
    Stored,
)

if TYPE_CHECKING:
    from dyno.config import Config
    from dyno.wire.messages import Message

PEERS_ROOM: Final = 3.0  # as many coordinators may find room in the same instant as a key has owners
HINTS_ROOM: Final = 0.5  # of a client's room: hints that nobody waits for yield to all others
PAGE_BYTES: Final = 4096
ALWAYS_PAGES: Final = 16.0  # may gather for the disk whatever is expected: an idle node never refuses
ALWAYS_READS: Final = 16  # likewise
WINDOW_MIN: Final = 4.0

_COMMITS_KEPT = 16
_LONG = 0.1  # of the delay that is allowed: a commit that says what pages take
_LONG_UNDER_WAY = 2.5  # times that: so does one that is not over yet
_SHRINK = 0.75
_SHRINK_PAUSE_S = 0.1  # refusals that come in a bunch are one piece of news
_FORGET_S = 30.0


class DiskPace:
    """What commits took lately. A commit takes a fixed time (the fsync) and one for each page in it.

    The fixed time is known from commits of few pages. What a page takes is told by *long* commits alone, by
    what they take beyond the slower ones of few pages: where an fsync takes 2 to 20 ms, a commit of ten
    pages says nothing about a thousand. A short commit only proves that a page takes no more than its share.
    The median counts, each commit weighing as much as it has pages; so one that hangs changes nothing. Until
    a long one was seen hardly anything is expected, and the bounds by count hold."""

    __slots__ = ("_few", "_long_s", "_pages", "fixed_s", "page_s", "slow_s")

    def __init__(self, delay_max_s: float) -> None:
        self.fixed_s = 0.0  # of a commit of few pages
        self.slow_s = 0.0  # the same, if it is one of the slower ones
        self.page_s = 0.0
        self._long_s = delay_max_s * _LONG
        self._few: deque[float] = deque(maxlen=_COMMITS_KEPT)
        self._pages: deque[tuple[float, float]] = deque(maxlen=_COMMITS_KEPT)  # seconds of a page, pages

    def committed(self, pages: float, seconds: float) -> None:
        if pages <= ALWAYS_PAGES:
            self._few.append(seconds)
            slowest = sorted(self._few)
            self.fixed_s = slowest[0]
            self.slow_s = slowest[-2] if len(slowest) > 1 else slowest[0]  # the very slowest may have hung
        elif seconds >= self._long_s:
            self._learn(max(0.0, seconds - self.slow_s) / pages, pages)
            return
        if pages and seconds / pages < self.page_s:
            self._learn(seconds / pages, pages)

    def _learn(self, page_s: float, pages: float) -> None:
        self._pages.append((page_s, pages))
        self.page_s = _median(self._pages)

    def delay_s(self, pages: float, *, ahead: float = 0.0, elapsed_s: float | None = None) -> float:
        """How long until so many pages are committed. ahead: pages in the commit under way; elapsed_s: for
        how long it has been, None while there is none."""
        page_s = self.page_s
        if elapsed_s is None:
            return self.fixed_s + page_s * pages
        if not page_s and ahead > ALWAYS_PAGES and elapsed_s >= self._long_s * _LONG_UNDER_WAY:
            page_s = max(0.0, elapsed_s - self.slow_s) / ahead  # it takes as long as it has taken already
        # What takes longer than expected will probably take as long again.
        rest_s = abs(self.fixed_s + page_s * ahead - elapsed_s)
        return rest_s + self.fixed_s + page_s * pages

    def pages_in(self, seconds: float) -> float:
        """How many pages are committed in this time; infinity while nothing is known."""
        return seconds / self.page_s if self.page_s else math.inf


class ReadLine:
    """Requests that wait until a slow disk has read their records, one after the other.

    waiting: records that they will read. mean_s: what a read takes, kept up to date by whoever measures."""

    __slots__ = ("_count_max", "_delay_max_s", "_hedge_after_s", "mean_s", "waiting")

    def __init__(self, config: Config) -> None:
        self.mean_s = 0.0
        self.waiting = 0
        self._delay_max_s = config.read_delay_max_s
        self._count_max = config.requests_max
        self._hedge_after_s = config.hedge_after_s

    def join(self, message: Message, now: float, *, records: int = 1) -> float | None:
        """Until when somebody waits for its answer; None when it must not join, for that would be too late
        or later than this bound. records: how many it will read; one that reads more than may wait joins
        when nobody else does."""
        budget_s = _budget_s(message)
        limit_s = self._delay_max_s * (PEERS_ROOM if budget_s == math.inf else 1.0)
        if self.waiting and self.waiting + records > self._count_max:
            return None
        if self.waiting >= ALWAYS_READS and self.delay_s > min(limit_s, budget_s):
            return None
        self.waiting += records
        return now + budget_s

    def leave(self, message: Message, until: float, now: float, *, records: int = 1) -> Message | None:
        """Its records are read. The request with the time that is left; None when nobody waits any more."""
        self.waiting -= records
        if until <= now:
            return None
        if isinstance(message, Get | GetMany | Put | Delete | ListKeys):
            left_ms = max(1, int((until - now) * 1000))
            return message._replace(budget_ms=min(left_ms, message.budget_ms))  # never more, by rounding
        return message

    @property
    def delay_s(self) -> float:
        return self.waiting * self.mean_s

    @property
    def hurries_nobody(self) -> bool:
        """Whether reads are late for the load and not for a peer: then asking more nodes makes it worse."""
        return self.delay_s > self._hedge_after_s


class _Load:
    """waiting: copies on their way to a peer. window: how many may be, as far as clients' writes need them.
    heard_at: when it answered last, or was asked after having answered all."""

    __slots__ = ("heard_at", "shrunk_at", "waiting", "window")

    def __init__(self) -> None:
        self.waiting = 0
        self.window = math.inf
        self.heard_at = -math.inf
        self.shrunk_at = -math.inf


class PeerLoads:
    """How much every peer may be asked to store, learned from its refusals.

    A peer answers a copy at once when it is overloaded, and after its commit otherwise; how long its queue
    is shows only afterwards, but how many copies it has not answered is known at any time. So the bound is
    a window of those, as TCP's is of segments: no bound until a first refusal, then three quarters of what
    was under way, growing by one for as many answers (AIMD; Chiu, Jain, 1989), and none again after a while
    without refusals, for a refusal comes so soon that trying costs next to nothing. A peer that owes answers
    and gives none for as long as its queue may be has no room either. One entry per member that was ever
    asked; those that leave the ring are forgotten."""

    __slots__ = ("_late_s", "_loads", "pressed")

    def __init__(self, config: Config) -> None:
        self._late_s = config.write_delay_max_s * PEERS_ROOM
        self._loads: dict[str, _Load] = {}
        self.pressed = False  # whether any window is bounded

    def sent(self, names: Iterable[str], now: float) -> None:
        """A copy is on its way to each of these."""
        loads = self._loads
        for name in names:
            load = loads.get(name)
            if load is None:
                load = loads[name] = _Load()
            if not load.waiting:
                load.heard_at = now
            load.waiting += 1

    def answered(self, name: str, status: int, now: float) -> None:
        load = self._loads.get(name)
        if load is None:
            return
        load.heard_at = now
        if status == STATUS_OVERLOADED:
            self.pressed = True
            if now - load.shrunk_at >= _SHRINK_PAUSE_S:
                load.shrunk_at = now
                load.window = max(WINDOW_MIN, min(load.window, load.waiting) * _SHRINK)
        elif self.pressed:
            load.window += 1.0 / load.window
        if load.waiting:  # what was sent again is answered twice and was counted once
            load.waiting -= 1

    def lost(self, name: str) -> None:
        """Its link broke, or is new: nothing is on its way."""
        load = self._loads.get(name)
        if load is not None:
            load.waiting = 0

    def keep(self, names: Iterable[str]) -> None:
        """The ring is of these."""
        kept = dict.fromkeys(names)
        self._loads = {name: load for name, load in self._loads.items() if name in kept}

    def room(self, names: Iterable[str], now: float) -> int:
        """How many of these would take one copy more, and soon."""
        room, late = 0, now - self._late_s
        for name in names:
            load = self._loads.get(name)
            if load is not None and load.shrunk_at + _FORGET_S <= now:
                load.window = math.inf
            if load is None or (load.waiting < load.window and (not load.waiting or load.heard_at > late)):
                room += 1
        return room


def answer_to(
    message: Message, *, name: str, why: str, retry_after_s: float
) -> Failed | ReadAnswer | ReadManyAnswer | ScanAnswer | Compared | LeavesCompared | Fetched | Stored | None:
    """What refuses a request that was not looked into; None where no answer is wanted. name: this node's."""
    if isinstance(message, Get | GetMany | Put | Delete | ListKeys):
        text, retry_after_ms = f"{name}: {why}", int(retry_after_s * 1000)
        return Failed(message.id, str(Code.OVERLOADED), text, 0, "", False, retry_after_ms, b"")
    if isinstance(message, Read):
        return ReadAnswer(message.id, STATUS_OVERLOADED, b"")
    if isinstance(message, ReadMany):
        return ReadManyAnswer(message.id, STATUS_OVERLOADED, b"")
    if isinstance(message, Scan):
        return ScanAnswer(message.id, STATUS_OVERLOADED, b"", b"")
    if isinstance(message, Compare):
        return Compared(message.id, STATUS_OVERLOADED, False, b"", b"", 0)
    if isinstance(message, CompareLeaves):
        return LeavesCompared(message.id, STATUS_OVERLOADED, b"")
    if isinstance(message, Fetch):
        return Fetched(message.id, STATUS_OVERLOADED, b"")
    assert isinstance(message, Store | HandOver), "only requests for records wait for the disk"
    return Stored(message.id, STATUS_OVERLOADED) if message.id else None


def _budget_s(message: Message) -> float:
    """How long somebody waits for the answer. Peers do not say: they give up by themselves."""
    if isinstance(message, Get | GetMany | Put | Delete | ListKeys):
        return message.budget_ms / 1000
    return math.inf


def _median(weighed: Iterable[tuple[float, float]]) -> float:
    """Of (value, weight): half of all weight is at or below it."""
    ordered = sorted(weighed)
    half = sum(weight for _, weight in ordered) / 2
    at = 0
    while (half := half - ordered[at][1]) > 0:
        at += 1
    return ordered[at][0]
