"""Disks that are lost or set back, and names that are claimed twice: nothing acknowledged is lost, and no dot
is issued twice. Stories are also told with the mechanism switched off that carries them, and then fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dyno.causality.mint import Minter
from dyno.causality.record import Record
from dyno.config import Config
from dyno.protocol import birth
from dyno.protocol.commits import Commits
from dyno.protocol.recovery import Recovery
from dyno.simulator.machine import Machine
from dyno.simulator.simulation import Simulation, address_of
from dyno.storage.memory import MemoryEngine
from dyno.wire.messages import ALL, STRICT, Found
from tests.protocol.stories.cluster_harness import User, failed, on_disk, values

Simulate = Callable[..., Simulation]
Off = pytest.MonkeyPatch
KEY = b"key"
KEYS = [b"key %d" % number for number in range(20)]
SLOW = Config(exchange_rate_bytes_max=50)  # so that recovering takes a while


def wipe(sim: Simulation, name: str) -> Machine:
    """A new, empty disk; the node is to join through the others."""
    machine = sim.machines[name]
    machine.engine = MemoryEngine()
    others = tuple(address_of(other) for other in sim.machines if other != name)
    machine.birth = machine.birth._replace(seeds=others)
    return machine


def lose(sim: Simulation, name: str) -> Machine:
    """kill -9, and a new disk."""
    sim.kill(name)
    machine = wipe(sim, name)
    sim.restart(name)
    return machine


def set_back(sim: Simulation, name: str, engine: MemoryEngine) -> Machine:
    """kill -9, and an old copy of the disk."""
    if sim.machines[name].running:
        sim.kill(name)
    machine = sim.machines[name]
    machine.engine = engine.copy()
    sim.restart(name)
    return machine


def whole(sim: Simulation) -> bool:
    return all(m.ready and not m.node.recovering for m in sim.machines.values() if m.running)


def rejoin(sim: Simulation, name: str) -> None:
    """An isolated machine is there again; what was sent to it meanwhile is lost."""
    for other in sim.machines:
        if other != name:
            sim.drop_links(name, other)
    sim.heal_all()


def settle(sim: Simulation) -> None:
    assert sim.run_until(lambda: sim.agreed() and whole(sim), limit_s=120)


def equal_everywhere(sim: Simulation, *keys: bytes) -> bool:
    return all(len(set(on_disk(sim, key).values())) == 1 for key in keys)


def believing(off: Off) -> None:
    """No copy is ever weak."""
    off.setattr(Recovery, "is_weak", lambda self, slot: False)


def minting_under_one_start_id(off: Off) -> None:
    off.setattr(birth, "Minter", lambda start: Minter(b"the same"))


# ── dots of those who forgot [kv679] ──


def a_wiped_coordinator_writes_again(sim: Simulation) -> None:
    """kv679, 1: it finds nothing, and would begin to count anew."""
    User(sim, "n1").put(KEY, b"acknowledged", w=ALL)
    machine = lose(sim, "n1")
    assert sim.run_until(lambda: machine.ready and sim.agreed(), limit_s=60)
    sim.cut("n1", "n2")
    sim.cut("n1", "n3")
    sim.run_for(0.01)
    User(sim, "n1").ask_put(KEY, b"after the loss", w=1)
    sim.heal_all()
    settle(sim)
    assert values(User(sim, "n2").get(KEY, r=ALL)) == [b"acknowledged", b"after the loss"]


def a_coordinator_dies_before_its_own_commit(sim: Simulation) -> None:
    """kv679, 2: the others have the dot that it does not know of."""
    sim.machines["n1"].commit_s = (0.5, 0.5)
    User(sim, "n1").put(KEY, b"forgotten by n1")
    sim.kill("n1", commits=False)
    sim.machines["n1"].commit_s = (0.001, 0.001)
    sim.restart("n1")
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.isolate("n1")
    User(sim, "n1").ask_put(KEY, b"minted again", w=1)
    sim.heal_all()
    settle(sim)
    assert values(User(sim, "n2").get(KEY, r=ALL)) == [b"forgotten by n1", b"minted again"]


def an_old_clock_comes_to_a_node_that_forgot(sim: Simulation) -> None:
    """kv679, 2 and 5: n1 is set back to before its second write, hears of the first one alone, from a node
    that knows no more, and writes on top of that."""
    token = User(sim, "n1").put(KEY, b"first", w=ALL)
    sim.isolate("n3")
    old = sim.machines["n1"].engine.copy()
    User(sim, "n1").put(KEY, b"second", token)
    sim.kill("n1")
    sim.kill("n2")
    rejoin(sim, "n3")
    set_back(sim, "n1", old)
    assert sim.run_until(sim.agreed, limit_s=60)
    User(sim, "n1").put(KEY, b"third", token)
    sim.restart("n2")
    settle(sim)
    assert values(User(sim, "n3").get(KEY, r=ALL)) == [b"second", b"third"]


def a_write_that_the_forgetful_node_did_not_coordinate(sim: Simulation) -> None:
    """kv679, 5: n2 coordinates on top of what n1 minted, n1 forgets both and mints for the same key."""
    token = User(sim, "n1").put(KEY, b"of n1", w=ALL)
    User(sim, "n2").put(KEY, b"of n2", token, w=ALL)
    machine = lose(sim, "n1")
    assert sim.run_until(lambda: machine.ready, limit_s=60)
    User(sim, "n1").put(KEY, b"of n1 again", w=1)
    settle(sim)
    assert values(User(sim, "n3").get(KEY, r=ALL)) == [b"of n1 again", b"of n2"]


FORGETFUL = [
    a_wiped_coordinator_writes_again,
    a_coordinator_dies_before_its_own_commit,
    an_old_clock_comes_to_a_node_that_forgot,
    a_write_that_the_forgetful_node_did_not_coordinate,
]


@pytest.mark.parametrize("story", FORGETFUL)
@pytest.mark.parametrize("seed", range(3))
def test_no_dot_is_issued_twice(simulate: Simulate, story: Callable[[Simulation], None], seed: int) -> None:
    story(simulate(3, seed=seed))


@pytest.mark.parametrize("story", FORGETFUL)
def test_with_one_start_id_for_all_starts_it_would_be(
    simulate: Simulate, monkeypatch: Off, story: Callable[[Simulation], None]
) -> None:
    minting_under_one_start_id(monkeypatch)
    with pytest.raises(AssertionError):
        story(simulate(3))


# ── an old copy of a disk ──


def an_old_copy_is_asked_by_one_that_is_behind(sim: Simulation) -> None:
    """What n1 and n2 acknowledged n1 has forgotten, and n3 never heard."""
    tokens = {key: User(sim, "n1").put(key, b"one", w=ALL) for key in KEYS}
    old = sim.machines["n1"].engine.copy()
    sim.isolate("n3")
    for key in KEYS:
        User(sim, "n1").put(key, b"two", tokens[key])
    rejoin(sim, "n3")
    sim.kill("n1")
    set_back(sim, "n1", old)
    assert sim.run_until(sim.agreed, limit_s=60)
    for key in KEYS:
        for node in ("n3", "n1"):
            assert values(User(sim, node).get(key)) == [b"two"]
    settle(sim)
    assert equal_everywhere(sim, *KEYS)


def a_lost_disk_is_asked_by_one_that_is_behind(sim: Simulation) -> None:
    tokens = {key: User(sim, "n1").put(key, b"one", w=ALL) for key in KEYS}
    sim.isolate("n3")
    for key in KEYS:
        User(sim, "n1").put(key, b"two", tokens[key])
    machine = lose(sim, "n1")  # with its hints for n3
    rejoin(sim, "n3")
    assert sim.run_until(lambda: machine.ready and sim.agreed(), limit_s=60)
    for key in KEYS:
        for node in ("n3", "n1"):
            assert values(User(sim, node).get(key)) == [b"two"]
    settle(sim)
    assert equal_everywhere(sim, *KEYS)


def test_strict_reads_never_count_a_disk_that_forgot_and_say_so(simulate: Simulate) -> None:
    sim = simulate(3, config=SLOW)
    tokens = {key: User(sim, "n1").put(key, b"one", w=ALL) for key in KEYS}
    old = sim.machines["n1"].engine.copy()
    sim.isolate("n3")
    for key in KEYS:
        User(sim, "n1").put(key, b"two", tokens[key])
    sim.run_for(0.01)
    sim.kill("n1")
    rejoin(sim, "n3")
    set_back(sim, "n1", old)
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.kill("n2")
    assert sim.machines["n1"].node.recovering
    answers = [User(sim, node).ask_get(KEYS[-1], pr=STRICT) for node in ("n3", "n1")]
    for answer in answers:
        assert failed(answer).code == "quorum"
        assert failed(answer).message.endswith("not complete again yet: n1")
    sim.restart("n2")
    assert sim.run_until(sim.agreed, limit_s=60)
    for key in KEYS:
        for node in ("n2", "n3", "n1"):
            answer = User(sim, node).ask_get(key, pr=STRICT)
            assert isinstance(answer, Found)
            assert values(Record.unpack(answer.record)) == [b"two"]


STALE = [an_old_copy_is_asked_by_one_that_is_behind, a_lost_disk_is_asked_by_one_that_is_behind]


@pytest.mark.parametrize("story", STALE)
@pytest.mark.parametrize("seed", range(3))
def test_no_read_counts_on_a_disk_that_forgot(
    simulate: Simulate, story: Callable[[Simulation], None], seed: int
) -> None:
    story(simulate(3, seed=seed, config=SLOW))


@pytest.mark.parametrize("story", STALE)
def test_without_weak_answers_reads_would_be_stale(
    simulate: Simulate, monkeypatch: Off, story: Callable[[Simulation], None]
) -> None:
    believing(monkeypatch)
    with pytest.raises(AssertionError):
        story(simulate(3, config=SLOW))


def an_old_copy_fills_up_again(sim: Simulation) -> None:
    old = sim.machines["n1"].engine.copy()
    directory = sim.machines["n1"].node.membership.me.directory
    for key in KEYS:
        User(sim, "n1").put(key, b"value", w=ALL)
    machine = set_back(sim, "n1", old)
    assert not any(on_disk(sim, key)["n1"] for key in KEYS)
    settle(sim)
    assert equal_everywhere(sim, *KEYS)
    me = machine.node.membership.me
    assert me.directory != directory
    assert machine.engine.get_meta("directory") == me.directory
    for other in ("n2", "n3"):
        assert sim.machines[other].node.membership.table.seated("n1") == me
    assert "this data directory is an old copy" in sim.story(5000)


@pytest.mark.parametrize("seed", range(5))
def test_an_old_copy_takes_a_new_id_and_fills_up_again_by_itself(simulate: Simulate, seed: int) -> None:
    sim = simulate(3, seed=seed)
    an_old_copy_fills_up_again(sim)
    before = sim.story(5000).count("is an old copy")
    sim.kill("n1")
    sim.restart("n1")
    settle(sim)
    assert sim.story(5000).count("is an old copy") == before  # once is enough


def test_without_commit_numbers_it_would_not_know(simulate: Simulate, monkeypatch: Off) -> None:
    monkeypatch.setattr(Commits, "from_before", lambda self, hello: 0)
    with pytest.raises(AssertionError):
        an_old_copy_fills_up_again(simulate(3))


@pytest.mark.parametrize("commits", [True, False])
@pytest.mark.parametrize("after_s", [0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.05, 0.1, 0.3])
def test_wherever_an_old_copy_dies_it_ends_whole(simulate: Simulate, after_s: float, commits: bool) -> None:
    sim = simulate(3)
    old = sim.machines["n1"].engine.copy()
    for key in KEYS:
        User(sim, "n1").put(key, b"value", w=ALL)
    sim.run_for(0.01)
    set_back(sim, "n1", old)
    sim.run_for(after_s)
    sim.kill("n1", commits=commits)
    sim.restart("n1")
    settle(sim)
    assert equal_everywhere(sim, *KEYS)


def test_an_old_copy_that_has_written_more_than_it_lost_is_told_all_the_same(simulate: Simulate) -> None:
    sim = simulate(3)
    sim.isolate("n3")
    old = sim.machines["n1"].engine.copy()
    User(sim, "n1").put(KEY, b"known to n2 alone")
    sim.run_for(2)
    sim.kill("n1")
    sim.kill("n2")
    rejoin(sim, "n3")
    set_back(sim, "n1", old)
    assert sim.run_until(sim.agreed, limit_s=60)
    for number in range(50):
        User(sim, "n1").put(b"another %d" % number, b"value")
    assert sim.machines["n1"].engine.commit_number > old.commit_number + 40
    sim.restart("n2")
    assert sim.run_until(lambda: "is an old copy" in sim.story(5000), limit_s=5)
    settle(sim)
    assert on_disk(sim, KEY)["n1"] == on_disk(sim, KEY)["n2"] != b""


def test_a_full_disk_holds_up_the_new_id_and_the_copy_stays_weak(simulate: Simulate) -> None:
    sim = simulate(3)
    old = sim.machines["n1"].engine.copy()
    for key in KEYS:
        User(sim, "n1").put(key, b"value", w=ALL)
    sim.kill("n1")
    machine = sim.machines["n1"]
    machine.engine = old.copy()
    sim.restart("n1")
    assert sim.run_until(lambda: machine.ready, limit_s=5)
    machine.engine.full = True
    sim.run_for(5)
    assert machine.node.recovering
    assert values(User(sim, "n1").get(KEYS[0])) == [b"value"]
    machine.engine.full = False
    settle(sim)
    assert equal_everywhere(sim, *KEYS)


# ── a disk that is lost ──


@pytest.mark.parametrize("name", ["n1", "n2"])
@pytest.mark.parametrize("seed", range(3))
def test_a_node_that_lost_its_disk_comes_back_while_others_write(
    simulate: Simulate, name: str, seed: int
) -> None:
    """The founder as well."""
    sim = simulate(3, seed=seed)
    client = sim.client("n1", "n2", "n3", timeout=20)
    for number in range(50):
        client.put("bucket", f"key {number}", number, w=3)
    machine = lose(sim, name)
    sim.run_for(0.1)
    number = 50
    while not machine.ready:
        client.put("bucket", f"key {number}", number)
        number += 1
        assert sim.now < 60
    settle(sim)
    assert machine.node.compared_since != 0
    keys = [f"key {n}".encode() for n in range(number)]
    assert all(on_disk(sim, key)[name] for key in keys[:50])
    assert [client.get("bucket", key, r=1).value for key in keys] == list(range(number))


@pytest.mark.parametrize("after_s", [0.001, 0.003, 0.005, 0.01, 0.05, 0.52, 0.54, 0.6, 1.0, 2.0])
def test_a_node_that_dies_half_way_into_its_old_seat_comes_again(simulate: Simulate, after_s: float) -> None:
    sim = simulate(3)
    for key in KEYS:
        User(sim, "n1").put(key, b"value", w=ALL)
    machine = lose(sim, "n2")
    sim.run_for(after_s)
    sim.kill("n2")
    User(sim, "n1").put(KEY, b"nobody waits for it")
    sim.restart("n2")
    assert sim.run_until(lambda: machine.ready, limit_s=60)
    settle(sim)
    assert equal_everywhere(sim, *KEYS)


def test_a_lost_disk_in_another_zone_is_refused(simulate: Simulate) -> None:
    sim = simulate(3)
    User(sim, "n1").put(KEY, b"value")
    sim.kill("n2")
    machine = wipe(sim, "n2")
    right = machine.birth
    machine.birth = right._replace(zone="elsewhere")
    sim.restart("n2")
    assert sim.run_until(lambda: not machine.running, limit_s=60)
    assert "keeps its place in it, with zone '' and weight 1.0" in str(machine.ended)
    machine.engine, machine.birth = MemoryEngine(), right
    sim.restart("n2")
    settle(sim)


def test_a_bucket_of_another_n_is_filled_up_too(simulate: Simulate) -> None:
    sim = simulate(5)
    client = sim.client("n1", "n2", "n3", "n4")
    client.create_bucket("wide", n=5)
    for number in range(50):
        client.put("wide", f"key {number}", number, w=5)
    machine = lose(sim, "n5")
    assert sim.run_until(lambda: machine.ready, limit_s=60)
    settle(sim)
    held = machine.engine.scan(b"", b"\xff\xff\xff", limit=1000)[0]
    assert len(held) == 50


# ── names claimed twice ──


def test_a_name_is_not_taken_from_a_live_node_while_the_cluster_holds_data(simulate: Simulate) -> None:
    sim = simulate(3)
    User(sim, "n1").put(KEY, b"value", w=ALL)
    sim.add_node("n4", join=["n1"], wait=False)
    thief = sim.machines["n4"]
    thief.kill()
    thief.engine = MemoryEngine()
    thief.birth = thief.birth._replace(name="n2")
    thief.start()
    assert sim.run_until(lambda: not thief.running, limit_s=60)
    assert "the name n2 is taken by a live process" in str(thief.ended)
    del sim.machines["n4"]
    settle(sim)
    assert values(User(sim, "n2").get(KEY, r=ALL)) == [b"value"]


@pytest.mark.parametrize("seed", range(5))
def test_a_disk_that_is_found_again_after_its_node_was_replaced_knows_it_is_old(
    simulate: Simulate, seed: int
) -> None:
    sim = simulate(3, seed=seed)
    User(sim, "n1").put(KEY, b"value", w=ALL)
    sim.kill("n2")
    old = sim.machines["n2"].engine
    directory = old.get_meta("directory")
    machine = wipe(sim, "n2")
    sim.restart("n2")
    assert sim.run_until(lambda: machine.ready, limit_s=60)
    settle(sim)
    sim.isolate("n3")
    for key in KEYS:
        User(sim, "n1").put(key, b"on n1 and the new n2")
    sim.kill("n2")
    rejoin(sim, "n3")
    machine.engine = old
    sim.restart("n2")
    settle(sim)
    for key in KEYS:
        assert on_disk(sim, key)["n2"] == on_disk(sim, key)["n1"] != b""
    assert machine.node.membership.me.directory != directory


# ── corrupt records ──


def damage(sim: Simulation, name: str, key: bytes) -> None:
    user = User(sim, name)
    request = user.put_request(key, b"")
    (slot,) = sim.machines[name].node.slots_read_by(request)
    sim.machines[name].engine.corrupt(slot)


def test_a_corrupt_record_is_healed_once_somebody_reads_it(simulate: Simulate) -> None:
    sim = simulate(3)
    User(sim, "n1").put(KEY, b"value", w=ALL)
    damage(sim, "n1", KEY)
    assert values(User(sim, "n1").get(KEY)) == [b"value"]
    sim.run_for(0.1)
    assert equal_everywhere(sim, KEY)
    assert values(User(sim, "n1").get(KEY, r=ALL)) == [b"value"]


def test_a_corrupt_record_that_nobody_reads_is_found_and_healed(simulate: Simulate) -> None:
    sim = simulate(3, config=Config(scrub_s=100.0))
    User(sim, "n1").put(KEY, b"value", w=ALL)
    damage(sim, "n2", KEY)
    sim.run_for(120)
    assert equal_everywhere(sim, KEY)


def test_a_corrupt_record_waits_for_all_other_owners_and_is_no_answer_until_then(simulate: Simulate) -> None:
    """What was acknowledged on n1 and n3 is corrupt on n1; n2 knows something else of the key."""
    sim = simulate(3)
    sim.isolate("n2")
    User(sim, "n1").put(KEY, b"on n1 and n3")
    sim.kill("n3")
    damage(sim, "n1", KEY)
    rejoin(sim, "n2")
    user = User(sim, "n2")
    user.ask_put(KEY, b"on n2", w=1)
    assert values(user.get(KEY, r=1)) == [b"on n2"]
    sim.run_for(10)
    assert User(sim, "n1").ask_get(KEY, r=2).__class__.__name__ == "Failed"
    sim.restart("n3")
    assert sim.run_until(sim.agreed, limit_s=60)
    sim.run_for(30)
    assert equal_everywhere(sim, KEY)
    assert values(Record.unpack(on_disk(sim, KEY)["n1"])) == [b"on n1 and n3", b"on n2"]


# ── all the time ──


@pytest.mark.parametrize("seed", range(3))
def test_copies_that_drifted_apart_become_equal_though_nobody_reads(simulate: Simulate, seed: int) -> None:
    sim = simulate(5, seed=seed)
    client = sim.client("n1", "n2", timeout=20)
    sim.kill("n4")
    sim.kill("n5")
    written: list[Any] = [client.begin_put("bucket", key.decode(), 1, w=1) for key in KEYS]
    sim.run_for(5)
    sim.restart("n4")
    sim.restart("n5")
    sim.run_for(60)
    assert any(one.error is None for one in written)
    for key in KEYS:
        records = [record for record in on_disk(sim, key).values() if record]
        assert len(records) in (0, 3)
        assert len(set(records)) <= 1
    since = [machine.node.compared_since for machine in sim.machines.values()]
    assert min(since) > sim.now - 45
