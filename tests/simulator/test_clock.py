"""Clocks that are not true."""

from __future__ import annotations

import math

import pytest

from dyno.simulator.clock import Clock
from dyno.simulator.kernel import Kernel


def test_a_clock_is_true_until_something_is_done_to_it() -> None:
    kernel = Kernel(1)
    clock = Clock(kernel)
    kernel.run_for(0.1)
    kernel.run_for(0.2)
    assert clock.now == kernel.now
    assert clock.true_time(5.7) == 5.7


def test_a_clock_runs_too_fast_or_too_slow_and_never_jumps() -> None:
    kernel = Kernel(1)
    clock = Clock(kernel)
    kernel.run_for(100.0)
    clock.run_at(1.01)
    assert clock.now == 100.0
    kernel.run_for(100.0)
    assert clock.now == pytest.approx(201.0)
    clock.run_at(0.99)
    assert clock.now == pytest.approx(201.0)
    kernel.run_for(100.0)
    assert clock.now == pytest.approx(300.0)


def test_a_clock_begins_anew_with_its_machine_at_its_own_rate() -> None:
    kernel = Kernel(1)
    clock = Clock(kernel)
    clock.run_at(1.01)
    kernel.run_for(50.0)
    clock.begin_at(1000.0)
    assert clock.now == 1000.0
    kernel.run_for(100.0)
    assert clock.now == pytest.approx(1101.0)


def test_what_a_clock_shows_is_known_as_true_time() -> None:
    kernel = Kernel(1)
    clock = Clock(kernel)
    kernel.run_for(10.0)
    clock.begin_at(500.0)
    clock.run_at(0.99)
    assert clock.true_time(500.0) == 10.0
    assert clock.true_time(599.0) == pytest.approx(110.0)
    assert clock.true_time(math.inf) == math.inf
    assert clock.true_time(-math.inf) == -math.inf


def test_no_clock_is_that_wrong() -> None:
    clock = Clock(Kernel(1))
    with pytest.raises(AssertionError, match=r"no clock runs at 1\.5"):
        clock.run_at(1.5)
    with pytest.raises(AssertionError, match="begins before its start"):
        clock.begin_at(-1.0)
