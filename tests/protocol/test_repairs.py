"""Runs of repairs on one node: who is asked, what is urgent, what is told, and how all of it ends."""

from __future__ import annotations

import math

import pytest

from dyno.errors import Code
from dyno.protocol.background import part_of
from dyno.protocol.repairs import QUESTIONS_MAX, ROUND_S, RUN_KEPT_S, RUNS_MAX
from dyno.wire import repairs as wire
from dyno.wire.flat import ProtocolError
from dyno.wire.messages import (
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_RING,
    AskRepair,
    CompareRoots,
    Examined,
    Failed,
    Repair,
    Repaired,
    RepairTold,
    RootsCompared,
)
from dyno.wire.repairs import (
    BUSY,
    CLOSED,
    COUNTING,
    CUT_OFF,
    HEARD,
    MERGING,
    OTHER_RING,
    READY,
    RECOVERING,
    RUNS,
    SILENT,
    UNREACHABLE,
    Mends,
    Peer,
    Report,
    pack_reports,
    unpack_report,
    unpack_reports,
)
from tests.protocol.member_harness import Member
from tests.protocol.node_harness import Driven

RUN = b"r" * 16


class Repairer(Member):
    """n1, whose own exchanges are far away."""

    def __init__(self, others: int = 2) -> None:
        super().__init__(others)
        self.now = 10.0
        self.settle()

    def settle(self) -> None:
        """What it compares by itself is compared."""
        for _ in range(6):
            self.tick()
            self.equal()
            self.now += 0.3
        self.node._exchanges._next_at = math.inf
        self.out.sends.clear()
        self.out.replies.clear()

    @property
    def repairs(self):  # type: ignore[no-untyped-def]
        return next(part for part in self.node._background if part.number == 9)

    def equal(self, *names: str) -> list[str]:
        """All (or these) say that nothing differs; gives who was asked."""
        asked = []
        sends, self.out.sends = self.out.sends, []
        for address, message in sends:
            if isinstance(message, CompareRoots) and (not names or address[:2] in names):
                asked.append(address[:2])
                self.answers(address[:2], RootsCompared(message.id, STATUS_OK, True, b"", b""))
            else:
                self.out.sends.append((address, message))
        return asked

    def told(self) -> list[Report]:
        ((_, message),) = [reply for reply in self.out.replies if isinstance(reply[1], RepairTold)]
        self.out.replies.clear()
        return unpack_reports(message.reports)

    def begin(self, run: bytes = RUN, bucket: str = "", *, merge: bool = False, id: int = 5) -> list[Repair]:
        """What it asks the others."""
        self.node.receive(1, AskRepair(id, run, bucket, merge), self.now, self.out)
        asks = [message for _, message in self.out.sends if isinstance(message, Repair)]
        self.out.sends = [send for send in self.out.sends if not isinstance(send[1], Repair)]
        return asks

    def report(self, run: bytes = RUN, copies: int = 0, *, merge: bool = False, **fields: object) -> Report:
        """What it tells another node."""
        message = Repair(7, self.ring.fingerprint, run, copies, merge)._replace(**fields)  # type: ignore[arg-type]
        self.node.receive(2, message, self.now, self.out)
        ((_, answer),) = self.out.replies
        self.out.replies.clear()
        assert isinstance(answer, Repaired)
        assert (answer.id, answer.status) == (7, STATUS_OK)
        return unpack_report(answer.report)


def test_all_others_are_asked_and_their_reports_go_together() -> None:
    one = Repairer()
    asks = one.begin(merge=True)
    assert [(ask.run, ask.copies, ask.merge) for ask in asks] == [(RUN, 0, True)] * 2
    assert {part_of(ask.id) for ask in asks} == {9}
    id = asks[0].id
    for name in ("n3", "n2", "n2"):
        one.answers(name, Repaired(id, STATUS_OK, pack_reports([Report(name, HEARD, COUNTING)])))
    mine, *others = one.told()
    assert (mine.node, mine.reach, mine.state) == ("n1", HEARD, MERGING)
    assert others == [Report("n2", HEARD, COUNTING), Report("n3", HEARD, COUNTING)]
    one.answers("n2", Repaired(id, STATUS_OK, pack_reports([Report("n2", HEARD)])))
    assert one.out.replies == []


