"""Dots: their bytes and their order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.causality.dots import Dot, actor, dot_of_request

dots = st.builds(
    Dot,
    st.builds(actor, st.binary(min_size=8, max_size=8), st.integers(0, 2**64 - 1)),
    st.integers(1, 2**64 - 1),
)


def test_an_actor_is_a_process_start_and_an_epoch_of_it():
    assert actor(b"STARTED!", 258) == b"STARTED!" + b"\0\0\0\0\0\0\1\2"


def test_a_start_id_of_another_length_is_our_own_mistake():
    with pytest.raises(AssertionError):
        actor(b"short", 0)


def test_a_dot_packs_to_its_actor_and_its_counter():
    assert Dot(b"A" * 16, 258).pack() == b"A" * 16 + b"\0\0\0\0\0\0\1\2"


@given(dots, dots)
@settings(deadline=None)
def test_dots_sort_as_their_bytes_do(one: Dot, two: Dot):
    assert (one < two) == (one.pack() < two.pack())
    assert len(one.pack()) == 24


def test_the_dot_of_a_request_is_the_first_of_an_actor_of_its_own():
    assert dot_of_request(b"r" * 16) == Dot(b"r" * 16, 1)
