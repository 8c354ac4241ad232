"""`dyno repair` in a cluster: what differs is moved at once, and who is missing is named."""

from __future__ import annotations

from collections.abc import Callable

from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.causality.record import Record
from dyno.config import Config
from dyno.protocol.rows import ASIDE
from dyno.simulator.simulation import Simulation
from dyno.storage.cell import pack_cell
from dyno.wire.messages import AskRepair, RepairTold
from dyno.wire.repairs import unpack_reports
from tests.protocol.stories.cluster_harness import User, on_disk, slot_of

Simulate = Callable[..., Simulation]
KEY = b"key"
# Nothing but a repair brings back what somebody missed.
ALONE = Config(hints_bytes_max=1, exchange_interval_s=86_400.0)


def behind(sim: Simulation, node: str, *keys: bytes) -> None:
    """Writes that a node has missed, and all links whole again."""
    others = [name for name in sim.machines if name != node]
    for other in others:
        sim.cut(node, other)
    for key in keys or (KEY,):
        User(sim, others[0]).put(key, b"missed")
    for other in others:
        sim.drop_links(node, other)
    sim.heal_all()
    assert sim.run_until(sim.agreed, limit_s=60)


def test_a_node_that_was_behind_has_everything_when_it_is_done(simulate: Simulate) -> None:
    sim = simulate(3, config=ALONE)
    keys = [b"key %d" % number for number in range(20)]
    behind(sim, "n3", *keys)
    assert on_disk(sim, keys[0])["n3"] == b""
    progress = sim.client("n1").repair()
    assert progress["done"]
    assert (progress["pairs"], progress["compared"], progress["unreached"]) == (3, 3, {})
    assert 20 <= progress["sent"] + progress["received"] <= 40, "both others may bring it"
    assert progress["keys"] >= 40
    for key in keys:
        assert len(set(on_disk(sim, key).values())) == 1
    again = sim.client("n1").repair()
    assert (again["done"], again["sent"], again["received"], again["keys"]) == (True, 0, 0, 60)


def test_a_bucket_of_its_own_number_of_copies(simulate: Simulate) -> None:
    sim = simulate(3, config=ALONE)
    client = sim.client("n1")
    client.create_bucket("pair", n=2)
    behind(sim, "n3")
    assert client.repair("pair")["done"]
    assert client.repair("never created")["done"]
    assert len(set(on_disk(sim, KEY).values())) == 1


def test_a_node_that_is_down_is_named_and_the_others_are_repaired(simulate: Simulate) -> None:
    sim = simulate(4, config=ALONE)
    behind(sim, "n3")
    sim.kill("n4")
    progress = sim.client("n1").repair()
    assert not progress["done"]
    assert list(progress["unreached"]) == ["n4"]
    assert (progress["pairs"], progress["compared"]) == (6, 3)
    held = on_disk(sim, KEY)
    living = {record for name, record in held.items() if name != "n4" and record}
    assert len(living) == 1
    sim.restart("n4")
    assert sim.run_until(sim.agreed, limit_s=60)
    assert sim.client("n1").repair()["done"]


def test_a_node_that_dies_while_it_repairs_and_comes_back_is_waited_for(simulate: Simulate) -> None:
    sim = simulate(3, config=ALONE)
    behind(sim, "n3", *[b"key %d" % number for number in range(50)])
    sim.kill("n2", after_effects=60)
    sim._kernel.after(2.0, sim.restart, "n2")
    progress = sim.client("n1").repair()
    assert progress["done"]
    assert len(set(on_disk(sim, b"key 7").values())) == 1


def test_what_one_node_has_set_aside_comes_back_to_all(simulate: Simulate) -> None:
    sim = simulate(3, config=ALONE)
    slot, _ = slot_of(sim, KEY)
    record = Record.EMPTY.write(Context.EMPTY, Dot(actor(b"start 55", 0), 1), b"r" * 16, b"old")
    row = {ASIDE + slot: pack_cell(KEY, b"", record.pack())}
    sim.machines["n2"].engine.write_batch(row, {})
    assert sim.client("n1").repair()["done"]
    assert set(on_disk(sim, KEY).values()) == {b""}
    progress = sim.client("n1").repair(quarantine=True)
    assert (progress["done"], progress["merged"], progress["aside"]) == (True, 1, 0)
    assert set(on_disk(sim, KEY).values()) == {record.pack()}
    assert sim.client("n1").repair(quarantine=True)["merged"] == 0


def test_two_operators_at_once(simulate: Simulate) -> None:
    sim = simulate(3, config=ALONE)
    behind(sim, "n3", *[b"key %d" % number for number in range(50)])
    one = sim.client("n1")
    other = sim.stranger("n2")
    other.send(AskRepair(1, b"o" * 16, "", False))
    assert one.repair()["done"]
    other.ask(AskRepair(2, b"o" * 16, "", False))
    sim.run_for(1.0)
    (answer,) = other.ask(AskRepair(3, b"o" * 16, "", False))
    assert isinstance(answer, RepairTold)
    open_with = {
        report.node: [peer.name for peer in report.peers] for report in unpack_reports(answer.reports)
    }
    assert open_with == {"n1": [], "n2": ["n1"], "n3": ["n1", "n2"]}, "the first of two knows"
    assert len(set(on_disk(sim, b"key 7").values())) == 1


def test_what_was_repaired_is_told_by_its_reason(simulate: Simulate) -> None:
    sim = simulate(3, config=ALONE)
    behind(sim, "n3")
    User(sim, "n1").get(KEY, r=3)
    sim.run_for(0.5)
    told = sim.client("n1").repairs()
    assert told["n1"]["read_repairs"] == 1
    assert told["n1"]["aside"] == 0
    assert set(told["n1"]["compared_s"]) == {"n2", "n3"}
    sim.client("n1").repair()
    told = sim.client("n1").repairs()
    assert all(seconds is not None for seconds in told["n1"]["compared_s"].values())
