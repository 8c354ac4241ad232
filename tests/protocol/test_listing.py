"""One page of keys: R pages compared, what they differ in read, each node counted once."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.errors import Code
from dyno.protocol.listing import READS_MAX, Comparison, ListingCoordinator, Page, compare
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.replica import Replica
from dyno.protocol.sink import Failure, ReadSink
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_RING,
    STATUS_WEAK,
    Scan,
    ScanAnswer,
)
from dyno.wire.pages import UNREADABLE, Entry, entry, pack_entries, unpack_keys, unreadable

PREFIX, RING, DEADLINE = b"stretch of\x01", 7, 2.0
ALIVE = Record.EMPTY.write(Context.EMPTY, Dot(actor(b"start 01", 0), 1), b"r" * 16, b"value")
GONE = ALIVE.delete(ALIVE.context)


def hash_of(key: str) -> bytes:
    return key.encode() * 16


def entries(text: str) -> list[Entry]:
    """What a replica has: "a b- c? d2" is a alive, b deleted, c damaged, d alive with another value."""
    made = []
    for word in text.split():
        key, kind = word[0], word[1:]
        if kind == "?":
            made.append(unreadable(hash_of(key)))
        else:
            made.append(entry(hash_of(key), key.encode(), word.encode(), live=kind != "-"))
    return made


def page(text: str, end: str = "") -> Page:
    made = entries(text)
    damaged = [each.hash for each in made if each.state[0] == UNREADABLE]
    return Page(pack_entries(made), made, hash_of(end) if end else b"", damaged)


@dataclass
class Results:
    """A sink that remembers."""

    pages: list[tuple[str, str]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def listed(self, keys: bytes, cursor: bytes, out: Outbox) -> None:
        self.pages.append((b"".join(unpack_keys(keys)).decode(), cursor[:1].decode()))

    def failed(self, failure: Failure, out: Outbox) -> None:
        self.failures.append(failure)


class Listing:
    """A page at node a of what a, b, c (…) own, and what comes of it."""

    def __init__(
        self, *, r: int = 2, owners: str = "abc", linked: str = "bcde", after: str = "", limit: int = 100
    ) -> None:
        self.out = Outbox()
        self.sink = Results()
        self.now = 0.1
        self.reads: dict[str, ReadSink] = {}
        self.at_once: Record | Failure | None = None  # how reads end at once, if they do
        peers = Peers()
        peers.place({name: name for name in owners})
        for name in linked:
            peers.up(name, name)
        replica = Replica(engine=MemoryEngine(), minter=Minter(b"start of"), config=Config())
        self.listing = ListingCoordinator(
            id=1,
            prefix=PREFIX,
            after=hash_of(after) if after else b"",
            limit=limit,
            owners=list(owners),
            needed=r,
            ring=RING,
            deadline=DEADLINE,
            me="a",
            replica=replica,
            peers=peers,
            read_key=self._read,
            sink=self.sink,
        )
        self.listing.start(self.out)

    def _read(self, hash: bytes, key: bytes, sink: ReadSink, now: float, out: Outbox) -> None:
        assert hash == hash_of(key.decode())
        self.reads[key.decode()] = sink
        if isinstance(self.at_once, Record):
            self.found(key.decode(), self.at_once)
        elif self.at_once is not None:
            sink.failed(self.at_once, out)

    def hear(self, node: str, text: str = "", end: str = "", status: int = STATUS_OK) -> bool:
        answer = ScanAnswer(1, status, pack_entries(entries(text)), hash_of(end) if end else b"")
        return self.listing.scanned(node, answer, self.now, self.out)

    def found(self, key: str, record: Record | None) -> None:
        packed = b"" if record is None else record.pack()
        self.reads[key].found(packed, ["a", "b"], self.now, self.out)

    def asked(self) -> str:
        """The nodes asked since the last look, in order."""
        asked = "".join(address for address, message in self.out.sends if isinstance(message, Scan))
        self.out.sends.clear()
        return asked


# ── whom it asks ──


@pytest.mark.parametrize(("r", "asked"), [(1, ""), (2, "b"), (3, "bc")])
def test_r_minus_one_others_are_asked(r: int, asked: str) -> None:
    assert Listing(r=r).asked() == asked


def test_what_is_asked_is_a_stretch_behind_a_cursor() -> None:
    listing = Listing(after="m", limit=5)
    assert listing.out.sends == [("b", Scan(1, RING, PREFIX, hash_of("m"), 5))]


def test_the_page_is_answered_when_r_pages_are_in() -> None:
    listing = Listing()
    listing.hear("a", "a b c")
    assert not listing.sink.pages
    assert not listing.listing.finished
    listing.hear("b", "a b c")
    assert listing.sink.pages == [("abc", "")]
    assert listing.listing.finished
    assert listing.reads == {}


def test_a_repeated_page_is_one_page_and_a_late_one_means_nothing() -> None:
    listing = Listing(r=3)
    for _ in range(2):
        listing.hear("a", "a")
        listing.hear("b", "a")
    assert not listing.sink.pages
    assert not listing.hear("d", "a"), "nobody asked it"
    assert not listing.sink.pages
    listing.hear("c", "a")
    listing.hear("c", "a b c", status=STATUS_OVERLOADED)
    assert listing.sink.pages == [("a", "")]


def test_an_owner_that_cannot_is_replaced_by_the_next() -> None:
    listing = Listing()
    listing.asked()
    listing.hear("a", "a")
    listing.hear("b", status=STATUS_OVERLOADED)
    assert listing.asked() == "c"
    listing.hear("c", "a")
    assert listing.sink.pages == [("a", "")]


def test_an_owner_whose_link_breaks_is_replaced_and_asked_again_when_it_is_back() -> None:
    listing = Listing(r=3)
    listing.asked()
    listing.hear("a", "a")
    listing.listing.lost("b", listing.out)
    listing.hear("c", "a")
    assert listing.asked() == ""
    listing.listing.retry("b", listing.out)
    assert listing.asked() == "b"
    listing.hear("b", "a")
    assert listing.sink.pages == [("a", "")]


def test_a_late_owner_is_overtaken() -> None:
    listing = Listing()
    listing.hear("a", "a")
    listing.asked()
    assert listing.listing.hedge(listing.out)
    assert listing.asked() == "c"
    listing.hear("c", "a")
    assert listing.sink.pages == [("a", "")]
    assert not listing.listing.hedge(listing.out)
    listing.listing.lost("b", listing.out)
    assert listing.asked() == ""


def test_an_owner_with_another_ring_is_worth_asking_again() -> None:
    listing = Listing()
    listing.asked()
    listing.hear("a", "a")
    assert listing.hear("b", status=STATUS_RING)
    assert listing.asked() == "c"


def test_too_few_answers_are_a_failure_once() -> None:
    listing = Listing(r=3)
    listing.hear("a", "a")
    listing.hear("b", status=STATUS_OVERLOADED)
    (failure,) = listing.sink.failures
    assert (failure.code, failure.needed, failure.nodes) == (Code.OVERLOADED, 3, ("a",))
    listing.listing.expire(0.0, listing.out)
    listing.listing.replan(listing.out)
    assert len(listing.sink.failures) == 1


def test_time_and_the_ring_end_it_too() -> None:
    listing, other = Listing(), Listing()
    listing.listing.expire(0.0, listing.out)
    other.listing.replan(other.out)
    assert [each.sink.failures[0].code for each in (listing, other)] == [Code.QUORUM, Code.RING]


@pytest.mark.parametrize(
    "answer",
    [
        ScanAnswer(1, STATUS_OK, b"nonsense", b""),
        ScanAnswer(1, STATUS_OK, pack_entries(entries("a")), b""),  # before the cursor
        ScanAnswer(1, STATUS_OK, b"", hash_of("a")),
    ],
)
def test_a_page_that_is_none_is_reported_and_does_not_count(answer: ScanAnswer) -> None:
    listing = Listing(after="m")
    listing.asked()
    listing.hear("a", "n")
    listing.listing.scanned("b", answer, 0.1, listing.out)
    assert listing.asked() == "c"
    ((level, text),) = listing.out.events
    assert (level, "b sent a page" in text) == ("error", True)
    listing.hear("c", "n")
    assert listing.sink.pages == [("n", "")]


# ── damaged records, whose keys are lost ──


def test_a_damaged_record_whose_key_another_page_has_is_read() -> None:
    listing = Listing()
    listing.hear("a", "a b? c")
    listing.hear("b", "a b c")
    assert list(listing.reads) == ["b"]
    listing.found("b", ALIVE)
    assert listing.sink.pages == [("abc", "")]


def test_a_replica_with_a_damaged_record_that_nobody_knows_is_no_answer() -> None:
    listing = Listing()
    assert listing.asked() == "b"
    listing.hear("a", "b?")
    assert listing.asked() == "c"
    listing.hear("b", "c")
    assert not listing.sink.pages
    assert ("error", "a has 1 damaged records whose keys nobody who answered knows") in listing.out.events
    listing.hear("c", "c")
    assert listing.sink.pages == [("c", "")], "b and c are R without a"


def test_a_replica_counts_again_when_a_later_page_knows_the_key() -> None:
    listing = Listing()
    listing.hear("a", "b?")
    listing.hear("b", "c")
    listing.hear("c", "b c")
    assert sorted(listing.reads) == ["b", "c"], "three pages count now, and differ in both"
    listing.found("b", None)
    listing.found("c", ALIVE)
    assert listing.sink.pages == [("c", "")]


def test_damage_that_leaves_too_few_answers_is_a_failure_and_never_an_absence() -> None:
    listing = Listing(r=1, owners="a")
    listing.hear("a", "a b?")
    assert listing.sink.failures[0].code == Code.QUORUM
    assert not listing.sink.pages


# ── what is doubtful ──


def test_what_differs_is_read_before_the_page_is_answered() -> None:
    listing = Listing()
    listing.hear("a", "a b c d-")
    listing.hear("b", "b- c2 d- e")
    assert list(listing.reads) == ["a", "b", "c", "e"]
    for key, record in (("e", None), ("c", ALIVE), ("a", ALIVE)):
        listing.found(key, record)
        assert not listing.sink.pages
    listing.found("b", GONE)
    assert listing.sink.pages == [("ac", "")]


def test_a_read_that_fails_fails_the_page_once() -> None:
    listing = Listing()
    listing.hear("a", "a b c")
    listing.hear("b", "")
    for key in "ab":
        listing.reads[key].failed(Failure(Code.QUORUM, f"of {key}"), listing.out)
    listing.found("c", ALIVE)
    assert [failure.message for failure in listing.sink.failures] == ["of a"]
    assert not listing.sink.pages


MANY = " ".join(chr(number) for number in range(ord("0"), ord("0") + 2 * READS_MAX))


def test_few_reads_are_under_way_at_once() -> None:
    listing = Listing()
    listing.hear("a", MANY)
    listing.hear("b", "")
    assert len(listing.reads) == READS_MAX
    for number, key in enumerate(MANY.split()):
        assert len(listing.reads) == min(READS_MAX + number, 2 * READS_MAX)
        listing.found(key, ALIVE)
    assert listing.sink.pages == [(MANY.replace(" ", ""), "")]


def test_reads_that_end_at_once_need_no_stack() -> None:
    listing = Listing()
    listing.at_once = ALIVE
    listing.hear("a", MANY)
    listing.hear("b", "")
    assert listing.sink.pages == [(MANY.replace(" ", ""), "")]

    listing = Listing()
    listing.at_once = Failure(Code.RING, "why")
    listing.hear("a", MANY)
    listing.hear("b", "")
    assert len(listing.reads) == 1
    assert listing.sink.failures == [listing.at_once]


def test_no_read_begins_after_the_pages_time_is_up() -> None:
    listing = Listing()
    listing.hear("a", MANY)
    listing.hear("b", "")
    listing.now = DEADLINE
    listing.found("0", ALIVE)
    assert len(listing.reads) == READS_MAX
    (failure,) = listing.sink.failures
    assert failure.message == f"{READS_MAX} keys of which replicas differ could not be read in time"
    listing.found("1", ALIVE)
    assert len(listing.sink.failures) == 1
    assert not listing.sink.pages


# ── comparing pages ──


def compared(*pages: Page, limit: int = 100, keys: str = "") -> tuple[str, str, str]:
    """Live, doubtful, cursor."""
    known = {hash_of(key): key.encode() for key in keys}
    live, doubtful, cursor = compare(pages, keys=known, limit=limit)
    assert all(hash_of(key.decode()) == hash for hash, key in (*live.items(), *doubtful))
    return (
        b"".join(sorted(live.values())).decode(),
        b"".join(key for _, key in doubtful).decode(),
        cursor[:1].decode(),
    )


@pytest.mark.parametrize(
    ("pages", "result"),
    [
        ([page("")], ("", "", "")),
        ([page("a b- c", "c")], ("ac", "", "c")),
        ([page("a b-"), page("a b-")], ("a", "", "")),
        ([page("a"), page("a2")], ("", "a", "")),
        ([page("a"), page("a-")], ("", "a", "")),
        ([page("a"), page("")], ("", "a", "")),
        ([page("a-"), page("")], ("", "", "")),
        ([page("a"), page("a"), page("")], ("", "a", "")),
        ([page("a?"), page("a")], ("", "a", "")),
        ([page("a?"), page("a-")], ("", "a", "")),
        # as far as all of them reach
        ([page("a b", "b"), page("a b c")], ("ab", "", "b")),
        ([page("a b c", "c"), page("a b", "b")], ("ab", "", "b")),
        ([page("a c", "c"), page("a b", "b")], ("a", "b", "b")),
        ([page("a b", "d"), page("a b c", "c")], ("ab", "c", "c")),
        ([page("", "b"), page("c")], ("", "", "b")),
    ],
)
def test_pages_say_together(pages: list[Page], result: tuple[str, str, str]) -> None:
    assert compared(*pages) == result
    assert compared(*reversed(pages)) == result


def test_a_key_may_be_known_from_a_page_that_does_not_count() -> None:
    assert compared(page("a?"), page("b"), keys="a") == ("", "ab", "")


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_a_page_has_no_more_keys_than_were_asked_for(limit: int) -> None:
    live, doubtful, cursor = compared(page("a c e", "e"), page("b d f", "f"), limit=limit)
    assert (live, doubtful, cursor) == ("", "abcd"[:limit], "abcd"[limit - 1])
    same = compared(page("a c e"), page("a c e"), limit=limit)
    assert same == ("ace"[:limit], "", "ace"[limit - 1] if limit < 3 else "")


KEYS = "abcdefgh"
replicas = st.lists(
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["", "-", "2"])), min_size=1, max_size=4
)


@given(replicas, st.integers(1, 9), st.lists(st.integers(1, 9), min_size=4, max_size=4))
def test_however_pages_are_cut_every_key_comes_once(
    held: list[dict[str, str]], limit: int, sizes: list[int]
) -> None:
    """What the pages of a walk say together is what one comparison of everything says."""

    def cut(have: dict[str, str], after: str, size: int) -> Page:
        words = [key + have[key] for key in sorted(have) if key > after]
        return page(" ".join(words[:size]), words[size - 1][0] if len(words) > size else "")

    whole = compared(*(cut(have, "", 100) for have in held))
    live = doubtful = after = ""
    for _ in range(len(KEYS) + 1):
        more = compared(
            *(cut(have, after, size) for have, size in zip(held, sizes, strict=False)), limit=limit
        )
        live += more[0]
        doubtful += more[1]
        if not more[2]:
            break
        assert more[2] > after
        after = more[2]
    assert (live, doubtful) == whole[:2]
    assert more[2] == ""


def test_a_comparison_of_equal_pages_looks_at_one() -> None:
    same = page("a b-", "b")
    assert compare([same, same], keys={}, limit=9) == Comparison({hash_of("a"): b"a"}, [], hash_of("b"))


# ── owners that are not complete again yet ──


def test_a_weak_page_does_not_count_while_others_can_be_asked() -> None:
    at = Listing()
    at.asked()
    at.hear("a", "x", status=STATUS_WEAK)
    assert at.asked() == "c"
    at.hear("b", "x y")
    at.hear("c", "x y")
    assert at.sink.pages == [("xy", "")]
    assert not at.reads  # what the weak page lacks makes nothing doubtful


def test_a_weak_page_counts_where_nobody_else_can_be_asked() -> None:
    at = Listing(linked="b")
    at.hear("a", "x", status=STATUS_WEAK)
    at.hear("b", "x y")
    assert list(at.reads) == ["y"]
    at.found("y", ALIVE)
    assert at.sink.pages == [("xy", "")]
