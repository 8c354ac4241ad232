"""Opening, the handshake, the members, and links over time."""

from __future__ import annotations

from itertools import pairwise

import pytest

from dyno.errors import ConnectFailed, QuorumNotMet
from dyno.session.calls import RETRY_MAX_S, Call
from dyno.session.links import DIAL_TIMEOUT_S, PATIENCE_S, SILENT_MAX_S
from dyno.session.upkeep import IN_USE_S, OPEN_GRACE_S
from dyno.wire.hints import Held, pack_hints
from dyno.wire.messages import AskMembers, AskStatus, Found, Get, Hello, Refuse

# ── opening ──


def test_opening_dials_all_listed_nodes_and_ends_with_the_first_that_answers(a_world):
    world = a_world()
    opening = world.open()
    assert sorted(world.dialled()) == ["n1:7101", "n2:7101", "n3:7101"]
    world.down("n1:7101")
    assert not world.finished()
    world.up("n3:7101")
    assert world.finished() == [opening]
    assert opening.error is None


def test_opening_fails_soon_when_every_listed_node_refuses(a_world):
    world = a_world(["n1:7101", "n2:7101"])
    opening = world.open()
    began, rounds = world.now, 0
    while not opening.error:
        for address in world.dialled():
            rounds += 1
            world.down(address)
        world.advance(0.05)
    assert world.finished() == [opening]
    assert isinstance(opening.error, ConnectFailed)
    assert "n1:7101: Connection refused" in str(opening.error)
    assert "n2:7101: Connection refused" in str(opening.error)
    assert world.now - began == pytest.approx(OPEN_GRACE_S, abs=0.1)
    assert rounds > 4, "it was tried several times"


def test_a_node_that_is_just_starting_is_found(a_world):
    world = a_world(["n1:7101"])
    opening = world.open()
    world.down(*world.dialled())
    world.advance(0.8)
    assert world.dialled() == ["n1:7101"]
    world.up("n1:7101")
    assert world.finished() == [opening]
    assert opening.error is None


def test_opening_waits_for_a_node_that_neither_answers_nor_refuses(a_world):
    world = a_world(["n1:7101", "n2:7101"])
    opening = world.open()
    world.down("n1:7101")
    world.advance(OPEN_GRACE_S + 0.5)
    assert not world.finished()
    world.advance(DIAL_TIMEOUT_S)
    assert "n2:7101" in world.dropped()
    assert isinstance(opening.error, ConnectFailed)
    assert "n2:7101: no answer within 2 s" in str(opening.error)


def test_opening_has_no_more_time_than_the_timeout(a_world):
    world = a_world(["n1:7101"], timeout=0.5)
    opening = world.open()
    world.advance(0.6)
    assert world.finished() == [opening]
    assert isinstance(opening.error, ConnectFailed)
    world.up("n1:7101")
    assert not world.finished()
    world.advance(5)


def test_a_cancelled_opening_is_forgotten(a_world, never):
    world = a_world(["n1:7101"])
    world.cancel(world.open())
    world.advance(20)
    assert not world.finished()
    assert world.session.deadline() == never


# ── handshake ──


def test_a_client_says_what_it_is_and_the_cluster_once_it_knows_it(a_world):
    world = a_world()
    hello = world.session.hello()
    assert (hello.role, hello.cluster, hello.name) == ("client", b"", "")
    world.open()
    world.up("n1:7101")
    assert world.session.hello().cluster == world.CLUSTER


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"protocol_low": 2, "protocol_high": 3}, "talks protocol versions 2 to 3, this client 1 to 1"),
        ({"protocol_low": 0, "protocol_high": 0}, "talks protocol versions 0 to 0, this client 1 to 1"),
        ({"role": "client"}, "is not a dyno node"),
        ({"name": ""}, "is not a dyno node"),
        ({"cluster": b""}, "has not joined a cluster yet"),
        ({"cluster": b"short"}, "has not joined a cluster yet"),
    ],
)
def test_a_node_that_cannot_serve_us_is_left_with_a_reason(a_world, changed, reason):
    world = a_world(["n1:7101"])
    opening = world.open()
    hello = Hello(1, 1, "peer", world.CLUSTER, 64, "n1", b"", b"", "")._replace(**changed)
    world.session.link_up("n1:7101", hello, world.now, world.out)
    assert world.dropped() == ["n1:7101"]
    world.advance(1.1)
    assert f"n1:7101: {reason}" in str(opening.error)


