"""What a cable does to what it carries."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from dyno.simulator.cable import BYTES_PER_S, STALL_MAX_S, STRAY_S, Cable, Quality, Waiting

TRIALS = 4000


def a_cable(**qualities: Any) -> Cable:
    return Cable(Quality(latency_s=(1.0, 2.0))._replace(**qualities), Random(1))


def share(counted: int) -> float:
    return counted / TRIALS


def test_a_sound_cable_takes_its_latency_and_no_more() -> None:
    cable = a_cable()
    for way in (cable.frame_s, cable.dial_s, lambda: cable.datagram_s(100)[0]):
        took = [way() for _ in range(TRIALS)]
        assert 1.0 <= min(took) < 1.1
        assert 1.9 < max(took) <= 2.0
    assert cable.transmission_s(int(BYTES_PER_S)) == 1.0
    assert cable.clear


def test_what_a_connection_loses_it_sends_again_after_growing_pauses() -> None:
    cable = a_cable(latency_s=(1.0, 1.0), loss=0.3)
    took = [cable.frame_s() for _ in range(TRIALS)]
    for again, at in enumerate((1.0, 1.2, 1.6, 2.4)):
        assert share(sum(abs(seconds - at) < 1e-9 for seconds in took)) == pytest.approx(
            0.7 * 0.3**again, abs=0.02
        )


def test_a_connection_that_loses_the_same_thing_again_and_again_gives_up() -> None:
    cable = a_cable(latency_s=(1.0, 1.0), loss=0.9)
    took = [cable.frame_s() for _ in range(TRIALS)]
    lasting = [seconds for seconds in took if seconds < math.inf]
    assert max(lasting) <= 1.0 + STALL_MAX_S
    assert share(took.count(math.inf)) == pytest.approx(0.9**7, abs=0.03)  # 0.2 s * (2**7 - 1) is over 15 s


def test_a_dial_is_tried_again_after_a_second_or_more() -> None:
    cable = a_cable(latency_s=(1.0, 1.0), loss=0.5)
    took = {cable.dial_s() for _ in range(TRIALS)}
    assert took == {1.0, 2.0, 4.0, 8.0, 16.0, math.inf}


def test_spikes_befall_a_share_of_everything() -> None:
    cable = a_cable(spikes=0.2, spike_s=50.0)
    for way in (cable.frame_s, cable.dial_s, lambda: cable.datagram_s(100)[0]):
        late = [seconds for _ in range(TRIALS) if (seconds := way()) > 2.0]
        assert share(len(late)) == pytest.approx(0.2, abs=0.03)
        assert sum(late) / len(late) == pytest.approx(51.5, rel=0.15)


def test_datagrams_are_lost() -> None:
    cable = a_cable(loss=0.3)
    assert share(sum(not cable.datagram_s(100) for _ in range(TRIALS))) == pytest.approx(0.3, abs=0.03)


def test_datagrams_arrive_twice() -> None:
    cable = a_cable(duplicates=0.3)
    arrivals = [cable.datagram_s(100) for _ in range(TRIALS)]
    assert share(sum(len(times) == 2 for times in arrivals)) == pytest.approx(0.3, abs=0.03)
    assert {len(times) for times in arrivals} == {1, 2}


def test_datagrams_go_astray_for_a_while() -> None:
    cable = a_cable(latency_s=(0.0, 0.0), strays=0.3)
    took = [cable.datagram_s(100)[0] for _ in range(TRIALS)]
    assert share(sum(seconds > 0.0 for seconds in took)) == pytest.approx(0.3, abs=0.03)
    assert 0.9 * STRAY_S < max(took) <= STRAY_S


def test_datagrams_wait_behind_a_short_line_and_are_dropped_behind_a_long_one() -> None:
    cable = a_cable(latency_s=(1.0, 1.0), bytes_per_s=1000.0)
    assert not cable.clear
    assert cable.datagram_s(100) == [pytest.approx(1.1)]
    cable.queue.append(Waiting(None, None, None, 400))  # type: ignore[arg-type]
    assert cable.datagram_s(100) == [pytest.approx(1.5)]
    cable.queue.append(Waiting(None, None, None, 200))  # type: ignore[arg-type]
    assert cable.datagram_s(100) == []


def test_a_cable_is_clear_when_it_is_whole_and_wide() -> None:
    cable = a_cable()
    cable.held = []
    assert not cable.clear
    cable.quality = cable.quality._replace(bytes_per_s=1000.0)
    cable.held = None
    assert not cable.clear
    cable.quality = cable.quality._replace(bytes_per_s=BYTES_PER_S)
    assert cable.clear
