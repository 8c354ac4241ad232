"""Which reads are late, by each replica's own measure, and how many are asked of one more owner for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import pytest

from dyno.causality.mint import Minter
from dyno.config import Config
from dyno.hedging.budget import EARNED_PER_FIRST, FLOOR_PER_S, TOKENS_AT_START
from dyno.protocol.get import GetCoordinator
from dyno.protocol.hedges import HEDGE_MIN_S, Hedges
from dyno.protocol.outbox import Outbox
from dyno.protocol.overload import ReadLine
from dyno.protocol.peers import Peers
from dyno.protocol.replica import Replica
from dyno.protocol.sink import Failure
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import STATUS_OK, Read

AFTER_S = 0.05


class Deaf:
    """A sink."""

    def found(
        self, record: bytes, answered: list[str], now: float, out: Outbox, fallbacks: Sequence[str] = ()
    ) -> None:
        pass

    def failed(self, failure: Failure, out: Outbox) -> None:
        raise AssertionError(failure)


class Node:
    """Node a, whose reads also b, c, d and e can answer, in this order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.out = Outbox()
        self.line = ReadLine(Config(hedge_after_s=AFTER_S))
        self.hedges = Hedges(AFTER_S, self.line)
        self.asked: list[tuple[str, int]] = []  # everything that was ever asked
        self._gets: dict[int, GetCoordinator] = {}
        self._replica = Replica(engine=MemoryEngine(), minter=Minter(b"start of"), config=Config())
        self._peers = Peers()
        self._peers.place({name: name for name in "bcde"})
        for name in "bcde":
            self._peers.up(name, name)

    def read(self, *, r: int = 2, owners: str = "abc", own: bool = True, long: bool = False) -> int:
        """Its number. own: whether this node's own copy is there at once. long: whether it is a long one."""
        get = GetCoordinator(
            id=len(self._gets) + 1,
            slot=b"slot",
            key=b"key",
            owners=list(owners),
            needed=r,
            ring=7,
            deadline=math.inf,
            me="a",
            replica=self._replica,
            peers=self._peers,
            sink=Deaf(),
        )
        self._gets[get.id] = get
        get.start(self.out)
        if own:
            get.answer("a", STATUS_OK, b"", self.now, self.out)
        if long:
            self.hedges.began_long(get, self.now)
        else:
            self.hedges.began(get, self.now)
        return get.id

    def answer(self, node: str, id: int) -> None:
        self.hedges.answered(self._gets[id], node, self.now)
        self._gets[id].answer(node, STATUS_OK, b"", self.now, self.out)

    def news(self) -> list[tuple[str, int]]:
        """Who was asked for what, since the last look."""
        sends, self.out.sends = self.out.sends, []
        news = [(node, message.id) for node, message in sends if isinstance(message, Read)]
        self.asked += news
        return news

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while (at := self.hedges.deadline()) <= end:
            self.now = max(self.now, at)
            self.hedges.tick(self.now, self.out)
        self.now = end

    def train(self, node: str, seconds: float, *, owners: str, times: int = 600) -> None:
        """Its answers take so long, with some noise, until that is known."""
        random = Random(1)
        for _ in range(times):
            id = self.read(owners=owners)
            self.advance(seconds * random.uniform(0.9, 1.1))
            self.answer(node, id)
        self.news()


def test_nothing_is_due_when_nothing_is_late() -> None:
    node = Node()
    assert node.hedges.deadline() == math.inf
    id = node.read()
    assert node.hedges.deadline() == AFTER_S, "who is not known yet is given time"
    node.answer("b", id)
    assert node.hedges.deadline() == math.inf
    assert node.news() == [("b", id)]


def test_a_late_replica_is_overtaken_after_its_own_usual_time() -> None:
    node = Node()
    node.train("b", 0.01, owners="abc")
    node.train("c", 0.03, owners="acb")
    slow, quick = node.read(owners="acb"), node.read(owners="abc")
    node.news()
    node.advance(0.009)
    assert node.news() == []
    node.advance(0.005)
    assert node.news() == [("c", quick)], "begun later, and late sooner"
    node.advance(0.012)
    assert node.news() == []
    node.advance(0.016)
    assert node.news() == [("b", slow)]


def test_noise_causes_no_hedges_below_the_least() -> None:
    node = Node()
    node.train("b", 0.0001, owners="abc", times=1000)
    id = node.read()
    assert node.hedges.deadline() == pytest.approx(node.now + HEDGE_MIN_S)
    node.advance(HEDGE_MIN_S)
    assert node.news() == [("b", id), ("c", id)]


def test_all_that_is_late_at_one_moment_raises_what_is_usual_only_once() -> None:
    node = Node()
    node.train("b", 0.01, owners="abc")
    for _ in range(40):
        node.read()
    node.advance(0.016)
    hedged = [peer for peer, _ in node.news() if peer == "c"]
    assert len(hedged) == 40, "one stop is no reason to be patient with the next forty"


def test_answers_of_one_turn_are_one_sample() -> None:
    node, other = Node(), Node()
    ids = [node.read() for _ in range(50)]
    node.advance(0.001)
    for id in ids:
        node.answer("b", id)
    other.train("b", 0.001, owners="abc", times=1)
    node.read()
    other.read()
    assert node.hedges.deadline() - node.now == pytest.approx(other.hedges.deadline() - other.now)