def test_a_node_of_another_cluster_is_never_used(a_world):
    world = a_world(["n1:7101", "n2:7101"])
    world.open()
    world.up("n1:7101")
    world.up("n2:7101", cluster=b"another cluster!")
    assert world.dropped() == ["n2:7101"]
    assert "belongs to cluster" in world.session._links.why()


def test_a_refusal_is_kept_as_the_reason(a_world):
    world = a_world(["n1:7101"])
    opening = world.open()
    world.session.refused("n1:7101", Refuse("overloaded", "n1 has 1000 clients"), world.now, world.out)
    assert world.dropped() == ["n1:7101"]
    world.advance(1.1)
    assert "n1 has 1000 clients" in str(opening.error)


def test_events_of_links_that_nobody_wanted_mean_nothing(world):
    world.up("stranger:1")
    world.up("n1:7101")
    world.down("stranger:1")
    world.hear("stranger:1", world.members("n9"))
    world.down("n1:7101")
    world.down("n1:7101")
    world.hear("n1:7101", world.members("n9"))
    assert [member.name for member in world.session._routing.members] == ["n1", "n2", "n3"]


# ── members ──


def test_the_members_are_asked_once_when_links_come_up(a_world):
    world = a_world()
    world.open()
    world.up("n1:7101")
    world.up("n2:7101")
    assert world.sent() == [("n1:7101", AskMembers(0))]
    world.hear("n1:7101", world.members("n1", "n2", "n3"))
    world.up("n3:7101")
    assert world.sent() == [], "they are known, and fresh"


def test_the_members_are_asked_every_two_seconds_while_in_use_of_one_after_another(world):
    asked = []
    for _ in range(80):
        world.advance(0.1)
        call = world.get()
        for address, message in world.sent():
            if isinstance(message, AskMembers):
                asked.append(address)
                world.hear(address, world.members("n1", "n2", "n3"))
            else:
                world.hear(address, world.found(call))
    assert len(asked) == 3
    assert all(one != next_ for one, next_ in pairwise(asked))


def test_a_client_that_nobody_uses_falls_quiet(world, never):
    world.get()
    for _ in range(200):
        world.advance(0.1)
        for address, message in world.sent():
            if isinstance(message, AskMembers):
                world.hear(address, world.members("n1", "n2", "n3"))
    assert world.session.deadline() == never
    world.advance(1000)
    assert world.sent() == []
    world.get()
    assert [type(message) for _, message in world.sent()] == [AskMembers, Get], "it looks again when used"


def test_a_link_that_breaks_makes_it_look_at_once(world):
    world.down("n1:7101")
    ((address, message),) = world.sent()
    assert address != "n1:7101"
    assert isinstance(message, AskMembers)


def test_another_node_is_asked_when_one_says_nothing(world):
    world.advance(2.0)
    world.get()
    ((first, _),) = world.sent(AskMembers)
    world.advance(PATIENCE_S + 0.01)
    assert any(address != first for address, _ in world.sent(AskMembers))
    assert world.session._links.get(first).silent_at is not None


def test_a_node_that_answers_calls_but_not_this_is_not_silent(world):
    world.advance(2.0)
    world.get()
    ((first, _),) = world.sent(AskMembers)
    world.advance(PATIENCE_S * 0.9)
    world.hear(first, Found(9999, b"", "", ""))
    world.advance(PATIENCE_S * 0.2)
    assert world.session._links.get(first).silent_at is None


@pytest.mark.parametrize("told", ["nonsense", "another cluster"])
def test_members_that_make_no_sense_close_the_link(world, told):
    members = world.members("n1")
    wrong = members._replace(members=b"\xff") if told == "nonsense" else members._replace(cluster=b"x" * 16)
    world.hear("n1:7101", wrong)
    assert world.dropped() == ["n1:7101"]
    assert not world.session._links.get("n1:7101").ready


