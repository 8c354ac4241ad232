"""Contexts: a set of dots, told by a plain Python set as the model, and its one encoding."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.causality.context import Context, Malformed
from dyno.causality.dots import Dot, actor

A, B, C = (actor(start * 8, 0) for start in (b"a", b"b", b"c"))

dots = st.builds(Dot, st.sampled_from([A, B, C]), st.integers(1, 6))
dot_lists = st.lists(dots, max_size=20)
EVERY_DOT = [Dot(who, counter) for who in (A, B, C) for counter in range(1, 8)]
quick = settings(deadline=None, max_examples=150)


def context(*added: Dot) -> Context:
    whole = Context.EMPTY
    for dot in added:
        whole = whole.add(dot)
    return whole


def covered(whole: Context) -> set[Dot]:
    return {dot for dot in EVERY_DOT if whole.covers(dot)}


def packed(
    vector: list[tuple[bytes, int]], cloud: list[tuple[bytes, int]], claimed: int | None = None
) -> bytes:
    """What a faulty or hostile encoder might write."""
    count = len(cloud) if claimed is None else claimed
    return struct.pack(">I", count) + b"".join(struct.pack(">16sQ", *entry) for entry in vector + cloud)


def packed_anew(whole: Context) -> bytes:
    return Context(whole._vector, whole._cloud).pack()


# ── a set of dots ──────────────────────────────────────────────────────────────────────────────────────


@given(dot_lists)
@quick
def test_it_covers_what_was_added_and_nothing_else(added: list[Dot]):
    assert covered(context(*added)) == set(added)


@given(dot_lists, st.randoms(use_true_random=False))
@quick
def test_the_order_in_which_dots_come_does_not_show(added: list[Dot], random):
    shuffled = [*added, *added]
    random.shuffle(shuffled)
    one, two = context(*added), context(*shuffled)
    assert one == two
    assert hash(one) == hash(two)
    assert one.pack() == two.pack()


@given(dot_lists, dot_lists)
@quick
def test_union_and_includes_are_those_of_sets(left: list[Dot], right: list[Dot]):
    one, two = context(*left), context(*right)
    assert covered(one.union(two)) == set(left) | set(right)
    assert one.union(two).pack() == two.union(one).pack() == context(*left, *right).pack()
    assert one.includes(two) == (set(left) >= set(right))
    assert (one == two) == (set(left) == set(right))


@given(dot_lists, st.sampled_from([A, B, C]))
@quick
def test_highest_is_the_highest_counter_known_of_an_actor(added: list[Dot], who: bytes):
    assert context(*added).highest(who) == max((dot.counter for dot in added if dot.actor == who), default=0)


@given(dot_lists)
@quick
def test_actors_are_all_whose_dots_it_holds(added: list[Dot]):
    assert context(*added).actors() == {dot.actor for dot in added}


def test_its_parts_are_copies():
    context = Context.EMPTY.add(Dot(b"a" * 16, 1)).add(Dot(b"b" * 16, 3))
    vector, cloud = context.parts()
    assert (vector, cloud) == ({b"a" * 16: 1}, [Dot(b"b" * 16, 3)])
    vector.clear()
    cloud.clear()
    assert context.covers(Dot(b"a" * 16, 1))
    assert context.covers(Dot(b"b" * 16, 3))


def test_gaps_wait_in_the_cloud_until_they_close():
    gap = context(Dot(A, 1), Dot(A, 3), Dot(A, 4))
    assert gap.vector_only() == context(Dot(A, 1))
    closed = gap.add(Dot(A, 2))
    assert closed.vector_only() is closed
    assert closed == context(*(Dot(A, counter) for counter in (1, 2, 3, 4)))


def test_the_empty_context_is_false_and_covers_nothing():
    assert not Context.EMPTY
    assert not Context.EMPTY.covers(Dot(A, 1))
    assert Context.EMPTY.pack() == b"\0\0\0\0"
    assert context(Dot(A, 2)), "only a cloud, but not empty"
    assert context(Dot(A, 1))


def test_what_adds_nothing_gives_the_same_object_back():
    small, large = context(Dot(A, 1)), context(Dot(A, 1), Dot(A, 2), Dot(B, 2))
    assert large.union(small) is large
    assert small.union(large) is large
    assert large.union(large) is large
    assert large.add(Dot(A, 1)) is large
    assert large.add(Dot(B, 2)) is large
    assert small.vector_only() is small


def test_a_context_equals_only_contexts_and_takes_no_new_attributes():
    assert Context.EMPTY != b"\0\0\0\0"
    with pytest.raises(AttributeError):
        Context.EMPTY.other = 1  # type: ignore[attr-defined]


def test_it_can_be_read_in_a_debugger():
    assert repr(Context.EMPTY) == "<Context empty>"
    assert repr(context(Dot(A, 1), Dot(A, 3))) == f"<Context {A.hex()}:1..1 {A.hex()}:3>"


# ── its bytes ──────────────────────────────────────────────────────────────────────────────────────────


@given(dot_lists)
@quick
def test_unpacking_gives_back_what_was_packed(added: list[Dot]):
    whole = context(*added)
    again = Context.unpack(whole.pack())
    assert again == whole
    assert packed_anew(again) == whole.pack()


@pytest.mark.parametrize("actors", [0, 1, 2, 3, 8, 9, 10, 300])
def test_any_number_of_actors_packs_sorted(actors: int):
    whole = context(*(Dot(actor(b"process.", epoch), 1) for epoch in reversed(range(actors))))
    assert whole.pack() == packed([(actor(b"process.", epoch), 1) for epoch in range(actors)], [])
    assert Context.unpack(whole.pack()) == whole


def test_the_largest_counter_fits():
    whole = Context.unpack(packed([(A, 2**64 - 1)], [(B, 2**64 - 1)]))
    assert whole.covers(Dot(A, 2**64 - 1))
    assert whole.highest(B) == 2**64 - 1


@pytest.mark.parametrize(
    "bad",
    {
        "nothing": b"",
        "half a header": b"\0\0",
        "half an entry": packed([(A, 1)], [])[:-1],
        "a byte too many": packed([(A, 1)], []) + b"\0",
        "more dots than entries": packed([(A, 1)], [], claimed=2),
        "four thousand million dots": packed([], [], claimed=2**32 - 1),
        "a counter of zero": packed([(A, 0)], []),
        "a counter of zero among two": packed([(A, 0), (B, 1)], []),
        "a counter of zero at the end": packed([(A, 1), (B, 0)], []),
        "a counter of zero among three": packed([(A, 1), (B, 0), (C, 1)], []),
        "a dot with a counter of zero": packed([], [(A, 0)]),
        "two actors in disorder": packed([(B, 1), (A, 1)], []),
        "three actors in disorder": packed([(A, 1), (C, 1), (B, 1)], []),
        "one actor twice": packed([(A, 1), (A, 2)], []),
        "one actor twice among three": packed([(A, 1), (A, 2), (B, 1)], []),
        "dots in disorder": packed([], [(B, 2), (A, 2)]),
        "one dot twice": packed([], [(A, 2), (A, 2)]),
        "a dot that follows its vector": packed([(A, 1)], [(A, 2)]),
        "a dot inside its vector": packed([(A, 3)], [(A, 2)]),
        "a dot that begins a vector": packed([], [(A, 1)]),
    }.items(),
    ids=lambda case: case[0],
)
def test_bytes_that_no_context_packs_to_are_malformed(bad: tuple[str, bytes]):
    with pytest.raises(Malformed):
        Context.unpack(bad[1])


SAMPLES = [
    context(Dot(A, 1)),
    context(Dot(A, 1), Dot(B, 1), Dot(B, 2)),
    context(Dot(A, 1), Dot(B, 1), Dot(C, 1)),
    context(Dot(A, 1), Dot(A, 3), Dot(B, 3), Dot(B, 5)),
]


@pytest.mark.parametrize("whole", SAMPLES, ids=repr)
def test_a_truncated_context_is_malformed_or_another_whole_one(whole: Context):
    for length in range(len(whole.pack())):
        assert_malformed_or_canonical(whole.pack()[:length])


@pytest.mark.parametrize("whole", SAMPLES, ids=repr)
def test_a_context_with_one_byte_changed_is_malformed_or_another_whole_one(whole: Context):
    data = whole.pack()
    for at in range(len(data)):
        for byte in (*range(8), data[at] ^ 1, data[at] ^ 0x80, 0xFF):
            assert_malformed_or_canonical(data[:at] + bytes([byte]) + data[at + 1 :])


@given(dot_lists, st.data())
@quick
def test_a_context_with_many_bytes_changed_is_malformed_or_another_whole_one(added: list[Dot], data):
    mutated = bytearray(context(*added).pack())
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    assert_malformed_or_canonical(bytes(mutated))


def assert_malformed_or_canonical(data: bytes) -> None:
    try:
        whole = Context.unpack(data)
    except Malformed:
        return
    assert whole.pack() == data
    assert packed_anew(whole) == data


def test_a_context_knows_whoever_has_a_first_dot_in_it():
    context = Context.EMPTY.add(Dot(b"a" * 16, 1)).add(Dot(b"b" * 16, 2))
    assert [context.knows(who * 16) for who in (b"a", b"b", b"c")] == [True, False, False]


# ── entries, actor by actor ─────────────────────────────────────────────────────────────────────────────


@given(dot_lists, st.lists(st.sampled_from([A, B, C])))
@quick
def test_only_some_actors_are_their_dots_alone(added: list[Dot], actors: list[bytes]):
    part = context(*added).only(actors)
    assert covered(part) == {dot for dot in added if dot.actor in actors}
    assert Context.unpack(packed_anew(part)) == part


@given(dot_lists, dot_lists)
@quick
def test_entries_go_actor_by_actor_and_only_where_both_hold_the_same(mine: list[Dot], theirs: list[Dot]):
    one, other = context(*mine), context(*theirs)
    same = {
        who
        for who in (A, B, C)
        if {d for d in mine if d.actor == who} == {d for d in theirs if d.actor == who}
    }
    assert covered(one.agreed(other)) == {dot for dot in mine if dot.actor in same}
    left = one.without(other)
    assert covered(left) == {dot for dot in mine if dot.actor not in same}
    assert Context.unpack(packed_anew(left)) == left
    assert one.agreed(other) == other.agreed(one)


def test_a_context_that_loses_nothing_is_itself():
    whole = context(Dot(A, 1), Dot(A, 2), Dot(B, 3))
    assert whole.without(context(Dot(A, 1), Dot(B, 3), Dot(B, 4))) is whole
    assert whole.without(Context.EMPTY) is whole
    assert whole.without(whole) == Context.EMPTY
