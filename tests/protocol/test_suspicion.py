"""Suspects and the time they have left."""

from __future__ import annotations

from dyno.protocol.suspicion import Suspicions, suspicion_timeout_s
from tests.protocol.membership_harness import a_member

START = a_member().start


def test_the_time_to_refute_grows_with_the_logarithm_of_the_cluster():
    def timeout_s(members: int) -> float:
        return suspicion_timeout_s(members=members, mult=4.0, probe_interval_s=0.5)

    assert timeout_s(0) == timeout_s(1) == timeout_s(10) == 2.0
    assert timeout_s(100) == 4.0
    assert timeout_s(1000) == 6.0


def test_a_suspect_that_stays_silent_runs_out_of_time_once():
    suspicions = Suspicions()
    assert suspicions.deadline() is None
    assert suspicions.expired(0.0) == []
    suspicions.raised(a_member(), now=1.0, timeout_s=2.0)
    suspicions.raised(a_member("n3"), now=1.5, timeout_s=2.0)
    assert suspicions.deadline() == 3.0
    assert suspicions.expired(2.9) == []
    assert suspicions.expired(3.0) == [("n2", START, 0)]
    assert suspicions.expired(3.0) == []
    assert suspicions.deadline() == 3.5


def test_hearing_of_a_suspicion_again_gives_no_more_time():
    suspicions = Suspicions()
    suspicions.raised(a_member(), now=1.0, timeout_s=2.0)
    suspicions.raised(a_member(), now=2.5, timeout_s=2.0)
    assert suspicions.deadline() == 3.0


def test_a_suspicion_of_a_later_incarnation_is_a_new_one():
    suspicions = Suspicions()
    suspicions.raised(a_member(), now=1.0, timeout_s=2.0)
    suspicions.raised(a_member(incarnation=1), now=2.5, timeout_s=2.0)
    assert suspicions.expired(4.5) == [("n2", START, 1)]


def test_who_refutes_is_no_suspect():
    suspicions = Suspicions()
    suspicions.raised(a_member(), now=1.0, timeout_s=2.0)
    suspicions.cleared(a_member(incarnation=1))
    suspicions.cleared(a_member(incarnation=1))
    assert suspicions.deadline() is None


def test_time_in_which_this_process_did_not_run_is_given_back():
    suspicions = Suspicions()
    suspicions.raised(a_member(), now=1.0, timeout_s=2.0)
    suspicions.postpone(60.0)
    assert suspicions.expired(62.0) == []
    assert suspicions.expired(63.0) == [("n2", START, 0)]
