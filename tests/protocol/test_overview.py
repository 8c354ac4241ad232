"""What a client is told of the cluster: the members, and what hints they keep."""

from __future__ import annotations

from typing import Any

import pytest

from dyno.config import Config
from dyno.protocol.background import part_of
from dyno.protocol.outbox import Outbox
from dyno.protocol.overview import QUESTIONS_MAX, ROUND_S, Overview
from dyno.protocol.peers import Peers
from dyno.wire.flat import ProtocolError
from dyno.wire.hints import ROWS_MAX, Held, pack_hints, unpack_hints
from dyno.wire.members import ALIVE, DEAD, NORMAL, SUSPECT, Member, unpack_members
from dyno.wire.messages import AskHints, AskStatus, Failed, HintsHeld, Members


class Table:
    """Of a membership: n1 is the node itself."""

    cluster, partitions, fingerprint = b"c" * 16, 16, 99

    def __init__(self, **liveness: int) -> None:
        self.liveness = {"n1": ALIVE} | liveness
        self.table = self

    def members(self) -> list[Member]:
        return [
            Member(name, b"d" * 16, name.encode() * 8, b"s" * 8, 1, 0, NORMAL, liveness, f"{name}:1", "", 1.0)
            for name, liveness in self.liveness.items()
        ]


class Driven:
    def __init__(self, *links: str, **liveness: int) -> None:
        self.held: dict[str, int] = {}
        self.peers, self.out = Peers(), Outbox()
        table = Table(**liveness)
        self.peers.place({name: f"{name}:1" for name in table.liveness})
        for name in links:
            self.peers.up(name, f"{name}:1")
        membership: Any = table
        self.overview = Overview(
            me="n1", config=Config(), membership=membership, peers=self.peers, held=lambda: self.held
        )
        self.doors = self.overview.doors()

    def ask(self, id: int, link: int = 1, now: float = 0.0) -> None:
        self.doors[AskStatus](link, AskStatus(id), now, self.out)

    def asked(self) -> dict[str, int]:
        """Who was asked since the last look, and under which id."""
        sends, self.out.sends = self.out.sends, []
        assert all(type(message) is AskHints for _, message in sends)
        return {address.partition(":")[0]: message.id for address, message in sends}

    def hear(self, name: str, id: int, *rows: Held, now: float = 0.0) -> None:
        self.overview.answer(name, HintsHeld(id, pack_hints(rows)), now, self.out)

    def told(self) -> list[tuple[int, int, list[Held]]]:
        """Link and id of those who were answered since the last look, and the rows that they got."""
        replies, self.out.replies = self.out.replies, []
        answers = []
        for link, message in replies:
            assert isinstance(message, Members)
            answers.append((link, message.id, unpack_hints(message.hints)))
        return answers


NONE = Held("n1", "", 0)


def test_a_node_alone_answers_at_once():
    driven = Driven()
    driven.held = {"n9": 3, "n8": 0}
    driven.ask(5)
    ((link, answer),) = driven.out.replies
    assert isinstance(answer, Members)
    assert (link, answer.id, answer.cluster, answer.partitions, answer.ring) == (1, 5, b"c" * 16, 16, 99)
    assert [member.name for member in unpack_members(answer.members, members_max=9)] == ["n1"]
    assert driven.told() == [(1, 5, [Held("n1", "n9", 3)])]
    assert driven.overview.deadline() == float("inf")


def test_all_living_members_are_asked():
    driven = Driven("n2", "n3", "n4", n2=ALIVE, n3=SUSPECT, n4=DEAD, n5=ALIVE)
    driven.ask(5)
    asked = driven.asked()
    assert list(asked) == ["n2", "n3"]
    assert all(part_of(id) == Overview.number for id in asked.values())
    driven.hear("n3", asked["n3"], Held("n3", "n4", 2), Held("n3", "n5", 1))
    assert driven.told() == []
    driven.hear("n2", asked["n2"], Held("n2", "", 0))
    rows = [NONE, Held("n2", "", 0), Held("n3", "n4", 2), Held("n3", "n5", 1)]
    assert driven.told() == [(1, 5, rows)]


