"""A plan of faults: random, reproducible, and over at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dyno.errors import DynoError
from dyno.simulator.faults import DESCRIPTIONS, DESTRUCTIVE, FAULTS, HARMLESS, Faults
from dyno.simulator.simulation import Simulation

STORM = """
from dyno.simulator.faults import FAULTS, HARMLESS, Faults
from dyno.simulator.simulation import Simulation

sim = Simulation(seed=11)
sim.add_cluster(5)
clients = [sim.client("n1", "n3", "n5") for _ in range(3)]
faults = Faults(sim, kinds=HARMLESS, until_s=sim.now + 40.0, mean_gap_s=1.0)
dice = sim.random("load")
for number in range(800):
    client = clients[number % 3]
    if dice.random() < 0.5:
        client.begin_put("bucket", f"key {number % 40}", number)
    else:
        client.begin_get("bucket", f"key {number % 40}")
    sim.run_for(0.05)
faults.end()
sim.run_for(30.0)
print(sim.digest(), sim.events, sorted(faults.counts.items()))
"""


def a_sim(seed: int = 1, size: int = 5) -> Simulation:
    sim = Simulation(seed)
    sim.add_cluster(size)
    return sim


def test_every_fault_has_a_name_and_a_line_about_it() -> None:
    assert len(FAULTS) == len(set(FAULTS)) == len(DESCRIPTIONS) >= 20
    assert set(DESTRUCTIVE) | set(HARMLESS) == set(FAULTS)
    assert not set(DESTRUCTIVE) & set(HARMLESS)
    assert all("\n" not in line and len(line) < 100 for line in DESCRIPTIONS.values())
    sim = a_sim()
    faults = Faults(sim, kinds=FAULTS, until_s=0.0)
    assert set(faults._begins) == set(FAULTS)


def test_an_unknown_kind_is_found_out() -> None:
    with pytest.raises(AssertionError, match="there are no faults named flood, fire"):
        Faults(a_sim(), kinds=["crash", "flood", "fire"], until_s=1.0)


def test_the_same_seed_is_the_same_storm_under_any_hash_seed() -> None:
    printed: list[str] = []
    exec(STORM, {"print": lambda *parts: printed.append(" ".join(map(str, parts)))})
    root = Path(__file__).parents[2]
    for hash_seed in ("0", "4242"):
        there = subprocess.run(
            [sys.executable, "-c", STORM],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert there.stdout.strip() == printed[0]


def test_other_seeds_are_other_storms() -> None:
    told = []
    for seed in (1, 2):
        sim = a_sim(seed)
        Faults(sim, kinds=HARMLESS, until_s=60.0)
        sim.run_for(60)
        told.append([line[14:] for line in sim.story(5000).splitlines() if "  faults  " in line])
    assert told[0] != told[1]
    assert min(len(lines) for lines in told) > 10


@pytest.mark.parametrize("seed", range(4))
def test_after_the_end_everything_is_quiet_and_works(seed: int) -> None:
    sim = a_sim(seed)
    client = sim.client(*sim.machines)
    faults = Faults(sim, kinds=HARMLESS, until_s=sim.now + 60.0, mean_gap_s=0.5)
    while sim.now < 60.0:
        client.begin_put("bucket", f"key {int(sim.now * 10) % 30}", 1)
        sim.run_for(0.1)
    assert sum(faults.counts.values()) > 30
    faults.end()
    faults.end()
    assert not faults.under_way
    assert not sim.network.cuts()
    sim.run_for(30)
    assert sim.agreed()
    for number in range(30):
        client.put("bucket", f"key {number}", 2, w=3)
    counts = dict(faults.counts)
    sim.run_for(60)
    assert faults.counts == counts


def test_none_begins_after_its_time_and_each_ends_by_itself() -> None:
    sim = a_sim()
    faults = Faults(sim, kinds=["partition", "loss", "pause"], until_s=20.0, mean_gap_s=0.5)
    sim.run_for(20)
    assert faults.under_way
    assert set(faults.counts) == {"partition", "loss", "pause"}
    counts = dict(faults.counts)
    sim.run_for(60)
    assert (faults.counts, faults.under_way) == (counts, [])
    assert sim.agreed()
    story = [line for line in sim.story(100_000).splitlines() if "  faults  " in line]
    assert len(story) == 2 * sum(counts.values())


def test_no_kinds_are_no_faults() -> None:
    sim = a_sim()
    faults = Faults(sim, kinds=[], until_s=60.0)
    sim.run_for(60)
    assert faults.counts == {}
    assert "  faults  " not in sim.story(5000)


def test_a_process_that_ends_by_itself_is_started_again_also_in_the_quiet_phase() -> None:
    sim = a_sim()
    faults = Faults(sim, kinds=[], until_s=0.0)
    for _ in range(2):
        sim.break_disk("n2")
        sim.client("n2").begin_put("bucket", "key", 1, w=3)
        assert sim.run_until(lambda: not sim.machines["n2"].running, limit_s=30)
        starts = sim.machines["n2"].starts
        sim.run_for(3)
        assert not sim.machines["n2"].running or sim.machines["n2"].engine.failing
        assert sim.machines["n2"].starts > starts
        sim.mend_disk("n2")
        sim.run_for(3)
        assert sim.machines["n2"].running
        faults.end()
    assert "n2 is started again, for it ended: the disk failed" in sim.story()


def test_users_get_on_during_a_storm() -> None:
    """A majority is there nearly all the time, so most of what they ask is done."""
    sim = a_sim(3)
    client = sim.client(*sim.machines)
    kinds = ("crash", "power", "outage", "stop", "pause", "disk-full", "disk-broken")
    Faults(sim, kinds=kinds, until_s=120.0, mean_gap_s=0.5)
    done = 0
    for number in range(300):
        try:
            client.put("bucket", f"key {number % 30}", number)
            done += 1
        except DynoError:
            pass
        sim.run_for(0.2)
    assert done > 150


def test_the_quiet_phase_mends_what_others_broke_too() -> None:
    sim = a_sim()
    client = sim.client(*sim.machines)
    faults = Faults(sim, kinds=[], until_s=0.0)
    sim.isolate("n1")
    sim.degrade_all(loss=1.0)
    sim.fill_disk("n2")
    sim.write_protect("n3")
    sim.break_disk("n4")
    sim.lie_about_commits("n4")
    sim.slow_disk("n5", commit_s=(60.0, 60.0))
    sim.pause("n1")
    faults.end()
    sim.run_for(30)
    assert sim.agreed()
    for number in range(30):
        client.put("bucket", f"key {number}", number, w=3)
    assert not sim.machines["n4"].engine.lies
