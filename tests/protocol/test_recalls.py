"""Owners are asked whether they know a write: whoever knows it decides, nobody is waited for for long."""

from __future__ import annotations

import math

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import Record
from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.recalls import Recalls, dot_of
from dyno.wire.messages import STATUS_OK, STATUS_OVERLOADED, STATUS_RING, Recall, Recalled

DOT = Dot(b"a" * 16, 3)
QUESTION = Recall(0, 5, b"s" * 27, b"r" * 16)
RECORD = Record.EMPTY.write(Context.EMPTY, DOT, b"r" * 16, b"value").pack()


class Asking:
    def __init__(self, linked: str = "bc") -> None:
        self.out = Outbox()
        self.peers = Peers()
        self.peers.place({name: name for name in "bc"})
        for name in linked:
            self.peers.up(name, name)
        self.recalls = Recalls(peers=self.peers, patience_s=0.5)
        self.told: list[tuple[Recalled | None, bool, float]] = []

    def begin(self, now: float = 1.0) -> None:
        def then(told: Recalled | None, certain: bool, now: float, out: Outbox) -> None:
            self.told.append((told, certain, now))

        self.recalls.begin(QUESTION, ("b", "c"), then, now, self.out)

    def hear(self, node: str, *, knows: bool = False, status: int = STATUS_OK, id: int = 1) -> None:
        answer = Recalled(id, status, *DOT, RECORD) if knows else Recalled(id, status, b"", 0, b"")
        self.recalls.answer(node, answer, 1.1, self.out)


def test_all_owners_are_asked_and_the_first_that_knows_it_decides() -> None:
    asking = Asking()
    asking.begin()
    assert asking.out.sends == [("b", QUESTION._replace(id=1)), ("c", QUESTION._replace(id=1))]
    assert asking.recalls.under_way == 1
    asking.hear("c", knows=True)
    ((told, _, now),) = asking.told
    assert told is not None
    assert dot_of(told) == DOT
    assert now == 1.1
    asking.hear("b", knows=True)
    asking.hear("c", knows=True)
    assert len(asking.told) == 1
    assert asking.recalls.under_way == 0
    assert asking.recalls.deadline() == math.inf


def test_nobody_knows_it_for_certain_once_all_said_so() -> None:
    asking = Asking()
    asking.begin()
    asking.hear("b")
    asking.hear("b")  # again: it counts once
    asking.hear("x")
    assert asking.told == []
    asking.hear("c")
    assert asking.told == [(None, True, 1.1)]


@pytest.mark.parametrize("status", [STATUS_RING, STATUS_OVERLOADED])
def test_who_cannot_say_may_know_it(status: int) -> None:
    asking = Asking()
    asking.begin()
    asking.hear("b", status=status)
    asking.hear("c")
    assert asking.told == [(None, False, 1.1)]


def test_who_has_no_link_may_know_it() -> None:
    asking = Asking("b")
    asking.begin()
    asking.hear("b")
    assert asking.told == [(None, False, 1.1)]
    nobody = Asking("")
    nobody.begin()
    assert nobody.told == [(None, False, 1.0)]


def test_who_is_silent_is_not_waited_for_for_long() -> None:
    asking = Asking()
    asking.begin(1.0)
    asking.begin(1.2)
    asking.hear("b")
    assert asking.recalls.deadline() == 1.5
    asking.recalls.tick(1.5, asking.out)
    assert asking.told == [(None, False, 1.5)]
    asking.hear("c", knows=True)
    assert len(asking.told) == 1
    assert asking.recalls.deadline() == pytest.approx(1.7)


def test_who_broke_its_link_is_not_waited_for_at_all() -> None:
    asking = Asking()
    asking.begin()
    asking.recalls.link_down("b")
    asking.recalls.link_down("b")
    assert asking.recalls.deadline() == 1.5
    asking.recalls.link_down("c")
    assert asking.recalls.under_way == 1
    assert asking.recalls.deadline() <= 1.1
    asking.recalls.tick(1.1, asking.out)
    assert asking.told == [(None, False, 1.1)]
    assert asking.recalls.under_way == 0


@pytest.mark.parametrize(
    "forged",
    [
        Recalled(1, STATUS_OK, b"short", 3, RECORD),
        Recalled(1, STATUS_OK, DOT.actor, 0, RECORD),
        Recalled(1, STATUS_OK, DOT.actor, 1 << 64, RECORD),
        Recalled(1, STATUS_OK, DOT.actor, 4, RECORD),
        Recalled(1, STATUS_OK, DOT.actor, 3, b"nonsense"),
    ],
)
def test_what_no_node_says_is_an_error_on_its_link(forged: Recalled) -> None:
    asking = Asking()
    asking.begin()
    with pytest.raises(ValueError, match=r"dot|cover|packed"):
        asking.recalls.answer("b", forged, 1.1, asking.out)
    assert asking.told == []
