"""The tunables of a node: their bounds, and why the shortest time is as long as it is."""

from __future__ import annotations

import math

import msgspec
import pytest

from dyno.config import Config

TIMES = [
    name
    for name in Config.__struct_fields__
    if name.endswith("_s") and name not in ("reap_after_s", "scrub_s")
]
LEAST_S = 0.001
CENTURY_S = 100 * 365 * 86_400.0


def test_the_defaults_are_within_their_bounds() -> None:
    assert msgspec.convert(msgspec.structs.asdict(Config()), Config) == Config()


@pytest.mark.parametrize("name", TIMES)
def test_a_time_is_a_millisecond_at_least_and_a_day_at_most(name: str) -> None:
    for seconds in (LEAST_S, 1, 86_400):
        assert getattr(msgspec.convert({name: seconds}, Config), name) == seconds
    for seconds in (0, -1, 1e-12, 0.0009, 86_401, math.nan, math.inf):
        with pytest.raises(msgspec.ValidationError, match=name):
            msgspec.convert({name: seconds}, Config)


def test_the_shortest_time_from_now_is_later_than_now_on_any_clock() -> None:
    for now in (0.0, 86_400.0, CENTURY_S):
        assert now + LEAST_S > now