def test_a_replica_that_got_slower_is_given_more_time() -> None:
    node = Node()
    node.train("b", 0.005, owners="abc")
    node.train("b", 0.03, owners="abc", times=100)
    id = node.read()
    node.news()
    node.advance(0.028)
    assert node.news() == []
    node.answer("b", id)


def test_a_silent_replica_is_overtaken_at_once_until_it_answers_again() -> None:
    node = Node()
    node.train("b", 0.01, owners="abc")
    first = node.read()
    node.advance(0.015)
    node.answer("c", first)
    node.advance(AFTER_S)
    node.news()
    second = node.read()
    node.advance(0.015)
    assert node.news() == [("b", second), ("c", second)]
    node.answer("c", second)
    third = node.read()
    assert node.hedges.deadline() <= node.now
    node.advance(0.0)
    assert node.news() == [("b", third), ("c", third)]
    node.answer("b", third)
    node.read()
    assert node.hedges.deadline() > node.now + 0.005


def test_silence_needs_no_budget() -> None:
    node = Node()
    for _ in range(1000):
        id = node.read()
        node.advance(AFTER_S)
        node.answer("c", id)
    hedged = [peer for peer, _ in node.news() if peer == "c"]
    assert len(hedged) == 1000


def test_slowness_is_hedged_within_the_budget_and_the_rest_looked_at_again() -> None:
    node = Node()
    ids = []
    for _ in range(1000):
        ids.append(node.read())
        node.advance(AFTER_S / 1000)
    node.answer("b", ids[-1])  # slow, but it lives
    hedged = 0
    for _ in range(20):
        node.advance(0.04)
        node.hedges.answered(node._gets[ids[-1]], "b", node.now)
        hedged += sum(peer == "c" for peer, _ in node.news())
    assert hedged >= TOKENS_AT_START
    assert hedged <= TOKENS_AT_START + 1000 * EARNED_PER_FIRST + FLOOR_PER_S * node.now
    for id in ids:
        node.answer("b", id)
    assert node.hedges.deadline() == math.inf


def test_while_this_nodes_own_disk_has_a_long_line_only_the_silent_are_overtaken() -> None:
    node = Node()
    node.line.mean_s, node.line.waiting = 0.001, 100
    first = node.read()
    for _ in range(100):
        node.read()
    node.advance(0.04)
    for _ in range(10):
        node.hedges.answered(node._gets[first], "b", node.now)  # late, but it lives
        node.advance(0.04)
    assert [peer for peer, _ in node.news() if peer == "c"] == []
    node.advance(2 * AFTER_S)
    assert [peer for peer, _ in node.news() if peer == "c"] == ["c"] * 101


def test_late_reads_are_hedged_again_when_the_line_is_short() -> None:
    node = Node()
    node.line.mean_s, node.line.waiting = 0.001, 100
    id = node.read()
    node.advance(AFTER_S)
    assert node.news() == [("b", id)]
    node.line.waiting = 0
    node.hedges.answered(node._gets[id], "b", node.now)
    node.advance(AFTER_S)
    assert node.news() == [("c", id)]


def test_who_overtakes_may_be_overtaken() -> None:
    node = Node()
    id = node.read(owners="abcde")
    node.advance(0.5)
    assert node.news() == [("b", id), ("c", id), ("d", id), ("e", id)]
    assert node.hedges.deadline() == math.inf, "nobody is left to ask"


def test_each_late_replica_is_overtaken_by_one() -> None:
    node = Node()
    id = node.read(r=3, owners="abcde")
    node.advance(AFTER_S)
    assert node.news() == [("b", id), ("c", id), ("d", id), ("e", id)]


def test_a_read_that_waits_for_its_own_disk_asks_one_more_in_the_end() -> None:
    node = Node()
    id = node.read(own=False)
    node.answer("b", id)
    node.advance(AFTER_S)
    assert node.news() == [("b", id)]
    node.advance(AFTER_S)
    assert node.news() == [("c", id)]
    alone = node.read(r=1, own=False)
    node.advance(AFTER_S)
    assert node.news() == [("b", alone)]


def test_an_answer_of_somebody_who_was_not_asked_first_is_no_measure() -> None:
    node = Node()
    id = node.read()
    node.advance(AFTER_S)
    node.answer("c", id)
    node.answer("b", id)
    other = node.read(owners="acb")
    assert node.hedges.deadline() == pytest.approx(node.now + AFTER_S)
    node.answer("c", other)
    node._peers.down("b")
    node.read(owners="ab")
    node.hedges.answered(node._gets[other], "e", node.now)  # as after a link that broke


def test_a_long_read_is_late_after_the_same_time_whoever_is_asked() -> None:
    node = Node()
    node.train("b", 0.01, owners="abc")
    id = node.read(long=True)
    assert node.hedges.deadline() == node.now + AFTER_S
    node.advance(AFTER_S * 0.9)
    assert node.news() == [("b", id)]
    node.advance(AFTER_S * 0.2)
    assert node.news() == [("c", id)]


def test_the_time_that_a_long_read_took_is_no_measure_of_others() -> None:
    patience = []
    for long in (False, True):
        node = Node()
        node.train("b", 0.01, owners="abc")
        if long:
            id = node.read(long=True)
            node.advance(AFTER_S * 0.9)
            node.answer("b", id)
        node.read()
        patience.append(node.hedges.deadline() - node.now)
    without, behind = patience
    assert behind == pytest.approx(without)
    assert without < AFTER_S / 2