def test_those_that_do_not_answer_are_named_with_the_reason() -> None:
    one = Repairer(others=5)
    one.node.link_down("n2:1", one.now, one.out)
    id = one.begin()[0].id
    one.answers("n3", Repaired(id, STATUS_RING, b""))
    one.answers("n4", Repaired(id, STATUS_OVERLOADED, b""))
    one.node.link_down("n6:1", one.now, one.out)
    assert one.repairs.deadline() == one.now + ROUND_S
    one.repairs.tick(one.now + ROUND_S, one.out)
    reach = {report.node: report.reach for report in one.told()}
    assert reach == {
        "n1": HEARD, "n2": UNREACHABLE, "n3": OTHER_RING, "n4": BUSY, "n5": SILENT, "n6": UNREACHABLE
    }  # fmt: skip


def test_the_first_of_two_compares_at_once_and_until_it_is_done() -> None:
    one = Repairer()
    before = one.now
    report = one.report()
    assert {(peer.name, peer.state) for peer in report.peers} == {("n2", RUNS), ("n3", RUNS)}
    assert all(peer.ago_ms > 1 for peer in report.peers), "what was before does not count"
    one.now += 0.1
    assert sorted(one.equal("n2")) == ["n2"]
    assert [peer.name for peer in one.report().peers] == ["n3"]
    one.equal("n3")
    report = one.report()
    assert (report.state, report.peers) == (READY, ())
    one.now += 5
    assert one.report().peers == ()
    assert one.equal() == []
    assert before + 5 < one.now


def test_the_second_of_two_leaves_it_to_the_first() -> None:
    one = Repairer()
    one.repairs._me = "n9"
    report = one.report()
    assert {peer.state for peer in report.peers} == {wire.WAITS}
    assert one.equal() == []


def test_whoever_cannot_be_asked_is_cut_off() -> None:
    one = Repairer()
    one.node.link_down("n2:1", one.now, one.out)
    assert ("n2", CUT_OFF) in [(peer.name, peer.state) for peer in one.report().peers]


def test_what_nobody_asks_about_any_more_is_not_urgent() -> None:
    one = Repairer()
    one.report()
    assert one.repairs.deadline() == one.now + RUN_KEPT_S
    one.now += RUN_KEPT_S
    one.repairs.tick(one.now, one.out)
    assert one.repairs.deadline() == math.inf
    assert not one.node._exchanges._urgency
    one.report()
    assert one.node._exchanges._urgency, "asked again it begins anew"


def test_several_runs_share_what_is_compared() -> None:
    one = Repairer()
    one.report(b"a" * 16)
    one.now += 0.05
    one.report(b"b" * 16)
    one.equal()
    assert one.report(b"a" * 16).peers == ()
    assert len(one.report(b"b" * 16).peers) == 2, "the exchange had begun before"
    one.now += 0.3
    one.tick()
    one.equal()
    assert one.report(b"b" * 16).peers == ()


def test_runs_have_a_bound() -> None:
    one = Repairer()
    for number in range(RUNS_MAX):
        one.report(b"%016d" % number)
    one.node.receive(2, Repair(7, one.ring.fingerprint, RUN, 0, False), one.now, one.out)
    assert one.out.replies == [(2, Repaired(7, STATUS_OVERLOADED, b""))]
    one.out.replies.clear()
    one.begin()
    one.repairs.tick(one.now + ROUND_S, one.out)
    assert one.told()[0] == Report("n1", BUSY)


def test_questions_have_a_bound() -> None:
    one = Repairer()
    for number in range(QUESTIONS_MAX + 1):
        one.begin(id=number)
    ((_, refused),) = one.out.replies
    assert isinstance(refused, Failed)
    assert (refused.id, refused.code) == (QUESTIONS_MAX, Code.OVERLOADED)


def test_without_a_run_nothing_begins_and_all_is_told() -> None:
    one = Repairer()
    one.node._replica.mended.sent = 7
    report = one.report(b"")
    assert report.mends.sent == 7
    assert {peer.name for peer in report.peers} == {"n2", "n3"}
    assert all(peer.state == wire.DONE and peer.ago_ms for peer in report.peers)
    assert one.equal() == []
    assert one.report().mends == Mends(), "a run counts from its beginning"


