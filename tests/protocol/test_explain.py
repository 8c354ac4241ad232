"""What the nodes hold of one key: one node asks all others, for a client."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import Record
from dyno.config import Config
from dyno.placement.hashing import slot_copies, slot_partition
from dyno.protocol.background import part_of
from dyno.protocol.explain import EXPLAIN_S, EXPLAINS_MAX, Examiner, Explainer
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.planner import Planner
from dyno.protocol.ring import Ring
from dyno.storage.cell import pack_cell
from dyno.wire.explanations import (
    CORRUPT,
    HEARD,
    HELD,
    HINTS_SHOWN_MAX,
    SILENT,
    UNREACHABLE,
    Explanation,
    Report,
    absent,
    pack_report,
    unpack_explanation,
    unpack_report,
    view_of,
)
from dyno.wire.flat import ProtocolError
from dyno.wire.members import ALIVE, NORMAL, Member
from dyno.wire.messages import STATUS_OK, STATUS_RING, Examine, Examined, Explain, Explained, Failed

NAMES = ("n1", "n2", "n3", "n4", "n5")
RECORD = Record.EMPTY.write(Context.EMPTY, Dot(b"a" * 16, 1), b"r" * 16, b"value").pack()


class Cells:
    """Of a replica: what is on the disk."""

    def __init__(self) -> None:
        self.cells: dict[bytes, bytes | None] = {}

    def rows(self, start: bytes, end: bytes, *, limit: int) -> Any:
        found = [(slot, cell) for slot, cell in sorted(self.cells.items()) if start <= slot < end]
        return found[:limit], None


class Liveness:
    version = 0

    def __init__(self) -> None:
        self.dead: list[str] = []

    def is_live(self, name: str) -> bool:
        return name not in self.dead

    is_alive = is_live


class Driven:
    """The node that is asked, n1 of five unless said otherwise, linked to all."""

    def __init__(self, me: str = "n1", *, joined: bool = True) -> None:
        self.disk, self.liveness, self.peers, self.out = Cells(), Liveness(), Peers(), Outbox()
        self.hints: list[tuple[str, bytes | None]] = []
        self.weak = False
        self.since: float | None = None
        replica: Any = self.disk
        membership: Any = self.liveness
        self.serving: dict[str, Any] = {"settling": None}
        planner = Planner(
            me=me, membership=membership, serving=self.serving, why_not=lambda name: f"{name} is settling"
        )
        members = [
            Member(name, b"d" * 16, name.encode() * 8, b"s" * 8, 1, 0, NORMAL, ALIVE, f"{name}:1", "", 1.0)
            for name in NAMES
        ]
        ring = Ring(members, cluster=b"c" * 16, partitions=16, fingerprint=7)
        if joined:
            planner.ring = ring
        self.slot, self.owners = ring.plan("b", b"k")
        self.fallbacks = ring.fallbacks(self.slot)
        self.peers.place({name: f"{name}:1" for name in NAMES if name != me})
        for name in NAMES:
            self.peers.up(name, f"{name}:1")
        self.explainer = Explainer(
            me=me,
            config=Config(),
            membership=membership,
            peers=self.peers,
            planner=planner,
            examiner=Examiner(
                me=me,
                replica=replica,
                kept=lambda slot: self.hints if slot == self.slot else [],
                weak=lambda slot: self.weak,
                compared_at=lambda slot: self.since,
            ),
        )

    def ask(self, *, bucket: str = "b", key: bytes = b"k", id: int = 5, budget_ms: int = 5000) -> None:
        message = Explain(id, bucket, key, budget_ms, False)
        self.explainer.doors()[Explain](1, message, 0.0, self.out)

    def asked(self) -> dict[str, int]:
        sends, self.out.sends = self.out.sends, []
        for _, message in sends:
            assert isinstance(message, Examine)
            assert (message.ring, message.slot, part_of(message.id)) == (7, self.slot, Explainer.number)
        return {address.partition(":")[0]: message.id for address, message in sends}  # type: ignore[union-attr]

    def hear(self, name: str, id: int, report: Report | None = None) -> None:
        report = Report(name, HEARD, False, 0, (absent(),)) if report is None else report
        self.explainer.answer(name, Examined(id, STATUS_OK, pack_report(report)), 0.0, self.out)

    def told(self) -> Explanation | None:
        replies, self.out.replies = self.out.replies, []
        if not replies:
            return None
        ((link, answer),) = replies
        assert isinstance(answer, Explained)
        assert (link, answer.id) == (1, 5)
        return unpack_explanation(answer.report)

    def refused(self) -> Failed:
        ((link, answer),) = self.out.replies
        assert link == 1
        assert isinstance(answer, Failed)
        assert self.out.sends == []
        assert self.explainer.deadline() == math.inf
        return answer

    def examined(self) -> Report:
        self.explainer.doors()[Examine](9, Examine(3, 7, self.slot), 0.0, self.out)
        ((link, answer),) = self.out.replies
        self.out.replies.clear()
        assert link == 9
        assert isinstance(answer, Examined)
        assert (answer.id, answer.status) == (3, STATUS_OK)
        return unpack_report(answer.report)


def a_driven(*, owner: bool) -> Driven:
    """The node that is asked is an owner of the key, or none."""
    owners = Driven().owners
    return Driven(next(name for name in NAMES if (name in owners) == owner))


# ── asking ──


def test_all_members_are_asked_and_owners_are_told_in_order():
    driven = a_driven(owner=False)
    driven.ask()
    asked = driven.asked()
    me = driven.explainer._me
    assert sorted(asked) == sorted(name for name in NAMES if name != me)
    held = Report(driven.owners[1], HEARD, False, 0, (view_of(RECORD),))
    for name, id in asked.items():
        assert driven.told() is None
        driven.hear(name, id, held if name == held.node else None)
    told = driven.told()
    assert told is not None
    assert (told.partition, told.copies) == (slot_partition(driven.slot), slot_copies(driven.slot))
    assert (told.owners, told.fallbacks) == (driven.owners, driven.fallbacks)
    assert [report.node for report in told.reports] == list(driven.owners), "others have nothing"
    assert told.reports[1] == held
    assert driven.explainer.deadline() == math.inf


def test_what_this_node_holds_is_told_without_asking():
    driven = a_driven(owner=True)
    driven.disk.cells[driven.slot] = pack_cell(b"k", b"", RECORD)
    driven.ask()
    asked = driven.asked()
    me = driven.explainer._me
    assert me not in asked
    for name, id in asked.items():
        driven.hear(name, id)
    told = driven.told()
    assert told is not None
    assert [report.views for report in told.reports if report.node == me] == [(view_of(RECORD),)]


def test_others_are_told_of_if_they_hold_something():
    driven = a_driven(owner=False)
    driven.hints = [(driven.owners[0], RECORD)]
    driven.ask()
    other = next(name for name in driven.fallbacks if name != driven.explainer._me)
    stray = Report(other, HEARD, False, 0, (view_of(RECORD),))
    for name, id in driven.asked().items():
        driven.hear(name, id, stray if name == other else None)
    told = driven.told()
    assert told is not None
    assert [report.node for report in told.reports] == [*driven.owners, *driven.fallbacks]
    mine = next(report for report in told.reports if report.node == driven.explainer._me)
    assert mine.views == (absent(), view_of(RECORD, driven.owners[0]))


def test_who_is_silent_or_cannot_be_asked_is_named():
    driven = a_driven(owner=False)
    silent, gone, cut = driven.owners
    other = next(name for name in driven.fallbacks if name != driven.explainer._me)
    driven.liveness.dead = [gone]
    driven.peers.down(f"{gone}:1")
    driven.ask()
    asked = driven.asked()
    assert gone not in asked
    driven.explainer.link_down(cut, 0.0, driven.out)
    driven.hear(other, asked[other])
    assert driven.explainer.deadline() == EXPLAIN_S
    driven.explainer.tick(EXPLAIN_S / 2, driven.out)
    assert driven.told() is None
    driven.explainer.tick(EXPLAIN_S, driven.out)
    told = driven.told()
    assert told is not None
    assert told.reports == (Report(silent, SILENT), Report(gone, UNREACHABLE), Report(cut, UNREACHABLE))
    driven.hear(silent, asked[silent])  # late
    assert driven.told() is None


def test_a_dead_node_that_is_no_owner_is_left_out():
    driven = a_driven(owner=True)
    dead, living = driven.fallbacks
    driven.liveness.dead = [dead]
    for name in driven.fallbacks:
        driven.peers.down(f"{name}:1")
    driven.ask()
    for name, id in driven.asked().items():
        driven.hear(name, id)
    told = driven.told()
    assert told is not None
    assert told.reports[3:] == (Report(living, UNREACHABLE),), "it lives, and may keep a hint"


def test_questions_do_not_mix():
    driven = a_driven(owner=True)
    driven.ask()
    first = driven.asked()
    driven.ask()
    second = driven.asked()
    assert set(first.values()).isdisjoint(second.values())
    for name, id in second.items():
        driven.hear(name, id)
        driven.hear(name, id)  # doubled
    assert driven.told() is not None
    assert driven.told() is None
    assert len(driven.explainer._under_way) == 1


@pytest.mark.parametrize("report", [Report("n9", HEARD, False, 0, (absent(),)), Report("", SILENT)])
def test_a_node_tells_of_itself_alone(report):
    driven = a_driven(owner=True)
    driven.ask()
    name, id = next(iter(driven.asked().items()))
    with pytest.raises(ProtocolError):
        driven.hear(name, id, report if report.node else Report(name, SILENT))
    assert driven.told() is None


def test_another_answer_is_a_mistake_of_the_peer():
    driven = a_driven(owner=True)
    driven.ask()
    name, id = next(iter(driven.asked().items()))
    with pytest.raises(ProtocolError):
        driven.explainer.answer(name, Explained(id, b""), 0.0, driven.out)


def test_neither_links_nor_rings_concern_a_question():
    driven = a_driven(owner=True)
    driven.ask()
    driven.asked()
    driven.explainer.link_up("n2", 0.0, driven.out)
    driven.explainer.replan(0.0, driven.out)
    assert not driven.out


# ── what is refused ──


def test_before_it_has_joined_it_knows_nothing():
    driven = Driven(joined=False)
    driven.ask()
    assert driven.refused().code == "ring"


def test_a_bucket_that_is_being_created_is_asked_for_later():
    driven = Driven()
    driven.ask(bucket="settling")
    assert (driven.refused().code, driven.refused().message) == ("ring", "settling is settling")


def test_what_can_be_no_key_is_refused():
    driven = Driven()
    driven.ask(key=b"")
    assert driven.refused().code == "invalid"


def test_who_does_not_wait_is_not_answered():
    driven = Driven()
    driven.ask(budget_ms=0)
    assert not driven.out


def test_questions_have_a_bound():
    driven = Driven()
    for _ in range(EXPLAINS_MAX + 1):
        driven.ask()
    ((_, answer),) = driven.out.replies
    assert isinstance(answer, Failed)
    assert answer.code == "overloaded"


# ── looking ──


def test_a_copy_is_shown():
    driven = Driven()
    assert driven.examined() == Report("n1", HEARD, False, 0, (absent(),))
    driven.disk.cells[driven.slot] = pack_cell(b"k", b"n" * 24, RECORD)
    driven.disk.cells[driven.slot + b"\0"] = None
    (view,) = driven.examined().views
    assert (view, view.state) == (view_of(RECORD), HELD)
    driven.disk.cells[driven.slot] = None
    assert [view.state for view in driven.examined().views] == [CORRUPT]


def test_hints_are_shown():
    driven = Driven()
    driven.hints = [("n2", RECORD), ("n3", None)]
    assert driven.examined().views == (absent(), view_of(RECORD, "n2"), view_of(None, "n3"))
    driven.hints = [(f"n{number}", RECORD) for number in range(100)]
    assert len(driven.examined().views) == 1 + HINTS_SHOWN_MAX


def test_what_is_known_of_the_copy_is_told():
    driven = Driven()
    driven.weak, driven.since = True, -2.5
    report = driven.examined()
    assert (report.weak, report.compared_ms) == (True, 2501)
    driven.since = 0.0
    assert driven.examined().compared_ms == 1


def test_it_is_answered_under_another_ring_as_well():
    driven = Driven()
    driven.explainer.doors()[Examine](9, Examine(3, 8, driven.slot), 0.0, driven.out)
    ((_, answer),) = driven.out.replies
    assert isinstance(answer, Examined)
    assert answer.status == STATUS_RING
    assert unpack_report(answer.report).views == (absent(),)


@pytest.mark.parametrize("slot", [b"", b"s" * 26, b"\0\0\0" + b"s" * 24, b"\xff" * 27])
def test_a_slot_that_is_none_costs_the_link(slot):
    driven = Driven()
    with pytest.raises(ValueError, match="slot"):
        driven.explainer.doors()[Examine](9, Examine(3, 7, slot), 0.0, driven.out)


def test_a_node_that_knows_nothing_of_hints_and_comparisons():
    disk: Any = Cells()
    assert Examiner(me="n1", replica=disk).report(b"s" * 27, 0.0) == Report(
        "n1", HEARD, False, 0, (absent(),)
    )
