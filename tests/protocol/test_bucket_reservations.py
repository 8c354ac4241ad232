"""A member's side of creating a bucket."""

from __future__ import annotations

from typing import Any

import pytest

from dyno.buckets import table as table_module
from dyno.buckets.properties import DEFAULTS
from dyno.buckets.table import Entry, pack
from dyno.placement.hashing import Keyspace, bucket_id
from dyno.protocol import bucket_reservations
from dyno.protocol.bucket_register import BUCKETS
from dyno.protocol.outbox import Outbox
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import ASSENTED, BUSY, REFUSED, AskFate
from tests.protocol.bucket_harness import RING, WIDE, Driven, P, Q, directory_of, reserved


class Member(Driven):
    """heard: the verdicts, in order."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.heard: list[tuple[int, str]] = []

    def propose(self, entry: Entry, *, firm: bool = True, ring: int = RING) -> None:
        self.reservations.propose(entry, ring=ring, firm=firm, then=self._then, now=self.now, out=self.out)

    def tick(self, now: float) -> None:
        """Time passes, deadline by deadline."""
        while (deadline := self.reservations.deadline()) is not None and deadline <= now:
            self.now = max(self.now, deadline)
            self.reservations.tick(self.now, self.out)
        self.now = now

    def get(self, name: str = "wide") -> Entry | None:
        return self.register.table.get(name)

    def _then(self, verdict: int, text: str, now: float, out: Outbox) -> None:
        self.heard.append((verdict, text))


# ── proposals ──


def test_a_look_reserves_nothing() -> None:
    at = Member()
    at.propose(reserved(), firm=False)
    assert at.heard == [(ASSENTED, "")]
    assert at.get() is None
    assert not at.out.meta


def test_a_firm_proposal_reserves_the_name() -> None:
    at = Member()
    at.propose(reserved())
    assert at.heard == [(ASSENTED, "")]
    assert at.get() == reserved()
    assert at.out.meta == {BUCKETS: pack([reserved()])}


def test_a_doubled_proposal_is_assented_to_again() -> None:
    at = Member()
    at.propose(reserved())
    at.propose(reserved())
    assert at.heard == [(ASSENTED, "")] * 2


def test_a_name_has_one_reservation() -> None:
    at = Member()
    at.propose(reserved())
    for firm in (False, True):
        at.propose(reserved(by="c", proposal=Q), firm=firm)
    assert at.heard[1:] == [(BUSY, "bucket 'wide' is being created by b; try again in a moment")] * 2
    assert at.get() == reserved()


def test_a_created_name_is_not_reserved_again() -> None:
    at = Member()
    at.register.table.put(Entry("wide", WIDE))
    at.propose(reserved())
    assert at.heard == [(BUSY, "a knows bucket 'wide' as created")]


def test_who_sees_another_ring_assents_to_nothing() -> None:
    at = Member()
    at.propose(reserved(), ring=RING + 1)
    at.propose(reserved(by="x"))  # no member
    at.members.joined = False
    at.propose(reserved())
    assert at.heard == [(BUSY, "a sees another ring")] * 3
    assert at.get() is None


def test_who_lets_somebody_in_assents_to_nothing_new() -> None:
    at = Member()
    at.propose(reserved("before"))
    at.members.letting_in = True
    at.propose(reserved("before"))
    at.propose(reserved())
    assert at.heard == [(ASSENTED, ""), (ASSENTED, ""), (BUSY, "a is letting newcomer in")]


def test_there_are_at_most_buckets_max() -> None:
    at = Member(buckets_max=1)
    at.propose(reserved("one"))
    at.propose(reserved("two"))
    assert at.heard[1] == (REFUSED, "a has as many buckets as buckets_max=1 allows")


def test_a_name_whose_id_is_another_bucket_s_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_module, "bucket_id", lambda name: b"the same")
    at = Member()
    at.propose(reserved("one"))
    at.propose(reserved("two"))
    assert at.heard[1] == (REFUSED, "the name 'two' collides with another bucket's; choose another")
    at.reservations.heard(pack([Entry("three", WIDE), reserved("four")]), 0.0, at.out)
    at.members.joined = False
    at.reservations.heard(pack([reserved("four")]), 0.0, at.out)
    assert list(at.register.table.entries) == ["one"]


# ── data ──


def stored(bucket: str, *, count: int = 1) -> Member:
    at = Member()
    for number in range(count):
        at.write(bucket, b"key %d" % number)
    at.commit()
    return at


@pytest.mark.parametrize("firm", [False, True])
def test_a_bucket_that_holds_data_is_refused_and_not_reserved(firm: bool) -> None:
    at = stored("wide")
    at.propose(reserved(), firm=firm)
    assert at.heard == []
    assert (at.get() is not None) == firm  # it takes no data while it is looked for
    at.tick(0.0)
    text = "bucket 'wide' holds data, so it keeps the defaults: n=3, r=quorum, w=quorum, kind=siblings"
    assert at.heard == [(REFUSED, text)]
    assert at.get() is None
    assert at.reservations.deadline() is None or firm


def test_data_on_its_way_to_the_disk_counts() -> None:
    at = Member()
    at.write("wide")
    at.propose(reserved())
    assert at.heard[0][0] == REFUSED
    at.replica.take_batch()
    at.propose(reserved())
    assert at.heard[1][0] == REFUSED
    assert at.get() is None


def test_data_of_other_buckets_does_not() -> None:
    at = stored("other", count=50)
    at.propose(reserved())
    at.tick(0.0)
    assert at.heard == [(ASSENTED, "")]
    assert at.get() == reserved()


def test_a_damaged_record_is_data() -> None:
    at = stored("wide")
    slot = Keyspace(at.members.cluster, at.members.partitions).slot(bucket_id("wide"), b"key 0", 3)
    at.engine.corrupt(slot)
    at.propose(reserved())
    at.tick(0.0)
    assert at.heard[0][0] == REFUSED


def test_it_is_looked_for_a_few_partitions_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_reservations, "PARTITIONS_PER_STEP", 100)
    at = stored("other")
    at.propose(reserved())
    at.propose(reserved())  # doubled: the answer goes to the last who asked
    for _ in range(2):  # of 256
        at.reservations.tick(0.5, at.out)
        assert at.heard == []
        assert at.reservations.deadline() == 0.5
    at.reservations.tick(0.5, at.out)
    assert at.heard == [(ASSENTED, "")]


def test_the_defaults_may_be_created_whatever_is_stored() -> None:
    at = stored("wide")
    at.propose(reserved()._replace(properties=DEFAULTS))
    assert at.heard == [(ASSENTED, "")]
    assert at.register.table.serving == {}


def test_surveys_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket_reservations, "SURVEYS_MAX", 1)
    at = stored("other")
    at.propose(reserved("one", proposal=P))
    at.propose(reserved("two", proposal=Q))
    assert at.heard == [(BUSY, "a is looking into other buckets")]


def test_a_withdrawn_survey_is_not_finished() -> None:
    at = stored("wide")
    at.propose(reserved())
    at.reservations.withdrawn("wide", P, at.out)
    at.tick(0.0)
    assert at.heard == []


# ── what became of it ──


def test_a_withdrawn_name_is_free_again() -> None:
    at = Member()
    at.propose(reserved())
    at.reservations.withdrawn("wide", Q, at.out)  # another's
    at.reservations.withdrawn("wide", b"", at.out)
    at.reservations.withdrawn("other", P, at.out)
    assert at.get() == reserved()
    at.reservations.withdrawn("wide", P, at.out)
    assert at.get() is None
    assert at.out.meta == {BUCKETS: b""}
    at.propose(reserved(by="c", proposal=Q))
    assert at.heard[-1] == (ASSENTED, "")


def test_nobody_withdraws_what_is_created() -> None:
    at = Member()
    at.register.table.put(Entry("wide", WIDE))
    for proposal in (P, b""):
        at.reservations.withdrawn("wide", proposal, at.out)
    assert at.get() == Entry("wide", WIDE)


def test_what_is_created_elsewhere_is_created_here() -> None:
    at = stored("other")
    at.propose(reserved())
    told = [Entry("more", WIDE), Entry("wide", WIDE)]
    assert at.reservations.heard(pack(told), 0.0, at.out) == told
    assert at.register.table.created() == told
    assert at.out.meta == {BUCKETS: pack(told)}
    at.tick(0.0)
    assert at.heard == []  # what is known needs no survey
    at.out.meta.clear()
    at.reservations.heard(pack(told), 0.0, at.out)
    assert not at.out.meta


def test_two_that_were_created_differently_are_an_error_to_be_told() -> None:
    at = Member()
    at.register.table.put(Entry("wide", WIDE))
    at.reservations.heard(pack([Entry("wide", WIDE._replace(n=4))]), 0.0, at.out)
    assert at.get() == Entry("wide", WIDE)
    ((level, text),) = at.out.events
    assert level == "error"
    assert text.startswith("bucket 'wide' was created with n=5, r=quorum")


def test_a_member_takes_no_reservation_from_a_table() -> None:
    at = Member()
    at.reservations.heard(pack([reserved()]), 0.0, at.out)
    assert at.get() is None


def test_a_joiner_takes_what_it_is_shown() -> None:
    at = Member()
    at.members.joined = False
    at.reservations.heard(pack([Entry("more", WIDE), reserved()]), 0.0, at.out)
    assert at.get() == reserved()
    at.reservations.heard(pack([reserved(by="c", proposal=Q)]), 0.0, at.out)
    assert at.get() == reserved()
    doubtful = reserved(by="c", proposal=Q)._replace(doubtful=True)
    at.reservations.heard(pack([doubtful]), 0.0, at.out)
    assert at.get() == reserved()._replace(doubtful=True)
    at.reservations.heard(pack([Entry("wide", WIDE)]), 0.0, at.out)
    at.reservations.heard(pack([doubtful]), 0.0, at.out)
    assert at.get() == Entry("wide", WIDE)


def test_a_joiner_without_a_cluster_listens_to_nobody() -> None:
    at = Member()
    at.members.cluster = b""
    assert at.reservations.heard(pack([Entry("wide", WIDE)]), 0.0, at.out) == []
    assert at.get() is None


def test_a_malformed_table_is_reported() -> None:
    at = Member()
    assert at.reservations.heard(b"nonsense", 0.0, at.out) == []
    ((level, text),) = at.out.events
    assert (level, text.partition(": ")[0]) == ("warning", "a malformed table of buckets")


def test_who_is_in_doubt_asks_everybody_every_second() -> None:
    at = Member()
    at.propose(reserved())
    question = AskFate("wide", P, directory_of("b"))
    assert at.reservations.deadline() == 1.0
    for second in (1.0, 2.0):
        at.tick(second)
        assert at.sent() == [("b", question), ("c", question)]
    at.reservations.link_up("b", at.out)
    assert at.sent() == [("b", question)]
    at.reservations.withdrawn("wide", P, at.out)
    at.tick(3.0)
    assert at.sent() == []
    assert at.reservations.deadline() is None


def test_nobody_asks_for_what_it_proposed_itself() -> None:
    at = Member()
    at.propose(reserved(by="a"))
    at.reservations.link_up("b", at.out)
    assert at.reservations.deadline() is None
    assert at.sent() == []


def test_a_node_that_starts_in_doubt_asks() -> None:
    engine = MemoryEngine()
    engine.write_batch({}, {BUCKETS: pack([reserved()])})
    at = Member(engine=engine)
    at.reservations.start(5.0)
    assert at.reservations.deadline() == 6.0


# ── coordinators that are gone ──


def test_an_abandoned_reservation_gives_way_and_leaves_a_doubt() -> None:
    at = Member()
    at.propose(reserved(by="b"))
    at.members.turn("axc")  # b's directory is another one now
    at.propose(reserved(by="c", proposal=Q), firm=False)
    assert at.get() == reserved(by="b")
    at.propose(reserved(by="c", proposal=Q))
    assert at.heard == [(ASSENTED, "")] * 3
    assert at.get() == reserved(by="c", proposal=Q)._replace(doubtful=True)
    at.reservations.withdrawn("wide", Q, at.out)
    assert at.get() == Entry("wide", WIDE, doubtful=True)
    assert at.register.table.serving == {"wide": None}
    at.propose(reserved(by="x", proposal=P, n=4))
    assert at.heard[-1] == (ASSENTED, "")
    assert at.get() == reserved(by="x", proposal=P, n=4)._replace(doubtful=True)
    at.reservations.heard(pack([Entry("wide", WIDE._replace(n=4))]), 0.0, at.out)
    assert at.register.table.created() == [Entry("wide", WIDE._replace(n=4))]


def test_an_abandoned_reservation_of_the_defaults_leaves_none() -> None:
    at = Member()
    at.propose(reserved(by="b")._replace(properties=DEFAULTS))
    at.members.turn("axc")
    at.propose(reserved(by="c", proposal=Q))
    at.reservations.withdrawn("wide", Q, at.out)
    assert at.get() is None
