"""One node's table of buckets, what is kept of it, and when it may be spoken of."""

from __future__ import annotations

import pytest

from dyno.buckets.table import Entry, pack
from dyno.protocol.bucket_register import BUCKETS
from dyno.storage.memory import MemoryEngine
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import AskFate, SwapBuckets
from tests.protocol.bucket_harness import LINK, WIDE, Driven, P, directory_of, reserved


def remembering(*entries: Entry) -> Driven:
    engine = MemoryEngine()
    engine.write_batch({}, {BUCKETS: pack(entries)})
    return Driven(engine=engine)


def test_what_was_kept_is_known_again() -> None:
    created, undecided = Entry("one", WIDE), reserved("two")
    at = remembering(created, undecided)
    assert at.register.table.entries == {"one": created, "two": undecided}
    assert at.register.table.changed == []


def test_what_this_node_began_and_had_not_decided_is_withdrawn_by_its_end() -> None:
    at = remembering(reserved("mine", by="a"), reserved("doubt", by="a")._replace(doubtful=True))
    assert at.register.table.entries == {"doubt": Entry("doubt", WIDE, doubtful=True)}
    assert at.register.table.changed == []


def test_a_damaged_table_is_no_table() -> None:
    engine = MemoryEngine()
    engine.write_batch({}, {BUCKETS: b"nonsense"})
    with pytest.raises(ProtocolError):
        Driven(engine=engine)


def test_all_members_of_the_ring_have_to_agree() -> None:
    at = Driven()
    assert (at.register.me, at.register.directory) == ("a", directory_of("a"))
    assert at.register.members() == [(name, directory_of(name)) for name in "abc"]
    assert at.register.others() == ["b", "c"]


def test_a_reservation_is_abandoned_when_its_coordinator_is_not_in_the_ring_any_more() -> None:
    at = Driven()
    assert not at.register.is_abandoned(reserved(by="b"))
    assert at.register.why_not(reserved(by="b")) == (
        "bucket 'wide' is being created by b; try again in a moment"
    )
    at.members.dead.append("b")
    assert at.register.why_not(reserved(by="b")) == (
        "bucket 'wide' was being created when b died; start that again to settle it"
    )
    gone = reserved(by="x")
    assert at.register.is_abandoned(gone)
    assert at.register.why_not(gone) == (
        "the creation of bucket 'wide' was broken off; create it again to settle it"
    )


def test_there_is_room_for_buckets_max() -> None:
    at = Driven(buckets_max=2)
    assert at.register.buckets_max == 2
    at.register.table.put(reserved("one"))
    assert at.register.has_room()
    at.register.table.put(Entry("two", WIDE))
    assert not at.register.has_room()


def test_what_is_said_of_the_table_waits_for_what_is_not_on_the_disk_yet() -> None:
    at = Driven()
    at.register.show("b", at.out)
    at.register.replies(at.out).append((LINK, SwapBuckets(b"", False)))
    assert at.sent() == [("b", SwapBuckets(b"", True))]
    assert at.said() == [SwapBuckets(b"", False)]
    at.register.table.put(Entry("wide", WIDE))
    at.register.keep(at.out)
    shown = SwapBuckets(at.register.table.pack(), True)
    at.register.show("b", at.out)
    at.replica.keep(at.out)  # the fact is in a batch now
    at.register.show("c", at.out)
    at.register.replies(at.out).append((LINK, shown))
    assert (at.sent(), at.said()) == ([], [])
    at.commit()
    assert (at.sent(), at.said()) == ([("b", shown), ("c", shown)], [shown])
    assert at.engine.get_meta(BUCKETS) == at.register.table.pack()
    at.register.show("b", at.out)
    assert at.sent() == [("b", shown)]


def test_whoever_cannot_be_asked_is_not() -> None:
    at = Driven()
    at.peers.down("b")
    at.register.show("b", at.out)
    question = AskFate("wide", P, directory_of("c"))
    assert not at.register.ask("b", question, at.out)
    assert at.register.ask("c", question, at.out)
    assert at.sent() == [("c", question)]