def test_keys_are_counted_once_for_both() -> None:
    one = Repairer()
    key, slot = one.key()
    one.store(key, slot)
    one.report()
    one.equal()
    assert one.report().mends.compared == 2
    assert one.report().mends.compared == 2


def test_a_bucket_is_its_number_of_copies() -> None:
    one = Repairer()
    assert one.begin(bucket="bucket")[0].copies == 3
    one.report(RUN, 3)
    one.equal()
    assert one.report(RUN, 3).peers == ()
    assert len(one.report(b"s" * 16, 5).peers) == 2, "nothing is kept in five copies here"


def test_a_name_that_no_bucket_has_is_refused() -> None:
    one = Repairer()
    assert one.begin(bucket="b" * 65) == []
    ((_, refused),) = one.out.replies
    assert isinstance(refused, Failed)
    assert refused.code == Code.INVALID


def test_a_bucket_that_is_being_created_is_asked_for_again() -> None:
    one = Repairer()
    one.node._planner.serving["bucket"] = None  # type: ignore[index]
    one.node._planner.why_not = lambda name: f"{name} is being created"  # type: ignore[method-assign]
    one.begin(bucket="bucket")
    ((_, refused),) = one.out.replies
    assert isinstance(refused, Failed)
    assert refused.code == Code.RING


def test_a_node_that_has_not_joined_repairs_nothing() -> None:
    driven = Driven("seed:1")
    (refused,) = driven.ask(AskRepair(5, RUN, "", False))
    assert isinstance(refused, Failed)
    assert refused.code == Code.RING
    assert driven.ask(AskRepair(6, b"", "", False)) == [RepairTold(6, b"")]


def test_a_node_that_plans_with_another_ring_says_so() -> None:
    one = Repairer()
    one.node.receive(2, Repair(7, one.ring.fingerprint + 1, RUN, 0, False), one.now, one.out)
    assert one.out.replies == [(2, Repaired(7, STATUS_RING, b""))]


def test_merging_comes_first() -> None:
    one = Repairer()
    report = one.report(merge=True)
    assert report.state == MERGING
    assert len(report.peers) == 2
    assert one.equal() == []
    one.wait(0.1)
    assert one.report(merge=True).state == READY
    one.equal()
    assert one.report(merge=True).peers == ()


def test_what_keeps_a_node_from_comparing_is_told() -> None:
    one = Repairer()
    one.node._replica.trees.edge = b""
    assert one.report().state == COUNTING
    one.node._recovery.lose()
    assert one.report().state == RECOVERING
    one.node._replica.closed[b"\0\0\3"] = None
    assert one.report().state == CLOSED


def test_another_ring_goes_on_with_what_is_shared_now() -> None:
    one = Repairer()
    one.report()
    one.repairs.replan(one.now, one.out)
    one.repairs.link_up("n2", one.now, one.out)
    assert one.node._exchanges._urgency


def test_more_than_an_answer_can_hold_is_as_if_it_had_not_been_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyno.protocol.repairs.PEERS_MAX", 3)
    one = Repairer()
    id = one.begin()[0].id
    for name in ("n2", "n3"):
        peers = (Peer("n1", 0, 0), Peer("n4", 0, 0))
        one.answers(name, Repaired(id, STATUS_OK, pack_reports([Report(name, HEARD, peers=peers)])))
    assert [report.reach for report in one.told()] == [HEARD, SILENT, SILENT]


@pytest.mark.parametrize("report", [Report("n3", HEARD), Report("n2", SILENT)])
def test_a_node_tells_of_itself_alone(report: Report) -> None:
    one = Repairer()
    id = one.begin()[0].id
    with pytest.raises(ProtocolError):
        one.answers("n2", Repaired(id, STATUS_OK, pack_reports([report])))


def test_what_no_node_and_no_client_sends() -> None:
    one = Repairer()
    with pytest.raises(ValueError, match="run"):
        one.begin(b"short")
    for fields in ({"run": b"short"}, {"copies": 10}):
        with pytest.raises(ValueError, match=r"run|copies"):
            one.report(**fields)  # type: ignore[arg-type]
    with pytest.raises(ProtocolError):
        one.answers("n2", Examined(9 << 56, STATUS_OK, b""))