def test_the_cluster_is_found_again_through_members_when_all_listed_nodes_are_gone(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members("n1", "n2", "n3"))
    world.down("n1:7101")
    call = world.get()
    assert sorted(world.dialled()) == ["n2:7101", "n3:7101"]
    world.up("n3:7101")
    ((address, message),) = world.sent(Get)
    assert (address, message.id) == ("n3:7101", call.id)


def test_a_call_waits_for_the_members_only_while_they_are_asked_for(a_world):
    world = a_world()
    upkeep, dispatch = world.session._upkeep, world.session._dispatch

    def waiting() -> Call:
        id = world.session.requests.next_id()
        return Call(id, None, bucket=b"", deadline=world.now + 1, weight=0)

    assert not upkeep.await_members(waiting())
    world.open()
    world.up("n1:7101")
    world.finished()
    first, second = waiting(), waiting()
    assert upkeep.await_members(first)
    assert upkeep.await_members(second)
    world.cancel(second)
    world.tell(world.members("n1", "n2", "n3"))
    assert world.finished() == [first]
    assert first.error is None
    assert not upkeep.await_members(waiting()), "they are known"
    assert dispatch.calls == {}


def test_status_is_the_cluster_as_a_node_sees_it_now(world):
    call = world.status()
    ((address, message),) = world.sent()
    assert type(message) is AskStatus
    hints = pack_hints([Held("n1", "n2", 3), Held("n2", "", 0)])
    world.hear(address, world.members("n1", "n2", id=message.id, ring=2)._replace(hints=hints))
    assert world.finished() == [call]
    assert [member["hints"] for member in call.result["members"]] == [3, 0]
    assert [member["name"] for member in call.result["members"]] == ["n1", "n2"]
    assert call.result["cluster"] == world.CLUSTER.hex()


def test_the_members_alone_are_asked_without_their_hints(world):
    call = world.session.members(timeout=1, now=world.now, out=world.out)
    ((address, message),) = world.sent()
    assert message == AskMembers(call.id)
    world.hear(address, world.members("n1", "n2", "n3", id=call.id))
    assert world.finished() == [call]
    assert call.result == 64


def test_hints_say_nothing_new_of_the_members(world):
    told = world.members("n1", "n2", "n3")
    world.hear("n1:7101", told._replace(hints=pack_hints([Held("n1", "n2", 3)])))
    assert not world.session._routing.learn(told)


def test_hints_that_are_none_cost_the_link(world):
    world.hear("n1:7101", world.members("n1", "n2", "n3")._replace(hints=b"\x81\x00"))
    assert world.dropped() == ["n1:7101"]


# ── links over time ──


def test_a_client_in_use_reconnects_by_itself_and_an_idle_one_does_not(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members("n1"))
    world.cancel(world.get())
    world.down("n1:7101")
    world.advance(1)
    assert world.dialled() == ["n1:7101"]
    world.down("n1:7101")
    world.advance(IN_USE_S)
    world.dialled()
    world.down("n1:7101")
    world.advance(100)
    assert world.dialled() == []
    world.get()
    assert world.dialled() == ["n1:7101"]


def test_a_link_that_stays_silent_is_dropped_and_its_writes_may_have_been_done(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members("n1"))
    call = world.put(timeout=60)
    world.sent()
    world.advance(1.0 + SILENT_MAX_S + 0.1)
    assert world.dropped() == ["n1:7101"]
    assert call.error is None  # it is sent again, once there is a link
    world.advance(RETRY_MAX_S)
    assert isinstance(call.error, QuorumNotMet)
    assert call.error.indeterminate


def test_a_dial_that_takes_too_long_is_dropped_and_tried_again(a_world):
    world = a_world(["n1:7101"])
    world.get(timeout=30)
    assert world.dialled() == ["n1:7101"]
    world.advance(DIAL_TIMEOUT_S + 0.2)
    assert world.dropped() == ["n1:7101"]
    assert world.dialled() == ["n1:7101"]
