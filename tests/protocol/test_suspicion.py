"""Suspects and the time they have left."""

from __future__ import annotations

import pytest

from dyno.protocol.suspicion import Patience, Suspicions, patience
from dyno.wire.doubts import ACCUSERS_MAX, Doubt
from tests.protocol.membership_harness import a_member

START = a_member().start
TWO = Patience(2.0, 2.0, 0)
SHRINKING = Patience(min_s=2.0, max_s=12.0, confirmations=3)


def patience_for(members: int, *, mult: float = 4.0, max_mult: float = 6.0, careful: bool = True) -> Patience:
    return patience(members=members, mult=mult, max_mult=max_mult, probe_interval_s=0.5, careful=careful)


def accused(suspicions: Suspicions, *accusers: str, now: float = 1.0) -> bool:
    return suspicions.accused(a_member(), accusers, now=now)


def raised(*suspects: tuple[str, float], patience: Patience = TWO) -> Suspicions:
    suspicions = Suspicions()
    for name, now in suspects:
        suspicions.raised(a_member(name), now=now, patience=patience)
    return suspicions


def test_the_time_to_refute_grows_with_the_logarithm_of_the_cluster():
    assert [patience_for(members).min_s for members in (0, 1, 10, 100, 1000)] == [2.0, 2.0, 2.0, 4.0, 6.0]
    assert patience_for(100) == Patience(4.0, 24.0, 2, answer_s=0.5)
    assert patience_for(100, careful=False).answer_s == 0.0


def test_where_too_few_are_left_to_confirm_nobody_is_waited_for():
    assert patience_for(3) == Patience(2.0, 2.0, 0)
    assert patience_for(4) == Patience(2.0, 12.0, 2, answer_s=0.5)
    assert patience_for(100, mult=2.5).confirmations == 0
    assert patience_for(100, max_mult=1.0) == Patience(4.0, 4.0, 0)
    assert patience_for(100, mult=1000.0).confirmations == ACCUSERS_MAX - 1


def test_the_time_shrinks_with_the_logarithm_of_those_that_agree():
    assert [SHRINKING.timeout_s(k) for k in range(5)] == pytest.approx(
        [12.0, 7.0, 4.0752, 2.0, 2.0], abs=1e-4
    )


def test_a_suspect_that_stays_silent_runs_out_of_time_once():
    suspicions = Suspicions()
    assert suspicions.deadline() is None
    assert suspicions.expired(0.0) == []
    suspicions = raised(("n2", 1.0), ("n3", 1.5))
    assert suspicions.deadline() == 3.0
    assert suspicions.expired(2.9) == []
    assert suspicions.expired(3.0) == [("n2", START, 0)]
    assert suspicions.expired(3.0) == []
    assert suspicions.deadline() == 3.5


def test_each_further_accuser_takes_time_away_and_nobody_does_twice():
    suspicions = raised(("n2", 100.0), patience=SHRINKING)
    assert suspicions.deadline() == 112.0
    assert accused(suspicions, "n5")  # whoever was the first confirms nobody
    assert suspicions.deadline() == 112.0
    assert not accused(suspicions, "n5")
    assert accused(suspicions, "n5", "n6")
    assert suspicions.deadline() == 107.0
    assert accused(suspicions, "n7", "n8")
    assert suspicions.deadline() == 102.0
    assert not accused(suspicions, "n9")
    assert suspicions.doubt(a_member()) == Doubt("n2", START, 0, "n5,n6,n7,n8")


def test_the_order_in_which_accusers_are_heard_of_makes_no_difference():
    deadlines = set()
    for order in (["n5"], ["n6", "n5"]), (["n6"], ["n5"]), (["n6", "n5"], ["n6"]):
        suspicions = raised(("n2", 1.0), patience=SHRINKING)
        for accusers in order:
            accused(suspicions, *accusers)
        deadlines.add(suspicions.deadline())
    assert deadlines == {8.0}


def test_a_suspicion_that_enough_confirm_late_is_over_at_once():
    suspicions = raised(("n2", 1.0), patience=SHRINKING)
    accused(suspicions, "n5", "n6", "n7", "n8")
    assert suspicions.expired(9.0) == [("n2", START, 0)]


def test_accusers_of_another_incarnation_or_of_nobody_that_is_suspected_count_for_nothing():
    suspicions = raised(("n2", 1.0), patience=SHRINKING)
    assert not suspicions.accused(a_member(incarnation=1), ["n5"], now=1.0)
    assert not suspicions.accused(a_member("n3"), ["n5"], now=1.0)
    assert suspicions.doubt(a_member("n3")) == Doubt("n3", START, 0, "")


def test_hearing_of_a_suspicion_again_gives_no_more_time():
    assert raised(("n2", 1.0), ("n2", 2.5)).deadline() == 3.0


def test_a_suspicion_of_a_later_incarnation_is_a_new_one():
    suspicions = raised(("n2", 1.0), patience=SHRINKING)
    accused(suspicions, "n5", "n6")
    suspicions.raised(a_member(incarnation=1), now=2.5, patience=SHRINKING)
    assert suspicions.expired(14.5) == [("n2", START, 1)]


def test_a_suspicion_under_a_later_stamp_is_a_new_one_though_incarnations_begin_at_nothing_again():
    suspicions = Suspicions()
    suspicions.raised(a_member(incarnation=5), now=1.0, patience=TWO)
    suspicions.raised(a_member(stamp=2), now=2.0, patience=TWO)
    assert len(suspicions) == 1
    assert suspicions.expired(4.0) == [("n2", START, 0)]


def test_who_refutes_is_no_suspect():
    suspicions = raised(("n2", 1.0))
    suspicions.cleared(a_member(incarnation=1))
    suspicions.cleared(a_member(incarnation=1))
    assert suspicions.deadline() is None


def test_time_in_which_this_process_did_not_run_is_given_back():
    suspicions = raised(("n2", 1.0), patience=SHRINKING)
    suspicions.postpone(60.0)
    accused(suspicions, "n5", "n6", "n7", "n8")
    assert suspicions.expired(62.0) == []
    assert suspicions.expired(63.0) == [("n2", START, 0)]


def test_who_is_accused_by_all_at_once_still_has_the_time_to_answer():
    careful = SHRINKING._replace(answer_s=1.5)
    suspicions = raised(("n2", 1.0), patience=careful)
    assert accused(suspicions, "n5", "n6", "n7", "n8", now=9.0)
    assert suspicions.deadline() == 10.5
    suspicions = raised(("n2", 1.0), patience=careful)
    accused(suspicions, "n5", "n6", now=12.0)
    assert suspicions.deadline() == 13.0, "and no more than it had"
    suspicions = raised(("n2", 1.0), patience=careful)
    accused(suspicions, "n5", "n6", "n7", "n8", now=1.2)
    assert suspicions.deadline() == 3.0, "and no more where they were early"


def test_time_in_which_nobody_was_heard_is_given_back_where_others_could_have_confirmed():
    suspicions = raised(("n2", 1.0), patience=SHRINKING)
    suspicions.raised(a_member("n3"), now=1.0, patience=TWO)
    suspicions.prolong(5.0)
    assert suspicions.expired(3.0) == [("n3", START, 0)]
    assert suspicions.deadline() == 18.0
