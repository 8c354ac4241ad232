"""Virtual time."""

from __future__ import annotations

import pytest

from dyno.simulator.kernel import Kernel


def test_actions_happen_in_the_order_of_their_times_and_then_of_their_planning() -> None:
    kernel = Kernel(1)
    happened: list[tuple[str, float]] = []

    def note(what: str) -> None:
        happened.append((what, kernel.now))

    kernel.at(2.0, note, "third")
    kernel.after(1.0, note, "first")
    kernel.at(2.0, note, "fourth")
    kernel.after(1.5, note, "second")
    kernel.run_for(5.0)
    assert happened == [("first", 1.0), ("second", 1.5), ("third", 2.0), ("fourth", 2.0)]
    assert kernel.now == 5.0


def test_actions_may_plan_actions() -> None:
    kernel = Kernel(1)
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(kernel.now)
        kernel.after(1.0, tick)

    tick()
    kernel.run_for(3.5)
    assert ticks == [0.0, 1.0, 2.0, 3.0]


def test_a_time_that_is_over_means_now() -> None:
    kernel = Kernel(1)
    happened: list[float] = []
    kernel.run_for(3.0)
    kernel.at(1.0, lambda: happened.append(kernel.now))
    kernel.run_for(0.0)
    assert happened == [3.0]


def test_time_stops_when_the_condition_holds() -> None:
    kernel = Kernel(1)
    happened: list[int] = []
    for number in range(5):
        kernel.at(float(number), happened.append, number)
    assert kernel.run_until(lambda: len(happened) == 3, limit_s=10)
    assert kernel.now == 2.0
    assert kernel.run_until(lambda: True, limit_s=10)  # it held already
    assert kernel.now == 2.0
    assert not kernel.run_until(lambda: False, limit_s=10)
    assert (kernel.now, happened) == (12.0, [0, 1, 2, 3, 4])


def test_a_loop_at_one_instant_is_found() -> None:
    kernel = Kernel(1)

    def again() -> None:
        kernel.after(0.0, again)

    again()
    with pytest.raises(AssertionError, match="time stands still"):
        kernel.run_for(1.0)


def test_every_purpose_has_dice_of_its_own() -> None:
    one, other, again = Kernel(1), Kernel(2), Kernel(1)
    rolls = one.random("a").random()
    assert again.random("b").random() != rolls
    assert again.random("a").random() == rolls
    assert other.random("a").random() != rolls
