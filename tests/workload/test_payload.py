from __future__ import annotations

import zlib
from random import Random

import pytest

from dyno.workload.payload import Payload


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000, 1 << 20])
def test_every_value_has_the_size(size: int) -> None:
    payload = Payload(Random(1), size)
    assert {len(payload.next()) for _ in range(10)} == {size}


def test_no_two_values_are_the_same() -> None:
    payload = Payload(Random(1), 8)
    assert len({payload.next() for _ in range(10_000)}) == 10_000


def test_even_the_smallest_change() -> None:
    payload = Payload(Random(1), 1)
    assert [payload.next() for _ in range(257)] == [
        *(bytes([count]) for count in range(1, 256)),
        b"\0",
        b"\x01",
    ]


def test_a_value_does_not_compress() -> None:
    payload = Payload(Random(1), 1000)
    for _ in range(100):
        assert len(zlib.compress(payload.next())) > 980


def test_the_same_seed_makes_the_same_values() -> None:
    one, other = Payload(Random(3), 100), Payload(Random(3), 100)
    assert [one.next() for _ in range(10)] == [other.next() for _ in range(10)]
