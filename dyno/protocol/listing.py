"""List the live keys of one bucket in one partition, page by page, as R of its owners have them.

A page is put together in two steps. First R owners tell what they have behind the cursor: for every record,
a tombstone too, the hash of its key and a digest (the node at hand scans its own disk; who else is asked,
and when, is as in a read, `protocol.get`). The pages are compared as far as the shortest of them reaches. A
key of which all R have the same record is live or not as they say, and one that none of them has alive is
not. Every other key, where they differ or one of them is damaged, is decided by an ordinary read at R, which
repairs it as well; only then is the page answered.

So a key that was deleted on W nodes never shows, and one that was written on W always does, where R + W > N,
however far the replicas have drifted apart. Replicas tell what is on their disks: a write that was
acknowledged before the listing began is there on W of them. Keys that come or go while it runs may show or
not.

A damaged record has lost its key. Where nobody else who answered knows it, its replica cannot answer for
the page, and another owner is asked. Bounds: a page has PAGE_KEYS_MAX keys, READS_MAX reads at once, and ends
when its time is up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias, cast

from dyno.causality.record import is_live
from dyno.errors import Code
from dyno.protocol.get import GetCoordinator
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.replica import Replica
from dyno.protocol.sink import Failure, ListSink, ReadSink
from dyno.wire.messages import STATUS_OK, STATUS_REFUSED, Scan, ScanAnswer
from dyno.wire.pages import DEAD, LIVE, PAGE_KEYS_MAX, UNREADABLE, Entry, pack_keys, unpack_entries

READS_MAX: Final = 32  # of doubtful keys, under way at once for one page

# Reads one key at R, given its hash; the result goes to the sink.
ReadKey: TypeAlias = Callable[[bytes, bytes, ReadSink, float, Outbox], None]


class Page(NamedTuple):
    """What a replica answered. packed: its entries as they came. end: the last hash that it speaks of, b"":
    there is nothing behind it. damaged: the hashes of unreadable entries."""

    packed: bytes
    entries: list[Entry]
    end: bytes
    damaged: list[bytes]


class Comparison(NamedTuple):
    """live: hash → key of what is live for certain. doubtful: (hash, key) of what has to be read. cursor: up
    to where, b"": to the end."""

    live: dict[bytes, bytes]
    doubtful: list[tuple[bytes, bytes]]
    cursor: bytes


class ListingCoordinator(GetCoordinator):
    """One page. prefix: what the slots of the bucket in this partition begin with. after, limit: as in
    ListKeys. The other arguments are those of a read."""

    __slots__ = ("_after", "_keys", "_limit", "_list_sink", "_pages", "_read_key")

    def __init__(
        self,
        *,
        id: int,
        prefix: bytes,
        after: bytes,
        limit: int,
        owners: Sequence[str],
        needed: int,
        ring: int,
        deadline: float,
        me: str,
        replica: Replica,
        peers: Peers,
        read_key: ReadKey,
        sink: ListSink,
    ) -> None:
        super().__init__(
            id=id,
            slot=prefix,
            key=b"",
            owners=owners,
            needed=needed,
            ring=ring,
            deadline=deadline,
            me=me,
            replica=replica,
            peers=peers,
            sink=cast("ReadSink", sink),  # of a read's results only failures get there: see `_met`
        )
        self._after = after
        self._limit = min(limit, PAGE_KEYS_MAX)  # of each owner's page, and of what they come to together
        self._list_sink = sink
        self._read_key = read_key
        self._pages: dict[str, Page] = {}
        self._keys: dict[bytes, bytes] = {}  # hash → key, once a page has anything unreadable

    def scanned(self, node: str, answer: ScanAnswer, now: float, out: Outbox) -> bool:
        """A replica's page; means what `answer` means for a read."""
        if self.answered:
            return False
        status = answer.status
        if status == STATUS_OK and self._asked.get(node):
            try:
                self._pages[node] = self._page(answer)
            except ValueError as error:
                out.events.append(("error", f"{node} sent a page of keys that is none: {error}"))
                status = STATUS_REFUSED
        return self.answer(node, status, b"", now, out)

    @property
    def finished(self) -> bool:
        """Nobody's late page is of use."""
        return self.answered

    # ── inside ──

    def _question(self) -> Scan:
        return Scan(self.id, self.ring, self.slot, self._after, self._limit)

    def _page(self, answer: ScanAnswer) -> Page:
        for page in self._pages.values():
            if page.packed == answer.entries and page.end == answer.end:
                return page  # equal replicas: unpacked once
        entries = unpack_entries(answer.entries, after=self._after, end=answer.end)
        damaged = [entry.hash for entry in entries if entry.state[0] == UNREADABLE]
        return Page(answer.entries, entries, answer.end, damaged)

    def _take(self, node: str, record: bytes, out: Outbox) -> None:
        """A page counts once all that is unreadable in it has a key, be it from a page that came later."""
        if any(page.damaged for page in self._pages.values()):
            for page in self._pages.values():
                self._keys.update((entry.hash, entry.key) for entry in page.entries if entry.key)
        for name, page in self._pages.items():
            lost = [hash for hash in page.damaged if hash not in self._keys]
            if not lost:
                self._answers[name] = record
                self._tally.did(name)
            else:
                self._tally.cannot(name)
                if name == node:
                    text = f"{name} has {len(lost)} damaged records whose keys nobody who answered knows"
                    out.events.append(("error", text))

    def _met(self, now: float, out: Outbox) -> None:
        pages = [self._pages[node] for node in self._answers]
        compared = compare(pages, keys=self._keys, limit=self._limit)
        doubts = Doubts(compared, until=self.deadline, read_key=self._read_key, sink=self._list_sink)
        doubts.settle(now, out)


