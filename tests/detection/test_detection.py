"""The experiment on failure detection measures what it says, and what it has shown stays true."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.detection.__main__ import main, table_row
from tests.detection.cluster import BLOCKED, CUT_OFF, KINDS, STOPPED, Cluster
from tests.detection.grid import (
    FREEZE_MS,
    FROZEN,
    THAW_MS,
    Interval,
    Latency,
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


# ── the command ──


def called(arguments: str) -> int:
    return main(arguments.split())


def test_a_row_of_the_table_has_means_counts_and_percentiles():
    runs = [Interval(3, 1, 2.0, 100.0), Interval(0, 0, 4.0, 300.0)]
    latencies = [Latency([float(second) for second in range(100)], [None, *[5.0] * 99], 0.0, 0.0)]
    assert table_row("dyno", runs, latencies) == [
        *["dyno", "1.5", "0.5", "3", "1"],
        *["50.0 s", "99.0 s", "99.0 s"],
        *["5.0 s", "never", "never"],
        *["3.0", "200"],
    ]
    many = [Interval(30_000, 12_345, 2.0, 100.0), Interval(0, 0, 4.0, 300.0)]
    assert table_row("SWIM", many, latencies)[1:3] == ["15000", "6172"]


def test_growth_has_a_row_for_each_size(capsys):
    assert called("--growth --members 4,2 --latency-runs 1 --processes 1") == 0
    rows = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith("| ") and "---" not in line
    ]
    assert [row.split(" | ")[0] for row in rows] == ["| members", "| 4", "| 2"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--sample 0", "'0' is no whole number from 1 to 432"),
        ("--sample 433", "'433' is no whole number from 1 to 432"),
        ("--sample many", "'many' is no whole number from 1 to 432"),
        ("--processes 0", "'0' is no whole number from 1 to 1024"),
        ("--latency-runs 0", "'0' is no whole number from 1 to 10000"),
        ("--detectors dyno,phi", "'phi' is no detector; there are SWIM, Lifeguard, dyno"),
        ("--alpha 0", "'0' is no number from 1 to 1000"),
        ("--beta nan", "'nan' is no number from 1 to 1000"),
        ("--growth --members 16,1", "'1' is no whole number from 2 to 10000"),
        ("--growth --members ,", "'' is no whole number from 2 to 10000"),
        ("--freeze solid", "invalid choice: 'solid'"),
    ],
)
def test_wrong_options_are_refused_with_a_word_about_them(arguments, says, capsys):
    with pytest.raises(SystemExit) as stopped:
        called(arguments)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_help_explains_what_is_run(capsys):
    with pytest.raises(SystemExit) as stopped:
        called("--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("Measure failure detection")
    for option in (
        "sample",
        "seed",
        "processes",
        "freeze",
        "detectors",
        "alpha",
        "beta",
        "growth",
        "members",
    ):
        assert f"--{option}" in text
