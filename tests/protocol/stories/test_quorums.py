"""R, W, PR and PW in clusters of one, three and five nodes, with all of them alive and some of them not."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from dyno.errors import InvalidRequest, QuorumNotMet
from dyno.simulator.simulation import Simulation
from dyno.wire.messages import ALL, DEFAULT, QUORUM, STRICT, Done, Failed, Found
from tests.protocol.stories.cluster_harness import User, failed, on_disk, slot_of, values

Simulate = Callable[..., Simulation]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_what_w_nodes_stored_r_nodes_find(simulate: Simulate, size: int) -> None:
    sim = simulate(size)
    quorums = [*range(1, min(size, 3) + 1), DEFAULT, QUORUM, ALL]
    users = [User(sim, name) for name in sim.machines]
    for number, (r, w) in enumerate(itertools.product(quorums, quorums)):
        key = b"key %d" % number
        done = users[number % size].ask_put(key, b"value", w=w)
        assert isinstance(done, Done)
        owners = slot_of(sim, key)[1]
        wanted = {DEFAULT: len(owners) // 2 + 1, QUORUM: len(owners) // 2 + 1, ALL: len(owners)}
        stored_by = done.answered.split(",")
        assert len(set(stored_by)) == len(stored_by) >= wanted.get(w, w)
        assert set(stored_by) <= set(owners)
        if wanted.get(r, r) + wanted.get(w, w) > len(owners):
            found = users[(number + 1) % size].ask_get(key, r=r)
            assert isinstance(found, Found)
            assert len(set(found.answered.split(","))) == wanted.get(r, r)
            assert found.record


def test_every_owner_has_the_record_in_the_end(simulate: Simulate) -> None:
    sim = simulate(5)
    User(sim, "n1").put(b"key", b"value", w=1)
    sim.run_for(0.1)
    owners = slot_of(sim, b"key")[1]
    records = on_disk(sim, b"key")
    assert len(owners) == 3
    assert {name for name, record in records.items() if record} == set(owners)
    assert len({records[name] for name in owners}) == 1


def test_primaries_only_raise_what_is_needed(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    done = user.ask_put(b"key", b"value", w=1, pw=3)
    assert isinstance(done, Done)
    assert sorted(done.answered.split(",")) == ["n1", "n2", "n3"]
    found = user.ask_get(b"key", r=1, pr=ALL)
    assert isinstance(found, Found)
    assert sorted(found.answered.split(",")) == ["n1", "n2", "n3"]


def test_counts_that_no_cluster_can_meet_are_invalid_and_nothing_is_done(simulate: Simulate) -> None:
    sim = simulate(5)
    for node in sim.machines:  # owners and others alike
        user = User(sim, node)
        assert failed(user.ask_get(b"key", r=4)).code == "invalid"
        assert failed(user.ask_get(b"key", pr=4)).code == "invalid"
        assert failed(user.ask_put(b"key", b"value", w=4)).code == "invalid"
        assert failed(user.ask_put(b"key", b"value", w=0)).code == "invalid"
        assert failed(user.ask_delete(b"key", w=4)).code == "invalid"
    assert not any(on_disk(sim, b"key").values())


def test_a_count_above_what_a_small_cluster_has_is_a_quorum_not_met(simulate: Simulate) -> None:
    sim = simulate(2)
    answer = failed(User(sim, "n1").ask_put(b"key", b"value", w=3))
    assert (answer.code, answer.needed, answer.indeterminate) == ("quorum", 3, False)
    assert answer.message == "3 owners of the key are needed, 2 of 2 are alive"
    sim.run_for(1)
    assert not any(on_disk(sim, b"key").values())


def test_users_get_the_errors_with_their_facts(simulate: Simulate) -> None:
    sim = simulate(3)
    client = sim.client("n1")
    with pytest.raises(InvalidRequest, match="w=4 is more than the bucket's n=3"):
        client.put("bucket", "key", 1, w=4)
    sim.kill("n3")
    with pytest.raises(QuorumNotMet) as missed:
        client.put("bucket", "key", 1, w=3)
    error = missed.value
    assert (error.needed, error.answered, error.indeterminate) == (3, 2, True)
    assert sorted(error.nodes) == ["n1", "n2"]


# ── a node that is dead ──


def test_two_of_three_go_on_before_anybody_knows_that_the_third_is_dead(simulate: Simulate) -> None:
    sim = simulate(3)
    sim.kill("n3")
    user = User(sim, "n1")
    began = sim.now
    token = user.put(b"key", b"value")
    assert values(user.get(b"key")) == [b"value"]
    user.delete(b"key", token)
    assert sim.now - began < 0.2


def test_all_of_three_fail_late_while_the_third_is_not_known_to_be_dead(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    sim.kill("n3")
    began = sim.now
    answer = failed(user.ask_put(b"key", b"value", w=3))
    assert (answer.code, answer.needed, answer.indeterminate) == ("quorum", 3, True)
    assert sorted(answer.nodes.split(",")) == ["n1", "n2"]
    assert answer.message.endswith("not on n3")
    assert sim.now - began == pytest.approx(sim.config.put_timeout_s, abs=0.1)
    answer = failed(user.ask_get(b"key", r=3))
    assert (answer.code, answer.needed, answer.indeterminate) == ("quorum", 3, False)
    assert sorted(answer.nodes.split(",")) == ["n1", "n2"]
    assert values(user.get(b"key")) == [b"value"]  # it was not met, and it is there


def test_all_of_three_fail_at_once_when_the_third_is_known_to_be_dead(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    sim.kill("n3")
    assert sim.run_until(lambda: not sim.machines["n1"].node.membership.is_live("n3"), limit_s=60)
    began = sim.now
    for answer in (user.ask_put(b"key", b"value", w=3), user.ask_delete(b"key", w=3)):
        assert failed(answer).message == "3 owners of the key are needed, 2 of 3 are alive; dead: n3"
        assert not failed(answer).indeterminate
    assert failed(user.ask_get(b"key", r=3)).code == "quorum"
    assert sim.now - began < 0.1
    assert not any(on_disk(sim, b"key").values())
    sim.restart("n3")
    assert sim.run_until(sim.agreed, limit_s=60)
    assert sim.run_until(lambda: sim.machines["n1"].node.membership.is_live("n3"), limit_s=60)
    assert isinstance(user.ask_put(b"key", b"value", w=3), Done)


def test_a_minority_takes_nothing_strict_once_it_knows_and_the_majority_goes_on(simulate: Simulate) -> None:
    sim = simulate(5)
    user = {name: User(sim, name) for name in sim.machines}
    for one, other in itertools.product(["n1", "n2"], ["n3", "n4", "n5"]):
        sim.cut(one, other)
    membership = sim.machines["n1"].node.membership
    assert sim.run_until(lambda: not any(map(membership.is_live, ["n3", "n4", "n5"])), limit_s=60)
    outcomes = {}
    for number in range(20):
        key = b"key %d" % number
        owners = slot_of(sim, key)[1]
        on_our_side = len([name for name in owners if name in ("n1", "n2")])
        answer = user["n1"].ask_put(key, b"value", pw=STRICT)
        assert isinstance(answer, Done if on_our_side >= 2 else Failed)
        assert on_our_side >= 2 or not answer.indeterminate  # type: ignore[union-attr]
        outcomes[on_our_side] = True
    assert len(outcomes) > 1


def test_a_write_that_a_frozen_node_could_not_take_is_finished_by_the_others(simulate: Simulate) -> None:
    sim = simulate(3)
    sim.isolate("n3")
    user = User(sim, "n1")
    began = sim.now
    user.put(b"key", b"value")
    assert values(user.get(b"key")) == [b"value"]
    assert sim.now - began < 0.2  # the read was overtaken by n2 when n3 was late


def test_a_suspect_is_asked_last(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(b"key", b"value", w=ALL)
    sim.isolate("n3")
    membership = sim.machines["n1"].node.membership
    assert sim.run_until(lambda: not membership.is_alive("n3"), limit_s=60)
    assert membership.is_live("n3")
    began = sim.now
    for number in range(30):  # of which n3 would be the first to be asked for some
        user.get(b"key %d" % number)
    assert sim.now - began < 30 * 0.006
