"""What is done for a seed, and how it is told."""

from __future__ import annotations

from dyno.simulator.faults import FAULTS, HARMLESS
from dyno.simulator.history import Key
from dyno.simulator.trial import Trial

SHORT = Trial(nodes=3, hours=0.002, faults=("crash", "partition"))


def test_a_run_tells_how_far_it_is_and_that_changes_nothing() -> None:
    shares: list[float] = []
    outcome = SHORT.run(1, progress=shares.append)
    assert outcome == SHORT.run(1)
    assert outcome.violations == ()
    assert list(outcome.faults) == ["crash", "partition"]
    assert shares == sorted(shares)
    assert 0 < shares[0] < shares[-1] <= 1


def test_the_story_of_a_key_is_of_the_same_run() -> None:
    key = Key("plain", "k0")
    whole = SHORT.tell(1, key)
    assert any("Store(" in line for line in whole)
    around = SHORT.tell(1, key, at=7.0)
    times = [float(line.split()[0]) for line in around]
    assert 2 <= min(times) <= max(times) <= 22


def test_the_command_that_runs_it_again_says_what_is_not_usual() -> None:
    assert Trial().command(7) == "dyno simulate --seed 7"
    assert Trial(3, 0.5, HARMLESS[:2]).command(7) == (
        "dyno simulate --seed 7 --nodes 3 --hours 0.5 --faults partition,oneway"
    )
    assert Trial(faults=()).command(0) == "dyno simulate --seed 0 --faults none"
    assert Trial().faults == FAULTS


def test_of_a_single_node_no_disk_is_destroyed() -> None:
    outcome = Trial(nodes=1, hours=0.004, faults=("wipe",)).run(9000)
    assert (outcome.violations, outcome.faults) == ((), {"wipe": 0})
    assert [Trial(nodes=nodes).holders_lost for nodes in (1, 2, 5)] == [0, 1, 1]
    assert Trial(faults=HARMLESS).holders_lost == 0
