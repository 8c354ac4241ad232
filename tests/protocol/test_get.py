"""One read: R answers, each node counted once, and those that were behind brought up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.errors import Code
from dyno.protocol.get import GetCoordinator
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.replica import Replica
from dyno.protocol.sink import Failure
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_REFUSED,
    STATUS_RING,
    STATUS_STORAGE,
    Read,
    Store,
)

SLOT, KEY, RING = b"slot of the key", b"key", 7


def a_record(*values: bytes, by: int = 1) -> bytes:
    record = Record.EMPTY
    for count, value in enumerate(values, 1):
        record = record.write(Context.EMPTY, Dot(actor(b"start %02d" % by, 0), count), b"r" * 16, value)
    return record.pack()


OLD, NEW = a_record(b"one"), a_record(b"one", b"two")
OTHER = a_record(b"elsewhere", by=2)
BOTH = Record.unpack(NEW).merge(Record.unpack(OTHER)).pack()


@dataclass
class Results:
    """A sink that remembers."""

    found_: list[tuple[bytes, list[str]]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    fallbacks: list[str] = field(default_factory=list)

    def found(
        self, record: bytes, answered: list[str], now: float, out: Outbox, fallbacks: Sequence[str] = ()
    ) -> None:
        self.found_.append((record, answered))
        self.fallbacks = list(fallbacks)

    def failed(self, failure: Failure, out: Outbox) -> None:
        self.failures.append(failure)


class Reading:
    """A read at node a of a key that a, b, c (…) own, and what comes of it."""

    def __init__(
        self,
        *,
        r: int,
        owners: str = "abc",
        linked: str = "bcde",
        pr: int = 0,
        dead: int = 0,
        fallbacks: str = "",
    ) -> None:
        self.out = Outbox()
        self.sink = Results()
        self.engine = MemoryEngine()
        self.replica = Replica(engine=self.engine, minter=Minter(b"start of"), config=Config())
        self.peers = Peers()
        self.peers.place({name: name for name in owners + fallbacks})
        for name in linked:
            self.peers.up(name, name)
        self.get = GetCoordinator(
            id=1,
            slot=SLOT,
            key=KEY,
            owners=list(owners),
            needed=r,
            ring=RING,
            deadline=2.0,
            me="a",
            replica=self.replica,
            peers=self.peers,
            sink=self.sink,
            primaries=pr,
            dead=dead,
            fallbacks=list(fallbacks),
            patience_s=0.2,
        )
        self.get.start(self.out)

    def answer(self, node: str, record: bytes = b"", status: int = STATUS_OK) -> bool:
        return self.get.answer(node, status, record, 0.1, self.out)

    def asked(self) -> str:
        """The nodes asked since the last look, in order."""
        names = [address for address, message in self.out.sends if message == Read(1, RING, SLOT)]
        self.out.sends[:] = [send for send in self.out.sends if isinstance(send[1], Store)]
        return "".join(names)

    def repaired(self) -> dict[str, bytes]:
        repairs = {}
        for node, message in self.out.sends:
            if isinstance(message, Store):
                assert message[:4] == (0, RING, SLOT, KEY)
                repairs[node] = message.record
        self.out.sends.clear()
        return repairs


# ── whom it asks ──


@pytest.mark.parametrize(("r", "asked"), [(1, ""), (2, "b"), (3, "bc")])
def test_r_minus_one_others_are_asked(r: int, asked: str) -> None:
    assert Reading(r=r).asked() == asked


def test_one_copy_is_enough_for_r_1() -> None:
    reading = Reading(r=1)
    reading.answer("a", NEW)
    assert reading.sink.found_ == [(NEW, ["a"])]
    assert reading.get.finished


def test_the_read_is_answered_when_r_copies_are_in() -> None:
    reading = Reading(r=2)
    reading.answer("a", NEW)
    assert not reading.sink.found_
    reading.answer("b", NEW)
    assert reading.sink.found_ == [(NEW, ["a", "b"])]
    assert reading.get.finished
    assert reading.repaired() == {}


def test_the_own_copy_may_be_the_last_to_come() -> None:
    reading = Reading(r=2)
    reading.answer("b", NEW)
    reading.answer("a", NEW)
    assert reading.sink.found_ == [(NEW, ["b", "a"])]


def test_an_answer_that_comes_twice_counts_once() -> None:
    reading = Reading(r=2)
    reading.answer("b", NEW)
    reading.answer("b", NEW)
    assert not reading.sink.found_


def test_an_answer_of_a_node_that_was_not_asked_counts_nothing() -> None:
    reading = Reading(r=2)
    reading.answer("a", NEW)
    reading.answer("c", NEW)
    reading.answer("stranger", NEW)
    assert not reading.sink.found_


def test_a_node_without_a_link_is_passed_over_and_asked_when_the_link_is_up() -> None:
    reading = Reading(r=3, linked="c")
    assert reading.asked() == "c"
    reading.peers.up("b", "b")
    reading.get.retry("b", reading.out)
    assert reading.asked() == "b"


def test_a_link_that_comes_up_is_not_used_when_enough_answers_are_under_way() -> None:
    reading = Reading(r=2, linked="c")
    assert reading.asked() == "c"
    reading.peers.up("b", "b")
    reading.get.retry("b", reading.out)
    assert reading.asked() == ""


# ── answers that say no ──


def test_a_node_that_cannot_answer_is_replaced_by_the_next() -> None:
    reading = Reading(r=2)
    reading.asked()
    assert not reading.answer("b", status=STATUS_STORAGE)
    assert reading.asked() == "c"
    reading.answer("a", NEW)
    reading.answer("c", NEW)
    assert reading.sink.found_ == [(NEW, ["a", "c"])]


def test_the_own_copy_that_cannot_be_read_is_replaced_too() -> None:
    reading = Reading(r=2)
    reading.answer("a", status=STATUS_STORAGE)
    assert reading.asked() == "bc"


def test_the_read_fails_at_once_when_too_few_are_left() -> None:
    reading = Reading(r=3)
    reading.answer("a", NEW)
    reading.answer("b", status=STATUS_OVERLOADED)
    text = "1 of 3 needed nodes answered the read; no answer from b, c, some of which are overloaded"
    assert reading.sink.failures == [Failure(Code.OVERLOADED, text, 3, ("a",), retry_after_s=0.1)]
    assert not reading.get.finished  # c may still say something
    reading.answer("c", NEW)
    assert reading.get.finished
    assert len(reading.sink.failures) == 1


def test_a_refusal_that_comes_twice_counts_once() -> None:
    reading = Reading(r=1, linked="")
    reading.answer("a", status=STATUS_STORAGE)
    reading.answer("a", status=STATUS_STORAGE)
    assert not reading.sink.failures


def test_a_node_with_another_ring_is_asked_again_and_another_one_meanwhile() -> None:
    reading = Reading(r=2)
    assert reading.asked() == "b"
    assert reading.answer("b", status=STATUS_RING)
    assert reading.asked() == "c"
    reading.get.lost("c", reading.out)
    reading.get.retry("b", reading.out)
    assert reading.asked() == "b"
    reading.answer("b", NEW)
    reading.answer("a", NEW)
    assert reading.sink.found_ == [(NEW, ["b", "a"])]
    assert not reading.answer("c", status=STATUS_RING)  # nothing is worth asking any more


def test_a_node_that_says_again_and_again_to_come_back_is_come_back_to_once() -> None:
    reading = Reading(r=2)
    assert reading.answer("b", status=STATUS_RING)
    assert not reading.answer("b", status=STATUS_RING)
    reading.asked()
    reading.get.lost("c", reading.out)
    reading.get.retry("b", reading.out)
    assert reading.asked() == "b"
    assert reading.answer("b", status=STATUS_RING)


def test_a_read_under_a_ring_that_is_no_more_fails_with_plan_again() -> None:
    reading = Reading(r=2)
    reading.get.replan(reading.out)
    reading.get.replan(reading.out)
    assert reading.sink.failures == [Failure(Code.RING, "the ring changed during the read")]
    reading.answer("a", NEW)
    reading.answer("b", NEW)
    assert not reading.sink.found_
    assert reading.get.finished


# ── links that break, answers that are late ──


def test_a_node_whose_link_breaks_is_replaced() -> None:
    reading = Reading(r=2)
    reading.answer("a", NEW)
    assert reading.asked() == "b"
    reading.peers.down("b")
    reading.get.lost("b", reading.out)
    assert reading.asked() == "c"
    reading.answer("c", NEW)
    assert reading.sink.found_ == [(NEW, ["a", "c"])]
    assert reading.get.finished


def test_a_node_whose_link_comes_back_is_asked_again_when_nobody_else_is_left() -> None:
    reading = Reading(r=3)
    reading.answer("a", NEW)
    reading.answer("c", NEW)
    assert reading.asked() == "bc"
    reading.peers.down("b")
    reading.get.lost("b", reading.out)
    assert reading.asked() == ""
    reading.peers.up("b", "b")
    reading.get.retry("b", reading.out)
    assert reading.asked() == "b"
    reading.get.retry("b", reading.out)
    assert reading.asked() == ""  # it is being asked
    reading.answer("b", NEW)
    assert reading.sink.found_ == [(NEW, ["a", "c", "b"])]


def test_the_loss_of_a_link_that_owes_nothing_changes_nothing() -> None:
    reading = Reading(r=2)
    reading.answer("b", NEW)
    reading.asked()
    reading.get.lost("b", reading.out)
    reading.get.lost("c", reading.out)
    assert reading.asked() == ""


def test_a_link_that_breaks_after_the_answer_ends_the_wait_for_the_late() -> None:
    reading = Reading(r=2)
    reading.answer("a", NEW)
    reading.get.hedge(reading.out)
    reading.answer("c", NEW)
    assert not reading.get.finished
    reading.get.lost("b", reading.out)
    assert reading.get.finished


def test_late_answers_are_overtaken_by_one_more_owner_at_a_time() -> None:
    reading = Reading(r=2, owners="abcde")
    assert reading.asked() == "b"
    assert reading.get.hedge(reading.out)
    assert reading.asked() == "c"
    assert reading.get.hedge(reading.out)
    assert reading.asked() == "d"
    assert reading.get.hedge(reading.out)
    assert reading.asked() == "e"
    assert not reading.get.hedge(reading.out)  # nobody is left
    reading.answer("a", NEW)
    reading.answer("e", NEW)
    assert reading.sink.found_ == [(NEW, ["a", "e"])]
    assert not reading.get.hedge(reading.out)


def test_a_read_knows_whom_it_waits_for() -> None:
    reading = Reading(r=3, owners="abcde")
    assert reading.get.waiting_for() == ["b", "c"]
    reading.answer("b", NEW)
    assert reading.get.waiting_for() == ["c"]
    reading.get.hedge(reading.out)
    assert reading.get.waiting_for() == ["c", "d"]


def test_who_refused_is_not_asked_again_for_being_late() -> None:
    reading = Reading(r=2)
    reading.answer("b", status=STATUS_STORAGE)
    assert reading.asked() == "bc"
    assert not reading.get.hedge(reading.out)


def test_once_answers_are_late_a_link_that_comes_up_is_used_at_once() -> None:
    reading = Reading(r=2, linked="b")
    assert reading.asked() == "b"  # and b is frozen, say
    assert not reading.get.hedge(reading.out)
    reading.peers.up("c", "c")
    reading.get.retry("c", reading.out)
    assert reading.asked() == "c"


def test_a_read_that_gets_too_few_answers_in_time_says_who_is_missing() -> None:
    reading = Reading(r=3)
    reading.answer("a", NEW)
    reading.answer("c", NEW)
    reading.get.expire(reading.out)
    text = "2 of 3 needed nodes answered the read in time; no answer from b"
    assert reading.sink.failures == [Failure(Code.QUORUM, text, 3, ("a", "c"))]


def test_a_read_that_is_answered_does_not_expire() -> None:
    reading = Reading(r=1)
    reading.answer("a", NEW)
    reading.get.expire(reading.out)
    reading.get.retry("b", reading.out)
    assert not reading.sink.failures
    assert reading.asked() == ""


# ── different answers ──


def test_not_found_is_an_answer() -> None:
    reading = Reading(r=2)
    reading.answer("a")
    reading.answer("b")
    assert reading.sink.found_ == [(b"", ["a", "b"])]
    assert reading.repaired() == {}


def test_any_record_beats_not_found_and_the_node_without_one_gets_it() -> None:
    reading = Reading(r=2)
    reading.answer("a", NEW)
    reading.answer("b")
    assert reading.sink.found_ == [(NEW, ["a", "b"])]
    assert reading.repaired() == {"b": NEW}


def test_the_merge_is_answered_and_sent_to_those_that_were_behind() -> None:
    reading = Reading(r=3)
    reading.answer("a", NEW)
    reading.answer("b", OTHER)
    reading.answer("c", BOTH)
    assert reading.sink.found_ == [(BOTH, ["a", "b", "c"])]
    assert reading.repaired() == {"b": BOTH}
    assert reading.replica.read(SLOT)[0] == BOTH  # and to our own disk


def test_equal_answers_are_not_decoded() -> None:
    reading = Reading(r=3)
    nonsense = b"not even a record"
    for node in "abc":
        reading.answer(node, nonsense)
    assert reading.sink.found_ == [(nonsense, ["a", "b", "c"])]


def test_a_late_answer_is_compared_and_its_node_repaired() -> None:
    reading = Reading(r=2)
    reading.answer("a", NEW)
    reading.get.hedge(reading.out)
    reading.answer("c", NEW)
    reading.repaired()
    assert not reading.get.finished
    reading.answer("b", OLD)
    assert reading.repaired() == {"b": NEW}
    assert reading.get.finished
    assert len(reading.sink.found_) == 1


def test_a_late_answer_that_knows_more_repairs_the_others() -> None:
    reading = Reading(r=2)
    reading.answer("a", OLD)
    reading.get.hedge(reading.out)
    reading.answer("c", OLD)
    reading.answer("b", NEW)
    assert reading.repaired() == {"c": NEW}
    assert reading.replica.read(SLOT)[0] == NEW


def test_a_late_refusal_ends_the_wait() -> None:
    reading = Reading(r=2)
    reading.answer("a", NEW)
    reading.get.hedge(reading.out)
    reading.answer("c", NEW)
    reading.answer("b", status=STATUS_STORAGE)
    assert reading.get.finished
    assert reading.repaired() == {}


CONTRADICTION = a_record(b"another one")


def test_copies_that_contradict_each_other_are_no_answer() -> None:
    reading = Reading(r=2)
    reading.answer("a", OLD)
    reading.answer("b", CONTRADICTION)
    assert reading.sink.failures == [Failure(Code.STORAGE, "the copies on a, b contradict each other", 2)]
    assert not reading.sink.found_
    assert reading.out.events[0][0] == "error"
    assert reading.repaired() == {}


def test_a_late_contradiction_is_reported_and_repairs_nothing() -> None:
    reading = Reading(r=2)
    reading.answer("a", OLD)
    reading.get.hedge(reading.out)
    reading.answer("c", OLD)
    reading.answer("b", CONTRADICTION)
    assert "contradict each other" in reading.out.events[0][1]
    assert reading.repaired() == {}
    assert not reading.sink.failures


def test_a_malformed_copy_among_others_is_no_answer() -> None:
    reading = Reading(r=2)
    reading.answer("a", OLD)
    reading.answer("b", b"nonsense")
    assert reading.sink.failures[0].code == Code.STORAGE


def test_an_own_copy_that_cannot_be_repaired_is_reported() -> None:
    reading = Reading(r=2)
    reading.engine.write_batch({SLOT: b"\x00\x03key" + OLD}, {})
    reading.engine.corrupt(SLOT)
    reading.answer("a", OLD)  # it was sound a moment ago
    reading.answer("b", NEW)
    assert reading.sink.found_ == [(NEW, ["a", "b"])]
    assert reading.out.events[0][0] == "warning"
    assert "read repair of my own copy" in reading.out.events[0][1]


# ── fallbacks ──


def test_while_owners_live_and_answer_no_fallback_is_asked() -> None:
    reading = Reading(r=2, linked="bcx", fallbacks="x")
    assert reading.asked() == "b"
    reading.answer("a", NEW)
    reading.answer("b", NEW)
    assert reading.sink.found_ == [(NEW, ["a", "b"])]
    assert reading.sink.fallbacks == []


def test_fallbacks_come_behind_the_live_owners_and_before_the_dead() -> None:
    reading = Reading(r=3, linked="bcxy", dead=1, fallbacks="xy")
    assert reading.asked() == "bx"
    reading = Reading(r=4, owners="abcd", linked="bcdx", dead=2, fallbacks="x")
    assert reading.asked() == "bxc"


def test_owners_without_a_link_are_replaced_as_far_as_fallbacks_have_one() -> None:
    reading = Reading(r=3, linked="y", fallbacks="xyz")
    assert reading.asked() == "y"
    reading.peers.up("z", "z")
    reading.get.retry("z", reading.out)
    assert reading.asked() == "z"
    reading.get.retry("z", reading.out)
    assert reading.asked() == ""
    for node in "ayz":
        reading.answer(node, OLD)
    assert reading.sink.found_ == [(OLD, ["a", "y", "z"])]
    assert reading.sink.fallbacks == ["y", "z"]


def test_what_a_fallback_keeps_is_merged_and_the_owners_are_repaired_but_not_the_fallback() -> None:
    reading = Reading(r=3, linked="bx", fallbacks="x")
    reading.asked()
    reading.answer("a", OLD)
    reading.answer("b", NEW)
    reading.answer("x", OTHER)
    assert reading.sink.found_ == [(BOTH, ["a", "b", "x"])]
    assert reading.repaired() == {"b": BOTH}


def test_nothing_is_an_answer_of_a_fallback_too() -> None:
    reading = Reading(r=2, linked="x", fallbacks="x")
    reading.answer("a", OLD)
    reading.answer("x", b"")
    assert reading.sink.found_ == [(OLD, ["a", "x"])]
    assert reading.repaired() == {}


def test_no_fallback_counts_among_the_primaries_that_were_asked_for() -> None:
    reading = Reading(r=2, pr=2, linked="x", fallbacks="x")
    assert reading.asked() == ""
    reading.peers.up("b", "b")
    reading.get.retry("b", reading.out)
    assert reading.asked() == "b"
    reading = Reading(r=3, pr=2, linked="bxy", fallbacks="xy")
    assert reading.asked() == "bx"
    reading.answer("a", OLD)
    reading.answer("x", OLD)
    assert not reading.sink.found_
    reading.answer("b", OLD)
    assert reading.sink.found_ == [(OLD, ["a", "x", "b"])]


def test_with_too_few_primaries_left_a_read_fails_whatever_fallbacks_have() -> None:
    reading = Reading(r=3, pr=2, linked="bcx", fallbacks="x")
    reading.answer("a", OLD)
    reading.answer("b", status=STATUS_REFUSED)
    assert not reading.sink.failures
    reading.answer("c", status=STATUS_REFUSED)
    assert reading.sink.failures[0].code == Code.QUORUM


def test_a_fallback_that_cannot_answer_is_followed_by_the_next_and_not_asked_again() -> None:
    reading = Reading(r=2, linked="xy", fallbacks="xy")
    assert reading.asked() == "x"
    assert not reading.answer("x", status=STATUS_RING)
    assert reading.asked() == "y"
    reading.get.lost("y", reading.out)
    reading.get.retry("x", reading.out)
    assert reading.asked() == ""
    assert not reading.sink.failures, "an owner may yet be linked"


def test_a_corrupt_copy_is_replaced_by_a_fallback_when_no_owner_is_left() -> None:
    reading = Reading(r=3, linked="bcx", fallbacks="x")
    reading.asked()
    reading.answer("c", status=STATUS_REFUSED)
    assert reading.asked() == "x"
    reading.answer("a", OLD)
    reading.answer("b", OLD)
    assert not reading.sink.failures
    reading.answer("x", status=STATUS_REFUSED)
    assert reading.sink.failures[0].code == Code.QUORUM


def test_an_overloaded_owner_is_no_reason_to_ask_those_who_probably_have_nothing() -> None:
    reading = Reading(r=3, linked="bcx", fallbacks="x")
    reading.asked()
    reading.answer("a", OLD)
    reading.answer("b", status=STATUS_OVERLOADED)
    assert reading.asked() == ""
    assert reading.sink.failures[0].code == Code.OVERLOADED


def test_silent_owners_are_waited_for_a_while_before_fallbacks_are_asked() -> None:
    reading = Reading(r=2, linked="bcxy", fallbacks="xy")
    assert reading.asked() == "b"
    assert reading.get.hedge(reading.out, 0.05)
    assert reading.asked() == "c"
    assert reading.get.hedge(reading.out, 0.1), "look again"
    assert reading.asked() == ""
    assert reading.get.hedge(reading.out, 0.25)
    assert reading.asked() == "x"
    reading.answer("a", OLD)
    reading.answer("x", OLD)
    assert reading.sink.found_ == [(OLD, ["a", "x"])]


def test_no_more_fallbacks_are_asked_than_can_count() -> None:
    reading = Reading(r=2, linked="xyz", fallbacks="xyz")
    assert reading.asked() == "x"
    assert reading.get.hedge(reading.out)
    assert reading.asked() == "y"
    assert not reading.get.hedge(reading.out)


def test_a_node_that_owns_nothing_of_the_key_answers_as_a_fallback() -> None:
    reading = Reading(r=2, owners="bcd", linked="x", dead=3, fallbacks="x")
    assert reading.get.primary_names == ["b", "c", "d"]
    assert reading.asked() == "x"
    reading.answer("a", OLD)
    reading.answer("x", NEW)
    assert reading.sink.found_ == [(NEW, ["a", "x"])]
    assert reading.sink.fallbacks == ["a", "x"]
    assert reading.repaired() == {}
