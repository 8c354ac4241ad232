"""Whole runs: under load and faults everything holds, the same seed is the same run, and nothing slips by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.record import Record
from dyno.protocol.rows import HINTS
from dyno.simulator import checkers
from dyno.simulator.history import DELETE, GET, NOT_DONE, OK, PUT, UNKNOWN, UPDATE
from dyno.simulator.scenario import KEYS, LEFT_MAX, SETTLE_WITHIN_S, Scenario, play
from dyno.wire import values
from dyno.wire.messages import Store, StoreHint
from tests.simulator.mishaps import KINDS, Mishaps

if TYPE_CHECKING:
    from dyno.simulator.trace import What

HALF_A_MINUTE = 1 / 120


def test_a_run_with_faults_passes_and_tells_what_it_did() -> None:
    outcome, history = play(3, faults=Mishaps, hours=HALF_A_MINUTE)
    assert outcome.violations == ()
    assert outcome.seed == 3
    assert outcome.simulated_s > 35
    assert outcome.operations == len(history.operations) > 1500
    assert 500 < outcome.acknowledged < outcome.operations
    assert list(outcome.faults) == list(KINDS)
    assert sum(outcome.faults.values()) > 3


def test_the_same_seed_is_the_same_run() -> None:
    first, again = (play(4, faults=Mishaps, hours=HALF_A_MINUTE).outcome for _ in range(2))
    assert first == again
    assert play(5, faults=Mishaps, hours=HALF_A_MINUTE).outcome.digest != first.digest


@pytest.mark.parametrize("nodes", [1, 2, 3])
def test_a_small_cluster_passes(nodes: int) -> None:
    class Calm(Mishaps):
        """With fewer than two machines there is nothing between which a cable could be cut."""

        def _plan(self) -> None:
            if nodes > 1:
                super()._plan()

    assert play(1, faults=Calm, nodes=nodes, hours=HALF_A_MINUTE).outcome.violations == ()


def test_users_do_everything_that_there_is() -> None:
    scenario = Scenario(6)
    plan = Mishaps(scenario.sim, 60.0)
    scenario.load(60.0)
    plan.end()
    scenario.settle()
    operations = scenario.history.operations
    assert {one.kind for one in operations} == {GET, PUT, DELETE, UPDATE}
    assert {one.outcome for one in operations} == {OK, NOT_DONE, UNKNOWN}
    assert {one.strict for one in operations} == {True, False}
    assert {one.quorum for one in operations} == {1, 2, 3, 5}
    puts = [one for one in operations if one.kind == PUT and one.basis is not None]
    assert {one.basis.kind for one in puts if one.basis is not None} == {GET, PUT, UPDATE}
    assert any(one.kind == DELETE and one.basis is None for one in operations)
    assert len({one.key for one in operations}) == KEYS
    hottest = max(len(ones) for ones in scenario.history.by_key().values())
    assert hottest > 5 * len(operations) / KEYS


def test_an_ending_is_what_is_on_the_disks() -> None:
    scenario = Scenario(7)
    scenario.load(5.0)
    ending = scenario.settle()
    assert ending.left == ()
    assert ending.starts == 5
    written = {key for key, read in ending.reads.items() if read.returned}
    assert written
    for key in scenario.keys:
        assert len(ending.owners[key]) == scenario.history.copies[key.bucket]
        assert {name for name, packed in ending.copies[key].items() if packed} == (
            set(ending.owners[key]) if key in written else set()
        )


def test_a_damaged_copy_is_no_copy() -> None:
    scenario = Scenario(7)
    scenario.load(5.0)
    ending = scenario.settle()
    key = next(key for key, read in ending.reads.items() if read.returned)
    owner = ending.owners[key][0]
    slot = scenario._plans[key].slot
    scenario.sim.machines[owner].engine.corrupt(slot)
    assert owner not in scenario.copies(key)


def test_what_does_not_run_in_the_end_is_told() -> None:
    scenario = Scenario(8)
    scenario.load(1.0)
    scenario.sim.kill("n2")
    ending = scenario.settle()
    found = checkers.check(scenario.history, ending)
    assert "n2 does not run: killed" in [one.text for one in found if one.checker == "drained"]
    assert any("cannot be read from all owners" in one.text for one in found)


def test_a_hint_that_is_left_is_told() -> None:
    scenario = Scenario(8)
    scenario.load(1.0)
    engine = scenario.sim.machines["n3"].engine
    slot = scenario._plans[scenario.keys[0]].slot
    engine.write_batch({HINTS + b"n9\0" + slot: b"whatever no node of that name will ever take"}, {})
    ending = scenario.settle()
    assert "n3 still keeps hints, 1 or more" in ending.left


def test_a_log_that_does_not_say_what_there_is_is_told() -> None:
    scenario = Scenario(8)
    scenario.load(10.0)
    assert scenario.settle().left == ()
    register = scenario.sim.machines["n3"].node.ring_log._register
    entry = register.entry
    assert entry is not None
    register.entry = entry._replace(number=entry.number - 1)
    (text,) = scenario._left()
    assert text.startswith("the nodes know different last entries")
    for machine in scenario.sim.machines.values():
        machine.node.ring_log._register.entry = entry._replace(rows=entry.rows[1:], buckets=())
    named, bucket = scenario._left()
    assert named.startswith("the ring's log names {'n2'")
    assert bucket == "the ring's log knows no bucket wide"
    for machine in scenario.sim.machines.values():
        machine.node.ring_log._register.entry = None
    assert scenario._left() == ["the ring has no log"]


def test_a_queue_that_is_left_is_told() -> None:
    scenario = Scenario(8)
    scenario.load(1.0)
    node = scenario.sim.machines["n3"].node
    node._refusals.update({str(number): "why" for number in range(LEFT_MAX + 1)})
    ending = scenario.settle()
    assert ending.left == (f"n3 still has {LEFT_MAX + 1} items in Node._refusals",)


def test_a_listener_hears_everything() -> None:
    heard: list[What] = []
    play(9, faults=Mishaps, hours=0.0005, listener=lambda now, source, target, what: heard.append(what))
    assert any(isinstance(what, Store) for what in heard)
    assert any(isinstance(what, str) for what in heard)


@pytest.mark.parametrize("nodes", [3, 5, 8])
def test_every_node_compares_all_that_it_has_within_the_time_to_settle(nodes: int) -> None:
    sim = Scenario(1, nodes=nodes).sim
    assert nodes * sim.config.exchange_interval_s + sim.config.scrub_s < SETTLE_WITHIN_S / 2
    sim.run_for(2 * nodes * sim.config.exchange_interval_s)
    for machine in sim.machines.values():
        assert machine.node.compared_since > 0


def test_a_write_that_left_its_coordinator_in_a_hint_alone_is_seen() -> None:
    scenario = Scenario(8)
    key = scenario.keys[0]
    slot = scenario._plans[key].slot
    dot = Dot(actor(b"start 77", 0), 1)
    value = values.encode(4711, bytes_max=100)
    record = Record.EMPTY.write(Context.EMPTY, dot, b"request.request.", value)
    hint = StoreHint(1, 1, slot, key.key.encode(), record.pack(), "n3", 0, True)
    scenario.sim.trace.note(1.0, "n1", "n2", hint)
    assert scenario.history.sightings.dots_of(4711) == [dot]