class Doubts:
    """Decides the doubtful keys of a page, and answers it. until: when to begin no further read."""

    __slots__ = ("_cursor", "_live", "_queue", "_read_key", "_reading", "_settling", "_sink", "_until")

    def __init__(self, compared: Comparison, *, until: float, read_key: ReadKey, sink: ListSink) -> None:
        self._live = compared.live
        self._queue = deque(compared.doubtful)
        self._cursor = compared.cursor
        self._until = until
        self._read_key = read_key
        self._sink: ListSink | None = sink  # None once it was told
        self._reading = 0
        self._settling = False

    def settle(self, now: float, out: Outbox) -> None:
        """Begin as many reads as may be under way; answer when none is needed any more."""
        if self._settling:
            return  # a read that ended at once: the loop below goes on
        self._settling = True
        while self._sink is not None and self._queue and self._reading < READS_MAX:
            if now >= self._until:
                text = f"{len(self._queue)} keys of which replicas differ could not be read in time"
                self.failed(Failure(Code.QUORUM, text), out)
                break
            hash, key = self._queue.popleft()
            self._reading += 1
            self._read_key(hash, key, _Doubt(self, hash, key), now, out)
        self._settling = False
        if self._sink is not None and not self._queue and not self._reading:
            sink, self._sink = self._sink, None
            sink.listed(pack_keys([self._live[hash] for hash in sorted(self._live)]), self._cursor, out)

    def decided(self, hash: bytes, key: bytes, *, live: bool, now: float, out: Outbox) -> None:
        self._reading -= 1
        if live:
            self._live[hash] = key
        self.settle(now, out)

    def failed(self, failure: Failure, out: Outbox) -> None:
        """A page without one of its keys would be wrong."""
        if self._sink is not None:
            sink, self._sink = self._sink, None
            sink.failed(failure, out)


def compare(pages: Sequence[Page], *, keys: Mapping[bytes, bytes], limit: int) -> Comparison:
    """What pages of as many replicas say together, as far as all of them reach and of `limit` keys at most.
    keys: of the records that are unreadable in one of them."""
    first, *others = pages
    if all(page == first for page in others) and not first.damaged and len(first.entries) <= limit:
        live = {entry.hash: entry.key for entry in first.entries if entry.state[0] == LIVE}
        return Comparison(live, [], first.end)
    cursor = min((page.end for page in pages if page.end), default=b"")
    states: dict[bytes, list[bytes]] = {}
    known = dict(keys)
    for page in pages:
        for entry in page.entries:
            if cursor and entry.hash > cursor:
                break
            states.setdefault(entry.hash, []).append(entry.state)
            if entry.key:
                known[entry.hash] = entry.key
    hashes = sorted(states)
    if len(hashes) > limit:
        del hashes[limit:]
        cursor = hashes[-1]
    live, doubtful = {}, []
    for hash in hashes:
        said = states[hash]
        if len(said) == len(pages) and said.count(said[0]) == len(said) and said[0][0] == LIVE:
            live[hash] = known[hash]
        elif any(state[0] != DEAD for state in said):
            doubtful.append((hash, known[hash]))
    return Comparison(live, doubtful, cursor)


class _Doubt:
    """The read of one doubtful key."""

    __slots__ = ("_doubts", "_hash", "_key")

    def __init__(self, doubts: Doubts, hash: bytes, key: bytes) -> None:
        self._doubts = doubts
        self._hash = hash
        self._key = key

    def found(
        self, record: bytes, answered: list[str], now: float, out: Outbox, fallbacks: Sequence[str] = ()
    ) -> None:
        live = bool(record) and is_live(record)
        self._doubts.decided(self._hash, self._key, live=live, now=now, out=out)

    def failed(self, failure: Failure, out: Outbox) -> None:
        self._doubts.failed(failure, out)