def test_who_does_not_answer_is_left_out():
    driven = Driven("n2", "n3", n2=ALIVE, n3=ALIVE)
    driven.ask(5)
    asked = driven.asked()
    driven.hear("n2", asked["n2"], Held("n2", "", 0))
    assert driven.overview.deadline() == ROUND_S
    driven.overview.tick(ROUND_S / 2, driven.out)
    assert driven.told() == []
    driven.overview.tick(ROUND_S, driven.out)
    assert driven.told() == [(1, 5, [NONE, Held("n2", "", 0)])]
    driven.hear("n3", asked["n3"], Held("n3", "", 0))  # late
    assert driven.told() == []


def test_a_link_that_breaks_is_not_waited_for():
    driven = Driven("n2", n2=ALIVE)
    driven.overview.link_down("n2", 0.0, driven.out)
    driven.ask(5)
    driven.overview.link_down("n2", 0.0, driven.out)
    assert driven.told() == [(1, 5, [NONE])]


def test_questions_of_one_time_share_a_round():
    driven = Driven("n2", n2=ALIVE)
    driven.ask(1)
    first = driven.asked()["n2"]
    for id in (2, 3):
        driven.ask(id, link=id)
    assert driven.asked() == {}
    driven.hear("n2", first, Held("n2", "n1", 1))
    assert driven.told() == [(1, 1, [NONE, Held("n2", "n1", 1)])]
    second = driven.asked()["n2"]
    assert second != first
    driven.hear("n2", first, Held("n2", "n1", 9))  # what was said before they asked is not for them
    driven.hear("n2", second, Held("n2", "", 0))
    assert driven.told() == [(2, 2, [NONE, Held("n2", "", 0)]), (3, 3, [NONE, Held("n2", "", 0)])]
    assert driven.asked() == {}


def test_a_doubled_answer_means_nothing():
    driven = Driven("n2", "n3", n2=ALIVE, n3=ALIVE)
    driven.ask(1)
    asked = driven.asked()
    for _ in range(2):
        driven.hear("n2", asked["n2"], Held("n2", "", 0))
    assert driven.told() == []


def test_questions_have_a_bound():
    driven = Driven("n2", n2=ALIVE)
    for id in range(QUESTIONS_MAX + 2):
        driven.ask(id)
    ((_, refused),) = driven.out.replies
    assert isinstance(refused, Failed)
    assert (refused.id, refused.code) == (QUESTIONS_MAX + 1, "overloaded")
    assert refused.retry_after_ms > 0


def test_what_a_peer_tells_has_a_bound():
    driven = Driven("n2", "n3", n2=ALIVE, n3=ALIVE)
    driven.ask(1)
    asked = driven.asked()
    driven.hear("n2", asked["n2"], *[Held("n2", f"m{number:05}", 1) for number in range(ROWS_MAX)])
    driven.hear("n3", asked["n3"], Held("n3", "", 0))
    ((_, _, rows),) = driven.told()
    assert len(rows) == ROWS_MAX
    assert not any(row.holder == "n3" for row in rows)


@pytest.mark.parametrize("rows", [[], [Held("n1", "", 0)], [Held("n2", "n1", 1), Held("n3", "n1", 1)]])
def test_a_node_tells_of_itself_alone(rows):
    driven = Driven("n2", n2=ALIVE)
    driven.ask(1)
    with pytest.raises(ProtocolError):
        driven.hear("n2", driven.asked()["n2"], *rows)
    driven.overview.link_down("n2", 0.0, driven.out)
    assert driven.told() == [(1, 1, [NONE])]


def test_another_answer_is_a_mistake_of_the_peer():
    driven = Driven("n2", n2=ALIVE)
    driven.ask(1)
    (id,) = driven.asked().values()
    with pytest.raises(ProtocolError):
        driven.overview.answer("n2", AskHints(id), 0.0, driven.out)


def test_other_nodes_are_told_at_once():
    driven = Driven("n2", n2=ALIVE)
    driven.held = {"n2": 4}
    driven.doors[AskHints](7, AskHints(1 << 60), 0.0, driven.out)
    assert driven.out.replies == [(7, HintsHeld(1 << 60, pack_hints([Held("n1", "n2", 4)])))]


def test_neither_links_nor_rings_concern_a_round():
    driven = Driven("n2", n2=ALIVE)
    driven.ask(1)
    driven.asked()
    driven.overview.link_up("n3", 0.0, driven.out)
    driven.overview.replan(0.0, driven.out)
    assert not driven.out
