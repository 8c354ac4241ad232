"""The experiment on failure detection measures what it says, and what it has shown stays true."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.detection.cluster import BLOCKED, CUT_OFF, KINDS, STOPPED, Cluster
from tests.detection.grid import (
    FREEZE_MS,
    FROZEN,
    THAW_MS,
    Point,
    detectors,
    grid,
    run_idle,
    run_interval,
    run_latency,
    sample,
)

DETECTORS = detectors(alpha=5.0, beta=6.0)
FEW = 32
LONG_FREEZES = Point(frozen=8, freeze_ms=16384, thaw_ms=4)


def test_the_grid_is_that_of_the_paper_and_a_sample_is_spread_over_it():
    assert len(set(grid())) == 432
    chosen = sample(48, seed=1)
    assert len(set(chosen)) == 48
    assert set(chosen) <= set(grid())
    assert chosen == sample(48, seed=1) != sample(48, seed=2)
    for at, values in enumerate((FROZEN, FREEZE_MS, THAW_MS)):
        times = Counter(point[at] for point in chosen)
        assert set(times) == set(values)
        assert max(times.values()) <= 48 // len(values) + 3
    assert sorted(sample(432, seed=1)) == sorted(grid())


def test_the_same_seed_gives_the_same_figures():
    runs = [
        run_interval(LONG_FREEZES, DETECTORS["Lifeguard"], BLOCKED, seed, FEW) for seed in ("1", "1", "2")
    ]
    assert runs[0] == runs[1] != runs[2]


def test_where_nothing_happens_a_member_sends_a_ping_and_an_ack_per_second():
    messages, size = run_idle(DETECTORS["dyno"], "1", FEW, 20.0)
    assert 1.9 < messages < 2.2
    assert 70 < size < 500


@pytest.mark.parametrize("kind", KINDS)
def test_plain_swim_takes_the_living_for_dead_and_dyno_does_not(kind):
    false = {
        name: run_interval(LONG_FREEZES, detector, kind, "1", FEW).false
        for name, detector in DETECTORS.items()
    }
    assert false["dyno"] == 0
    assert false["dyno"] <= false["Lifeguard"] <= false["SWIM"]
    assert kind == STOPPED or false["SWIM"] > 10


def test_whoever_freezes_for_good_is_found_out_no_later_than_by_lifeguard():
    lifeguard, dyno = (run_latency(4, DETECTORS[name], BLOCKED, "1", FEW) for name in ("Lifeguard", "dyno"))
    assert len(dyno.first) == len(dyno.everywhere) == 4
    for ours, theirs in zip(
        (*dyno.first, *dyno.everywhere), (*lifeguard.first, *lifeguard.everywhere), strict=True
    ):
        assert ours is not None
        assert theirs is not None
        assert 7.0 < ours < 14.0
        assert ours < theirs + 0.5


def test_what_is_sent_and_received_in_a_freeze_waits_for_its_end():
    for kind in KINDS:
        cluster = Cluster(8, detector=DETECTORS["dyno"], seed="1")
        cluster.run_until(5.0)
        before = cluster.messages["Ack"]
        cluster.freeze(range(8), kind)
        cluster.run_until(8.0)
        assert cluster.messages["Ack"] == before
        cluster.thaw(range(8))
        cluster.run_until(8.1)
        assert (cluster.messages["Ack"] > before) == (kind != STOPPED)
        assert not cluster.failures
    assert CUT_OFF in KINDS
