"""Writes that are sent again, through whomever: done once, shown once, and gone once they were replaced."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from dyno.causality.context import Context
from dyno.causality.record import Record
from dyno.config import Config
from dyno.errors import DynoError
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, Done, Put, Recall, Recalled
from tests.protocol.stories.cluster_harness import User, failed, on_disk, slot_of, values

Simulate = Callable[..., Simulation]
KEY = b"key"
COUNTER_SEEDS = (
    5,
    6,
    8,
    16,
    41,
    52,
    70,
    72,
)  # each is found where nodes know no request, or sessions do not say it


def again(user: User, put: Put, **fields: Any) -> Done:
    """The same request, sent to another node."""
    done = user.ask(put._replace(id=user._next_id(), again=True, **fields))
    assert isinstance(done, Done), done
    return done


def token_of(user: User, done: Done) -> bytes:
    return user.token(KEY, Context.unpack(done.context))


def settled(sim: Simulation) -> Record:
    """What all have in the end, byte by byte, once somebody has read it from all."""
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)
    User(sim, "n1").get(KEY, r=ALL)
    sim.run_for(1)
    User(sim, "n2").get(KEY, r=ALL)
    sim.run_for(1)
    copies = on_disk(sim, KEY)
    assert len(set(copies.values())) == 1, copies
    return Record.unpack(copies["n1"])


# ── a coordinator dies ──


@pytest.mark.parametrize("after_s", [number * 0.0004 for number in range(1, 14)])
@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("victim", ["n1", "n2", "n3"])
def test_a_put_in_the_middle_of_which_a_node_dies_is_done_once(
    simulate: Simulate, after_s: float, commits: bool, victim: str
) -> None:
    sim = simulate(3)
    client = sim.client("n1", "n2", "n3")
    client.get("bucket", "key")
    pending = client.begin_put("bucket", "key", "value")
    sim.run_for(after_s)
    sim.kill(victim, commits=commits)
    stored = client.wait(pending)[0]
    assert client.get("bucket", "key").siblings == ["value"]
    sim.restart(victim)
    assert len(settled(sim).siblings) == 1
    client.put("bucket", "key", "next", context=stored.context)
    assert len(settled(sim).siblings) == 1


def test_a_put_whose_answer_is_lost_is_completed_by_another_with_the_dot_that_it_has(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    put = one.put_request(KEY, b"value", w=ALL)
    first = one.ask(put)
    assert isinstance(first, Done)
    assert again(other, put).context == first.context
    assert len(settled(sim).siblings) == 1


def test_a_put_that_one_replica_alone_has_is_found_there(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    put = one.put_request(KEY, b"value", w=1)
    sim.cut("n1", "n2")
    sim.cut("n1", "n3")
    assert isinstance(one.ask(put), Done)
    sim.heal_all()
    sim.drop_links("n1", "n2")
    sim.drop_links("n1", "n3")
    assert sim.run_until(sim.agreed, limit_s=60)
    again(other, put)
    record = settled(sim)
    assert len(record.siblings) == 1
    assert len(record.context.actors()) == 1, "no second dot was minted"


def test_a_first_attempt_that_comes_after_its_retry_is_the_same_write(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    put = one.put_request(KEY, b"value", w=ALL)
    done = again(other, put)
    late = one.ask(put)
    assert isinstance(late, Done)
    assert late.context == done.context
    assert len(settled(sim).siblings) == 1


def test_a_node_that_did_not_know_a_write_when_it_was_asked_does_not_begin_it_later(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    put = user.put_request(KEY, b"value")
    slot, _ = slot_of(sim, KEY)
    ring = sim.machines["n1"].node.membership.fingerprint
    stranger = sim.stranger("n1")
    (answer,) = stranger.ask(Recall(5, ring, slot, put.request))
    assert answer == Recalled(5, 0, b"", 0, b"")
    late = failed(user.ask(put))
    assert (late.code, late.indeterminate) == ("quorum", True)
    assert "another node" in late.message
    again(user, put)
    assert values(user.get(KEY)) == [b"value"]


# ── done twice, for nobody could be asked ──


def done_twice(
    sim: Simulation, value: bytes = b"value", context: bytes = b""
) -> tuple[User, User, Put, bytes]:
    """n1 alone has a write; n2 did it again while n1 was cut off. With the token of the second time."""
    one, other = User(sim, "n1"), User(sim, "n2")
    put = one.put_request(KEY, value, context, w=1)
    sim.isolate("n1")
    sim.heal("n1", one.link.machine)
    assert isinstance(one.ask(put), Done)
    done = again(other, put, w=2)
    return one, other, put, token_of(other, done)


def rejoin(sim: Simulation) -> None:
    for name in ("n2", "n3"):
        sim.drop_links("n1", name)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)


def test_a_write_that_was_done_twice_is_one_write(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other, put, _ = done_twice(sim)
    rejoin(sim)
    for record in (one.get(KEY, r=ALL), other.get(KEY, r=ALL), settled(sim)):
        assert {sibling.request for sibling in record.siblings} == {put.request}


@pytest.mark.parametrize("writer", ["n1", "n2", "n3"])
@pytest.mark.parametrize("deletes", [False, True])
@pytest.mark.parametrize("away", [False, True])
def test_whoever_has_read_it_as_it_was_done_first_replaces_both(
    simulate: Simulate, writer: str, deletes: bool, away: bool
) -> None:
    """Be it where both are known by now, or where n1, which knows the first, is still away."""
    sim = simulate(3)
    one, _, _, _ = done_twice(sim)
    token = one.token(KEY, one.get(KEY, r=1).context)
    if not away:
        rejoin(sim)
        User(sim, writer).get(KEY, r=ALL)
        sim.run_for(1)
    user = one if away and writer == "n1" else User(sim, writer)
    if deletes:
        user.delete(KEY, token, w=1)
    else:
        user.put(KEY, b"next", token, w=1)
    if away:
        rejoin(sim)
    assert values(settled(sim)) == ([] if deletes else [b"next"])


@pytest.mark.parametrize("reader", ["n1", "n2", "n3"])
def test_whoever_has_read_it_has_read_both(simulate: Simulate, reader: str) -> None:
    sim = simulate(3)
    done_twice(sim)
    rejoin(sim)
    user = User(sim, reader)
    read = user.get(KEY, r=ALL)
    user.put(KEY, b"next", user.token(KEY, read.context))
    assert values(settled(sim)) == [b"next"]


@pytest.mark.parametrize("reader", ["n1", "n2", "n3"])
def test_what_was_overwritten_while_one_was_away_does_not_come_back_with_it(
    simulate: Simulate, reader: str
) -> None:
    sim = simulate(3)
    _, other, _, token = done_twice(sim)
    other.delete(KEY, token)
    rejoin(sim)
    assert values(User(sim, reader).get(KEY)) == []
    assert values(settled(sim)) == []


def test_a_first_attempt_that_was_overwritten_is_not_brought_back_by_its_retry(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    put = one.put_request(KEY, b"value", w=ALL)
    first = one.ask(put)
    assert isinstance(first, Done)
    one.put(KEY, b"next", token_of(one, first), w=ALL)
    again(other, put)
    assert values(settled(sim)) == [b"next"]


def test_a_retry_that_met_nobody_who_knew_is_undone_by_those_who_do(simulate: Simulate) -> None:
    """n1 has the write and what replaced it; n2 and n3 know of neither when the retry comes."""
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    put = one.put_request(KEY, b"value", w=1)
    sim.isolate("n1")
    sim.heal("n1", one.link.machine)
    first = one.ask(put)
    assert isinstance(first, Done)
    one.put(KEY, b"next", token_of(one, first), w=1)
    again(other, put, w=2)
    rejoin(sim)
    assert values(settled(sim)) == [b"next"]


# ── conditions, deletes, restarts ──


def test_a_conditional_put_that_was_done_meets_its_condition_when_it_is_sent_again(
    simulate: Simulate,
) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    put = one.put_request(KEY, b"value", conditional=True, w=ALL)
    assert isinstance(one.ask(put), Done)
    again(other, put)
    assert values(settled(sim)) == [b"value"]


def test_a_conditional_put_that_nobody_did_conflicts_when_all_were_asked(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    one.put(KEY, b"somebody else's", w=ALL)
    put = other.put_request(KEY, b"value", conditional=True)
    assert failed(other.ask(put._replace(again=True))).code == "conflict"


def test_a_conditional_put_that_a_fallback_may_have_done_is_no_conflict(simulate: Simulate) -> None:
    """A node that owns nothing of the key, and was alone, keeps it as hints."""
    sim = simulate(5)
    _, owners = slot_of(sim, KEY)
    fallback = next(name for name in sim.machines if name not in owners)
    sim.isolate(fallback)
    node = sim.machines[fallback].node
    assert sim.run_until(lambda: not any(map(node.membership.is_alive, owners)), limit_s=60)
    sim.run_for(20)  # no link is left
    one = User(sim, fallback)
    put = one.put_request(KEY, b"value", conditional=True, w=1)
    assert isinstance(one.ask(put), Done)
    other = User(sim, owners[0])
    other.put(KEY, b"another", w=2)
    sim.run_for(10)
    answer = failed(other.ask(put._replace(id=other._next_id(), again=True, budget_ms=3000)))
    assert answer.indeterminate
    assert "may have done the write before" in answer.message


def test_a_conditional_put_that_somebody_may_have_done_is_indeterminate(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    one.put(KEY, b"somebody else's", w=ALL)
    sim.kill("n3")
    put = other.put_request(KEY, b"value", conditional=True)
    answer = failed(other.ask(put._replace(again=True)))
    assert (answer.code, answer.indeterminate) == ("quorum", True)
    assert "may have done the write before" in answer.message


def test_a_delete_that_is_sent_again_leaves_what_came_since(simulate: Simulate) -> None:
    sim = simulate(3)
    one, other = User(sim, "n1"), User(sim, "n2")
    read = one.put(KEY, b"value", w=ALL)
    delete = one.delete_request(KEY, read, w=ALL)
    assert isinstance(one.ask(delete), Done)
    other.put(KEY, b"since", w=ALL)
    assert isinstance(other.ask(delete._replace(id=77)), Done)
    assert values(settled(sim)) == [b"since"]


def test_a_write_is_known_after_a_restart_and_forgotten_after_the_window(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(retry_window_s=30.0))
    user = User(sim, "n1")
    put = user.put_request(KEY, b"value", w=ALL)
    first = user.ask(put)
    assert isinstance(first, Done)
    user.put(KEY, b"next", token_of(user, first), w=ALL)
    for name in sim.machines:
        sim.kill(name)
        sim.restart(name)
    assert sim.run_until(sim.agreed, limit_s=60)
    user = User(sim, "n1")
    again(user, put)
    assert values(user.get(KEY, r=ALL)) == [b"next"]
    sim.run_for(31)
    for number in range(3):
        user.put(b"key %d" % number, b"", w=ALL)
    slot, _ = slot_of(sim, KEY)
    assert all(machine.node._replica.seen.dots(slot, put.request) == [] for machine in sim.machines.values())


# ── counters ──


@pytest.mark.parametrize("seed", COUNTER_SEEDS)
def test_updates_through_crashes_and_cuts_count_once(simulate: Simulate, seed: int) -> None:
    """Each update appends a name of its own to a list. Whatever broke: no name is there twice, and every one
    whose update succeeded is there."""
    random = Random(seed)
    sim = simulate(random.choice([3, 3, 5]), seed=seed)
    names = list(sim.machines)
    clients = [sim.client(*names, timeout=8) for _ in range(random.choice([1, 2, 3]))]
    succeeded: list[str] = []
    pending: list[tuple[str, Any]] = []

    def appended(name: str) -> Callable[[list[Any]], Any]:
        return lambda siblings: [*sorted({one for sibling in siblings for one in sibling}), name]

    for number in range(40):
        client = random.choice(clients)
        name = f"{number:03}"
        pending.append((name, client.begin_update("bucket", "key", appended(name))))
        sim.run_for(random.uniform(0, 0.012))  # in the middle of it
        mishap(sim, random)
        sim.run_for(random.expovariate(3))
    for name in names:
        if not sim.machines[name].running:
            sim.restart(name)
    sim.heal_all()
    assert sim.run_until(lambda: all(one.done for _, one in pending), limit_s=60)
    assert sim.run_until(sim.agreed, limit_s=60)
    unsure = 0
    for name, one in pending:
        if one.error is None:
            succeeded.append(name)
        else:
            assert isinstance(one.error, DynoError)
            unsure += 1
    found = clients[0].get("bucket", "key", r="all").siblings
    for sibling in found:
        assert len(sibling) == len(set(sibling)), "an update was counted twice"
    there = {one for sibling in found for one in sibling}
    assert not [name for name in succeeded if name not in there], "an update was lost"
    assert unsure < len(pending) / 2


def mishap(sim: Simulation, random: Random) -> None:
    """Now and then a node dies, is cut off, or is well again; two at a time never."""
    if random.random() < 0.3:
        return
    down = [name for name, machine in sim.machines.items() if not machine.running]
    if down:
        sim.restart(down[0])
    elif sim._network.cuts():
        sim.heal_all()
    elif not sim.agreed():
        return
    elif random.random() < 0.6:
        sim.kill(random.choice(list(sim.machines)))
    else:
        sim.isolate(random.choice(list(sim.machines)))
