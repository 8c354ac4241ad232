"""Gaps in a process's own clock, and times in which it heard nobody."""

from __future__ import annotations

from dyno.config import Config
from dyno.protocol.wakefulness import Wakefulness

CONFIG = Config(probe_interval_s=1.0, probe_timeout_s=0.5, suspicion_mult=2.0, suspicion_max_mult=3.0)


def awake(now: float = 10.0) -> Wakefulness:
    """It has looked once, and heard somebody then."""
    wakefulness = Wakefulness(CONFIG)
    assert wakefulness.deadline() is None
    assert wakefulness.look(now, due=None, hears=True) == (0.0, 0.0)
    return wakefulness


def test_the_first_look_of_a_process_finds_nothing_amiss():
    assert Wakefulness(CONFIG).look(99.0, due=1.0, hears=False) == (0.0, 0.0)


def test_it_looks_once_per_interval_so_that_no_pause_is_missed():
    wakefulness = awake()
    assert wakefulness.deadline() == 11.0
    wakefulness.look(10.7, due=11.0, hears=False)
    assert wakefulness.deadline() == 11.7


def test_to_be_a_little_late_is_no_pause():
    assert awake().look(11.5, due=11.0, hears=False) == (0.0, 0.0)


def test_a_pause_counts_from_when_it_should_have_woken_and_a_probe_timeout_longer():
    assert awake().look(71.0, due=11.0, hears=False) == (60.5, 0.0)
    assert awake().look(71.0, due=11.0, hears=True) == (60.5, 0.0)
    assert awake().look(71.0, due=9.0, hears=False) == (61.5, 0.0)  # not before it looked last


def test_a_pause_is_told_of_once():
    wakefulness = awake()
    wakefulness.look(71.0, due=11.0, hears=False)
    assert wakefulness.look(71.0, due=71.5, hears=False) == (0.0, 0.0)


def deaf(wakefulness: Wakefulness, *looks: float, hears: bool = False) -> list[float]:
    return [wakefulness.look(now, due=now, hears=hears)[1] for now in looks]


def test_what_follows_two_intervals_without_a_word_is_deafness():
    assert deaf(awake(), 11.0, 12.0, 12.25, 13.0, 14.0) == [0.0, 0.0, 0.25, 0.75, 1.0]


def test_deafness_is_over_with_the_first_word():
    wakefulness = awake()
    deaf(wakefulness, 11.0, 12.0, 13.0)
    assert deaf(wakefulness, 13.5, hears=True) == [0.0]
    assert deaf(wakefulness, 14.5, 15.5, 16.0) == [0.0, 0.0, 0.5]


def test_deafness_is_not_believed_for_ever_but_anew_each_time():
    wakefulness = awake()
    assert sum(deaf(wakefulness, *range(11, 40))) == 6.0
    deaf(wakefulness, 40.0, hears=True)
    assert sum(deaf(wakefulness, *range(41, 70))) == 6.0


def test_a_node_that_hears_nobody_knows_it_for_as_long_as_that_lasts():
    wakefulness = awake()
    assert not wakefulness.deaf
    deaf(wakefulness, 11.0, 11.9)
    assert not wakefulness.deaf
    deaf(wakefulness, 12.0)
    assert wakefulness.deaf
    deaf(wakefulness, *(float(second) for second in range(13, 99)))
    assert wakefulness.deaf
    deaf(wakefulness, 99.0, hears=True)
    assert not wakefulness.deaf
