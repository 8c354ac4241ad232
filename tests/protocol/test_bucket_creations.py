"""A coordinator's side of creating a bucket: node a asks b and c."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dyno.buckets.properties import DEFAULTS
from dyno.buckets.table import Entry, pack, unpack
from dyno.protocol import bucket_creations
from dyno.protocol.bucket_creations import Creations
from dyno.protocol.bucket_register import BUCKETS
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import (
    ASSENTED,
    BUSY,
    QUORUM,
    REFUSED,
    Buckets,
    CreateBucket,
    Failed,
    Propose,
    Proposed,
    SwapBuckets,
    Withdrawn,
)
from tests.protocol.bucket_harness import LINK, RING, WIDE, Driven, P, directory_of, reserved


class Coordinator(Driven):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.creations = Creations(
            register=self.register, reservations=self.reservations, config=self.config, random=Random(1)
        )

    def create(self, name: str = "wide", *, id: int = 1, n: int = 5, budget_ms: int = 5000) -> None:
        request = CreateBucket(id, name, n, QUORUM, QUORUM, 0, budget_ms)
        self.creations.create(LINK, request, self.now, self.out)

    def proposals(self) -> dict[str, Propose]:
        """By whom they went to."""
        return {name: message for name, message in self.sent() if isinstance(message, Propose)}

    def answer(self, name: str, proposal: Propose, verdict: int = ASSENTED, text: str = "") -> None:
        self.creations.proposed(name, Proposed(proposal.id, verdict, text), self.now, self.out)

    def all_assent(self) -> None:
        for name, proposal in self.proposals().items():
            self.answer(name, proposal)

    def told(self, name: str, *entries: Entry) -> None:
        self.creations.told(name, list(entries), self.out)

    def tick(self, now: float) -> None:
        self.now = now
        self.creations.tick(now, self.out)

    def failure(self) -> Failed:
        (answer,) = self.said()
        assert isinstance(answer, Failed)
        return answer

    def decide(self) -> None:
        self.create()
        self.all_assent()
        self.all_assent()


CREATED = Entry("wide", WIDE)


# ── the way to "created" ──


def test_all_are_asked_twice_then_told_and_then_the_client_is_answered() -> None:
    at = Coordinator()
    at.create()
    looks = at.proposals()
    assert list(looks) == ["b", "c"]
    (proposed,) = unpack(looks["b"].bucket)
    assert proposed == reserved(by="a", proposal=proposed.proposal)
    assert (looks["b"].ring, looks["b"].firm) == (RING, False)
    assert len(at.register.table) == 0
    for name in looks:
        at.answer(name, looks[name])
    firm = at.proposals()
    assert list(firm) == ["b", "c"]
    assert firm["c"].firm
    assert firm["c"].bucket == looks["c"].bucket
    assert firm["c"].id != looks["c"].id
    assert at.register.table.entries == {"wide": proposed}
    at.answer("b", firm["b"])
    assert not at.register.table.created()
    at.answer("c", firm["c"])
    assert at.register.table.created() == [CREATED]
    assert at.sent() == []  # it is not on the disk yet
    at.commit()
    assert at.engine.get_meta(BUCKETS) == pack([CREATED])
    shown = SwapBuckets(pack([CREATED]), True)
    assert at.sent() == [("b", shown), ("c", shown)]
    at.told("b", CREATED)
    assert at.said() == []
    assert at.creations.busy
    at.told("c", CREATED, Entry("other", WIDE))
    assert at.said() == [Buckets(1, pack([CREATED]))]
    assert not at.creations.busy
    assert at.creations.deadline() is None


def test_alone_it_is_created_as_soon_as_it_is_on_the_disk() -> None:
    at = Coordinator("a")
    at.create()
    assert at.said() == []
    at.commit()
    assert at.said() == [Buckets(1, pack([CREATED]))]


def test_doubled_answers_count_once_and_strangers_not_at_all() -> None:
    at = Coordinator()
    at.create()
    look = at.proposals()["b"]
    for name in ("b", "b", "x"):
        at.answer(name, look)
    assert at.proposals() == {}
    at.answer("c", look)
    firm = at.proposals()
    at.answer("b", look)
    at.answer("c", look)  # late answers of the round before
    at.answer("b", firm["b"])
    assert not at.register.table.created()


def test_a_member_that_tells_of_other_buckets_has_not_heard_yet() -> None:
    at = Coordinator()
    at.decide()
    at.told("b", Entry("other", WIDE))
    at.told("b", reserved(by="a"))
    at.told("b", CREATED)
    at.told("b", CREATED)
    assert at.said() == []


def test_a_member_whose_link_comes_back_is_asked_again() -> None:
    at = Coordinator()
    at.peers.down("b")
    at.create()
    assert list(at.proposals()) == ["c"]
    at.peers.up("b", "b")
    at.creations.link_up("b", at.out)
    look = at.proposals()["b"]
    at.answer("b", look)
    at.creations.link_up("b", at.out)
    assert at.proposals() == {}  # it has answered
    at.answer("c", look)
    at.all_assent()
    at.creations.link_up("b", at.out)
    assert at.proposals() == {}  # it is shown the table


def test_created_already_with_the_same_properties_is_created() -> None:
    at = Coordinator()
    at.register.table.put(CREATED)
    at.create()
    assert at.said() == [Buckets(1, pack([CREATED]))]
    at.create(n=4)
    failure = at.failure()
    assert failure.code == "invalid"
    assert failure.message == (
        "bucket 'wide' was created with n=5, r=quorum, w=quorum, kind=siblings; that cannot be changed"
    )


def test_nothing_is_said_that_a_crash_could_take_back() -> None:
    at = Coordinator()
    at.decide()
    at.create(id=2)
    assert at.failure().code == "ring"  # under way
    at.tick(2.0)
    at.said()
    at.create(id=3)
    at.create(id=4, n=4)
    assert at.said() == []
    at.commit()
    first, second = at.said()
    assert (first, second.id, second.code) == (Buckets(3, pack([CREATED])), 4, "invalid")


def test_a_request_whose_time_is_over_is_dropped() -> None:
    at = Coordinator()
    at.create(budget_ms=0)
    assert (at.sent(), at.said()) == ([], [])


# ── what cannot be begun ──


def test_what_can_be_no_bucket_is_refused() -> None:
    at = Coordinator()
    at.create(n=10)
    assert at.failure().code == "invalid"
    at.create("")
    assert at.failure().message == "a bucket's name has 1 to 64 bytes, not 0"


def test_a_dead_member_is_not_asked_for() -> None:
    at = Coordinator()
    at.members.dead.append("c")
    at.create()
    failure = at.failure()
    assert (failure.code, failure.needed, failure.indeterminate) == ("quorum", 3, False)
    assert failure.message == "creating a bucket needs every member; dead: c"


def test_it_waits_for_whoever_joins() -> None:
    at = Coordinator()
    at.members.letting_in = True
    at.create()
    assert at.failure().message == "creating waits until newcomer has joined the cluster"
    at.members.joined = False
    at.create()
    assert at.failure().message == "a has not joined a cluster yet"


def test_a_node_that_stops_begins_nothing_more() -> None:
    at = Coordinator()
    at.create()
    at.creations.stop()
    at.create("other", id=2)
    assert at.failure().message == "a is stopping"
    assert at.creations.busy


def test_a_name_that_is_being_created_is_not_created_twice() -> None:
    at = Coordinator()
    at.create()
    at.create(id=2)
    assert (at.failure().code, at.creations.busy) == ("ring", True)
    at.register.table.put(reserved("other", by="b"))
    at.create("other", id=3)
    assert at.failure().code == "ring"
    at.register.table.put(reserved("gone", by="x"))
    at.create("gone", id=4)
    assert at.said() == []


def test_creations_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_creations, "CREATIONS_MAX", 1)
    at = Coordinator()
    at.create("one")
    at.create("two", id=2)
    failure = at.failure()
    assert (failure.code, failure.retry_after_ms) == ("overloaded", 100)


# ── what comes to nothing ──


@pytest.mark.parametrize(("verdict", "code"), [(BUSY, "ring"), (REFUSED, "invalid"), (99, "invalid")])
def test_a_refused_look_ends_it_and_nobody_needs_to_hear(verdict: int, code: str) -> None:
    at = Coordinator()
    at.create()
    at.answer("b", at.proposals()["b"], verdict, "no")
    failure = at.failure()
    assert (failure.code, failure.message) == (code, "no")
    assert at.sent() == []
    assert not at.creations.busy


@pytest.mark.parametrize(("verdict", "code"), [(BUSY, "ring"), (REFUSED, "invalid")])
def test_a_refused_reservation_is_withdrawn_everywhere(verdict: int, code: str) -> None:
    at = Coordinator()
    at.create()
    at.all_assent()
    firm = at.proposals()
    at.answer("b", firm["b"])
    at.answer("c", firm["c"], verdict, "no")
    (entry,) = unpack(firm["b"].bucket)
    withdrawn = Withdrawn("wide", entry.proposal)
    assert at.sent() == [("b", withdrawn), ("c", withdrawn)]
    assert at.failure().code == code
    assert len(at.register.table) == 0
    at.answer("c", firm["c"])
    assert len(at.register.table) == 0


def test_silence_ends_it_for_certain() -> None:
    at = Coordinator(put_timeout_s=3.0)
    at.create()
    assert at.creations.deadline() == 3.0
    at.all_assent()
    firm = at.proposals()
    at.answer("b", firm["b"])
    at.tick(2.9)
    assert at.said() == []
    at.tick(3.0)
    failure = at.failure()
    assert (failure.code, failure.message) == ("quorum", "no answer from c in time")
    assert (failure.needed, failure.nodes, failure.indeterminate) == (3, "a,b", False)
    assert [type(message) for _, message in at.sent()] == [Withdrawn, Withdrawn]
    at.answer("c", firm["c"])
    assert len(at.register.table) == 0


@pytest.mark.parametrize("phase", [1, 2])
@pytest.mark.parametrize("change", ["joins", "admits", "wiped"])
def test_nothing_is_decided_when_the_members_change(phase: int, change: str) -> None:
    at = Coordinator()
    at.create()
    if phase == 2:
        at.all_assent()
    if change == "joins":
        at.members.turn("abcd")
    elif change == "admits":
        at.members.letting_in = True
    else:
        at.members._ring[1] = at.members._ring[1]._replace(directory=directory_of("x"))
    at.all_assent()
    assert at.failure().message == "the members changed meanwhile"
    assert len(at.register.table) == 0


def test_own_data_ends_it() -> None:
    at = Coordinator()
    at.write("wide")
    at.create()
    assert at.failure().message.startswith("bucket 'wide' holds data")
    at.create("wide", n=DEFAULTS.n)
    assert at.said() == []


@pytest.mark.parametrize(("n", "answer"), [(5, Buckets), (4, Failed)])
def test_somebody_elses_bucket_of_that_name_ends_it(n: int, answer: type) -> None:
    at = Coordinator()
    at.create(n=n)
    at.all_assent()
    at.sent()
    at.reservations.heard(pack([CREATED]), 0.0, at.out)
    at.creations.created_elsewhere("wide", at.out)
    assert [type(message) for _, message in at.sent()] == [Withdrawn, Withdrawn]
    assert not at.creations.busy
    at.commit()
    assert [type(one) for one in at.said()] == [answer]
    at.creations.created_elsewhere("other", at.out)
    assert at.said() == []


def test_its_own_bucket_is_nobody_elses() -> None:
    at = Coordinator()
    at.decide()
    at.creations.created_elsewhere("wide", at.out)
    assert at.creations.busy


def test_whether_a_proposal_may_still_be_decided() -> None:
    at = Coordinator()
    at.create()
    (entry,) = unpack(at.proposals()["b"].bucket)
    assert at.creations.is_pending("wide", entry.proposal)
    assert not at.creations.is_pending("wide", P)
    assert not at.creations.is_pending("other", entry.proposal)


# ── decided, and not everybody has heard ──


def test_most_have_heard_when_time_is_up() -> None:
    at = Coordinator(get_timeout_s=2.0)
    at.decide()
    at.commit()
    at.told("b", CREATED)
    assert at.creations.deadline() == 2.0
    at.tick(2.0)
    assert at.said() == [Buckets(1, pack([CREATED]))]


def test_too_few_have_heard_when_time_is_up() -> None:
    at = Coordinator(get_timeout_s=2.0)
    at.decide()
    at.commit()
    at.tick(2.0)
    failure = at.failure()
    assert (failure.code, failure.indeterminate, failure.nodes) == ("quorum", True, "a")
    assert failure.message == "bucket 'wide' is being created; no word yet from b, c"
    assert at.register.table.created() == [CREATED]
    assert not at.creations.busy


def test_a_node_that_died_undecided_begins_anew() -> None:
    at = Coordinator()
    at.create()
    at.all_assent()
    at.commit()
    engine = at.engine
    assert unpack(engine.get_meta(BUCKETS) or b"")
    again = Coordinator(engine=engine)
    again.create(n=4)
    assert list(again.proposals()) == ["b", "c"]
    assert isinstance(engine, MemoryEngine)


def test_what_this_node_finds_out_about_itself_too_late_counts_no_more() -> None:
    at = Coordinator()
    at.write("other")
    at.commit()
    at.create()
    at.answer("b", at.proposals()["b"], BUSY, "no")
    assert at.failure().message == "no"
    while at.reservations.deadline() is not None:
        at.reservations.tick(0.0, at.out)
    assert (at.sent(), at.said()) == ([], [])
