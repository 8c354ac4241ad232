"""Records: the causality vectors, what a put hands back, the laws of merging, and the one encoding."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.causality.context import Context, Malformed
from dyno.causality.dots import Dot, actor, dot_of_request
from dyno.causality.record import (
    DotConflict,
    OtherKind,
    Record,
    Sibling,
    head_of,
    is_live,
    put_context,
    surely_all_live,
)

NAMES = {actor(name.encode() * 8, 0): name for name in "abc"}
ACTORS = {name: who for who, name in NAMES.items()}
REQUEST = b"request.request."
quick = settings(deadline=None, max_examples=150)


def dot(text: str) -> Dot:
    """ "a3" is the third write of node a."""
    return Dot(ACTORS[text[0]], int(text[1:]))


def context(*dots: str) -> Context:
    whole = Context.EMPTY
    for each in dots:
        whole = whole.add(dot(each))
    return whole


def seen(**counts: int) -> Context:
    """seen(a=2, b=1): everything of node a up to 2, and of node b up to 1."""
    return context(*(f"{name}{counter}" for name, count in counts.items() for counter in range(1, count + 1)))


def shown(record: Record) -> str:
    """As SCENARIOS writes a record: its values under their dots, and its context."""
    values = [f"{NAMES[each.dot.actor]}{each.dot.counter}:{each.value.decode()}" for each in record.siblings]
    heads = [
        f"{name}:{record.context.highest(who)}" for who, name in NAMES.items() if record.context.highest(who)
    ]
    return f"{' '.join(values)} | {' '.join(heads)}"


class Key:
    """One key on one coordinator, or one record that coordinators hand to each other."""

    def __init__(self) -> None:
        self.record = Record.EMPTY

    def put(self, value: str, *, at: str, context: Context = Context.EMPTY) -> Context:
        """A put coordinated by node `at`; gives the context that its caller gets."""
        new = Dot(ACTORS[at], self.record.context.highest(ACTORS[at]) + 1)
        before = self.record.context
        self.record = self.record.write(context, new, REQUEST, value.encode())
        return put_context(context, before, new)


# ── causality vectors ──────────────────────────────────────────────────────────────────────────────────


def test_vector_1_a_first_write():
    key = Key()
    assert key.put("v1", at="a") == seen(a=1)
    assert shown(key.record) == "a1:v1 | a:1"


def key_of_vector_2() -> Key:
    key = Key()
    key.put("v1", at="a")
    key.put("v2", at="a", context=seen(a=1))
    return key


def test_vector_2_a_write_replaces_what_it_read():
    assert shown(key_of_vector_2().record) == "a2:v2 | a:2"


def test_vector_3_another_coordinator_replaces_what_was_read():
    key = key_of_vector_2()
    key.put("v3", at="b", context=seen(a=2))
    assert shown(key.record) == "b1:v3 | a:2 b:1"


def test_vector_4_another_coordinator_with_an_old_context_makes_a_sibling():
    key = key_of_vector_2()
    key.put("v4", at="b", context=seen(a=1))
    assert shown(key.record) == "a2:v2 b1:v4 | a:2 b:1"


def test_vector_5_the_same_coordinator_with_an_old_context_makes_a_sibling():
    key = key_of_vector_2()
    key.put("v5", at="a", context=seen(a=1))
    assert shown(key.record) == "a2:v2 a3:v5 | a:3"


def test_vector_6_a_write_replaces_only_the_sibling_that_it_read():
    key = Key()
    key.put("v1", at="a")
    key.put("v2", at="a")
    assert shown(key.record) == "a1:v1 a2:v2 | a:2"
    key.put("v3", at="a", context=seen(a=1))
    assert shown(key.record) == "a2:v2 a3:v3 | a:3"


def test_vector_7_the_context_of_ones_own_put_never_covers_anothers():
    key = Key()
    mine = key.put("A's first", at="a")
    key.put("B's", at="a")
    mine = key.put("A's second", at="a", context=mine)
    key.put("A's last", at="a", context=mine)
    assert shown(key.record) == "a2:B's a4:A's last | a:4"


def test_vector_8_two_clients_that_write_by_turns_leave_two_siblings():
    key = Key()
    own = {"A": Context.EMPTY, "B": Context.EMPTY}
    for number in range(100):
        for client in ("A", "B"):
            own[client] = key.put(f"{client}{number}", at="a", context=own[client])
            assert len(own[client].pack()) <= len(context("a1", "a9").pack())
    assert shown(key.record) == "a199:A99 a200:B99 | a:200"


@pytest.mark.parametrize("changing", [False, True], ids=["each its own", "each time another"])
def test_vector_8_through_two_coordinators_that_replicate_to_each_other(changing: bool):
    nodes = {"a": Key(), "b": Key()}
    own = {"A": Context.EMPTY, "B": Context.EMPTY}
    for number in range(100):
        for client, home in (("A", 0), ("B", 1)):
            at = "ab"[(home + number * changing) % 2]
            own[client] = nodes[at].put(f"{client}{number}", at=at, context=own[client])
            other = nodes["ba"["ab".index(at)]]
            other.record = other.record.merge(nodes[at].record)
    assert nodes["a"].record.pack() == nodes["b"].record.pack()
    assert sorted(sibling.value for sibling in nodes["a"].record.siblings) == [b"A99", b"B99"]


# ── what a put hands back ──────────────────────────────────────────────────────────────────────────────


def test_a_caller_who_had_read_all_gets_its_whole_context_and_the_dot():
    caller = context("a1", "a3", "b1")
    assert put_context(caller, context("a1", "b1"), dot("b2")) == context("a1", "a3", "b1", "b2")


def test_a_caller_who_had_not_read_all_gets_its_version_vector_and_the_dot():
    caller = context("a1", "a3", "b1")
    assert put_context(caller, context("a1", "a2", "a3"), dot("a4")) == context("a1", "a4", "b1")


def test_a_blind_write_gets_its_dot_alone():
    assert put_context(Context.EMPTY, seen(a=7, b=2), dot("a8")) == context("a8")
    assert put_context(Context.EMPTY, Context.EMPTY, dot("a1")) == seen(a=1)


# ── writes and deletes ─────────────────────────────────────────────────────────────────────────────────


def test_the_context_of_a_write_is_remembered_even_where_its_dots_never_arrived():
    late = Record.EMPTY.write(Context.EMPTY, dot("a1"), REQUEST, b"overwritten elsewhere")
    record = Record.EMPTY.write(seen(a=1), dot("b1"), REQUEST, b"new")
    assert shown(record.merge(late)) == "b1:new | a:1 b:1"


def test_a_delete_drops_what_was_read_and_nothing_else():
    key = Key()
    key.put("read", at="a")
    key.put("unread", at="b")
    record = key.record.delete(seen(a=1))
    assert shown(record) == "b1:unread | a:1 b:1"
    assert record.live
    record = record.delete(seen(b=1))
    assert shown(record) == " | a:1 b:1"
    assert not record.live
    assert record.delete(seen(a=1)) is record


def test_a_delete_is_remembered_even_where_its_dots_never_arrived():
    late = Record.EMPTY.write(Context.EMPTY, dot("a1"), REQUEST, b"deleted elsewhere")
    tombstone = Record.EMPTY.delete(seen(a=1))
    assert not late.merge(tombstone).live
    assert late.merge(tombstone) is tombstone


def test_a_known_dot_is_not_given_to_another_write():
    key = key_of_vector_2()
    with pytest.raises(DotConflict) as caught:
        key.record.write(Context.EMPTY, dot("a1"), REQUEST, b"again")
    assert caught.value.dot == dot("a1")
    with pytest.raises(DotConflict):
        key.record.write(seen(b=3), dot("b2"), REQUEST, b"the caller knows it already")


def test_a_request_id_of_another_length_is_our_own_mistake():
    with pytest.raises(AssertionError):
        Record.EMPTY.write(Context.EMPTY, dot("a1"), b"short", b"value")


# ── merging ────────────────────────────────────────────────────────────────────────────────────────────


def record_of(live: list[Dot], covered: list[Dot]) -> Record:
    """Any record there can be: its value follows from its dot, as it does where no dot is minted twice."""
    whole = Context.EMPTY
    for each in [*covered, *live]:
        whole = whole.add(each)
    siblings = [Sibling(each, each.pack()[:16], each.pack()) for each in sorted(set(live))]
    return Record(tuple(siblings), whole)


dots = st.builds(Dot, st.sampled_from(sorted(NAMES)), st.integers(1, 6))
dot_lists = st.lists(dots, max_size=8)
records = st.builds(record_of, dot_lists, dot_lists)


def live(record: Record) -> set[Dot]:
    return {sibling.dot for sibling in record.siblings}


@given(records, records)
@quick
def test_merging_keeps_what_is_in_both_or_in_one_and_not_covered_by_the_other(one: Record, two: Record):
    merged = one.merge(two)
    only_one = {each for each in live(one) - live(two) if not two.context.covers(each)}
    only_two = {each for each in live(two) - live(one) if not one.context.covers(each)}
    assert live(merged) == (live(one) & live(two)) | only_one | only_two
    assert merged.context == one.context.union(two.context)


@given(records, records, records)
@quick
def test_merging_is_commutative_associative_and_idempotent(one: Record, two: Record, three: Record):
    assert one.merge(two).pack() == two.merge(one).pack()
    assert one.merge(two).merge(three).pack() == one.merge(two.merge(three)).pack()
    assert one.merge(one) is one
    assert one.merge(two).merge(two).pack() == one.merge(two).pack()


@given(records, records)
@quick
def test_where_an_operand_is_the_result_that_operand_is_returned(one: Record, two: Record):
    merged = one.merge(two)
    if merged == one:
        assert merged is one
    elif merged == two:
        assert merged is two
    assert merged.merge(two) is merged
    assert two.merge(merged) is (two if two == merged else merged)


@given(records)
@quick
def test_equal_bytes_merge_to_the_same_object_without_a_look_inside(one: Record):
    left, right = Record.unpack(one.pack()), Record.unpack(one.pack())
    assert left.merge(right) is left


def test_one_dot_with_two_values_is_refused_and_named():
    one = Record.EMPTY.write(Context.EMPTY, dot("a1"), REQUEST, b"one")
    for twin in (
        Record.EMPTY.write(Context.EMPTY, dot("a1"), REQUEST, b"two"),
        Record.EMPTY.write(Context.EMPTY, dot("a1"), b"another.request.", b"one"),
    ):
        with pytest.raises(DotConflict) as caught:
            one.merge(twin)
        assert caught.value.dot == dot("a1")


def test_records_compare_by_value_and_take_no_new_attributes():
    one, same = key_of_vector_2().record, key_of_vector_2().record
    assert one == same
    assert hash(one) == hash(same)
    assert one != one.delete(seen(a=2))
    assert one != one.pack()
    with pytest.raises(AttributeError):
        one.other = 1  # type: ignore[attr-defined]


def test_it_can_be_read_in_a_debugger():
    assert repr(Record.EMPTY) == "<Record of no value | <Context empty>>"
    a = ACTORS["a"].hex()
    assert repr(key_of_vector_2().record) == f"<Record of {a}:2 | <Context {a}:1..2>>"


# ── its bytes ──────────────────────────────────────────────────────────────────────────────────────────


def packed(siblings: list[tuple[str, bytes]], whole: Context, *, format_: int = 1, kind: int = 0) -> bytes:
    """What a faulty or hostile encoder might write."""
    heads = [struct.pack(">16sQ16sI", *dot(at), REQUEST, len(value)) for at, value in siblings]
    header = struct.pack(">BBII", format_, kind, len(whole.pack()), len(siblings))
    return b"".join([header, whole.pack(), *heads, *(value for _, value in siblings)])


def packed_anew(record: Record) -> bytes:
    return Record(record.siblings, Context(record.context._vector, record.context._cloud)).pack()


@given(records)
@quick
def test_unpacking_gives_back_what_was_packed(record: Record):
    again = Record.unpack(record.pack())
    assert again == record
    assert packed_anew(again) == record.pack()


def test_the_layout_is_the_one_described():
    assert key_of_vector_2().record.pack() == packed([("a2", b"v2")], seen(a=2))
    assert Record.unpack(packed([], Context.EMPTY)) == Record.EMPTY


def test_more_siblings_than_a_put_may_leave_still_pack():
    record = record_of([Dot(ACTORS["a"], counter) for counter in range(1, 301)], [])
    assert Record.unpack(record.pack()) == record


@pytest.mark.parametrize(
    "bad",
    {
        "nothing": b"",
        "half a header": packed([], Context.EMPTY)[:9],
        "another format": packed([("a1", b"v")], seen(a=1), format_=2),
        "another kind": packed([("a1", b"v")], seen(a=1), kind=1),
        "a value cut short": packed([("a1", b"value")], seen(a=1))[:-1],
        "a byte too many": packed([("a1", b"value")], seen(a=1)) + b"\0",
        "a table cut short": packed([("a1", b"")], seen(a=1))[:-1],
        "four thousand million siblings": struct.pack(">BBII", 1, 0, 4, 2**32 - 1) + bytes(4),
        "a context of four thousand million bytes": struct.pack(">BBII", 1, 0, 2**32 - 1, 0) + bytes(4),
        "a context of no bytes": struct.pack(">BBII", 1, 0, 0, 0),
        "an uncovered sibling": packed([("a2", b"v")], seen(a=1)),
        "a dot with a counter of zero": packed([("a0", b"v")], seen(a=1)),
        "siblings in disorder": packed([("a2", b"v"), ("a1", b"v")], seen(a=2)),
        "one sibling twice": packed([("a1", b"v"), ("a1", b"v")], seen(a=1)),
    }.items(),
    ids=lambda case: case[0],
)
def test_bytes_that_no_record_packs_to_are_malformed(bad: tuple[str, bytes]):
    with pytest.raises(Malformed):
        Record.unpack(bad[1])


SAMPLES = [
    Record.EMPTY,
    key_of_vector_2().record,
    record_of([dot("a2"), dot("b1")], [dot("a1")]),
    record_of([dot("a2"), dot("b3")], [dot("c1"), dot("b1")]),
]


@pytest.mark.parametrize("record", SAMPLES, ids=shown)
def test_a_truncated_record_is_malformed(record: Record):
    for length in range(len(record.pack())):
        with pytest.raises(Malformed):
            Record.unpack(record.pack()[:length])


@pytest.mark.parametrize("record", SAMPLES, ids=shown)
def test_a_record_with_one_byte_changed_is_malformed_or_another_whole_one(record: Record):
    data = record.pack()
    for at in range(len(data)):
        for byte in (*range(8), data[at] ^ 1, data[at] ^ 0x80, 0xFF):
            assert_malformed_or_canonical(data[:at] + bytes([byte]) + data[at + 1 :])


@given(records, st.data())
@quick
def test_a_record_with_many_bytes_changed_is_malformed_or_another_whole_one(record: Record, data):
    mutated = bytearray(record.pack())
    for _ in range(data.draw(st.integers(1, 4))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    assert_malformed_or_canonical(bytes(mutated))


def assert_malformed_or_canonical(data: bytes) -> None:
    try:
        record = Record.unpack(data)
    except Malformed:
        return
    assert record.pack() == data
    assert packed_anew(record) == data


# ── writes that were done again ────────────────────────────────────────────────────────────────────────

AGAIN = dot_of_request(REQUEST)


def done_first() -> Record:
    return Record.EMPTY.write(Context.EMPTY, dot("a1"), REQUEST, b"v")


def done_again() -> Record:
    return Record.EMPTY.write(Context.EMPTY, AGAIN, REQUEST, b"v")


def dots_of(record: Record) -> list[Dot]:
    return [sibling.dot for sibling in record.siblings]


def test_a_write_that_was_done_again_stands_under_both_dots() -> None:
    both = done_first().merge(done_again())
    assert both == done_again().merge(done_first())
    assert dots_of(both) == sorted([dot("a1"), AGAIN])
    assert both.merge(done_first()) is both
    assert both.merge(done_again()) is both
    assert done_first().merge(both) is both


@pytest.mark.parametrize("read", [done_first(), done_again()], ids=["first", "again"])
def test_whoever_read_it_under_one_dot_overwrites_it_under_both(read: Record) -> None:
    other = Record.EMPTY.write(Context.EMPTY, dot("b1"), b"another request.", b"w")
    both = done_first().merge(done_again()).merge(other)
    assert dots_of(both.delete(read.context)) == [dot("b1")]
    written = both.write(read.context, dot("c1"), b"the next request", b"x")
    assert dots_of(written) == [dot("b1"), dot("c1")]
    assert dots_of(both.write(other.context, dot("c1"), b"the next request", b"x")) == sorted(
        [dot("a1"), AGAIN, dot("c1")]
    )


def test_it_is_gone_where_it_was_overwritten_as_it_was_done_again():
    gone = done_again().delete(done_again().context)
    assert dots_of(gone.merge(done_first())) == dots_of(done_first().merge(gone)) == []


def test_whoever_read_it_as_it_was_done_again_overwrites_it_where_it_was_done_first():
    other = Record.EMPTY.write(Context.EMPTY, dot("b1"), b"another request.", b"w")
    record = done_first().merge(other)
    assert dots_of(record.write(done_again().context, dot("c1"), b"the next request", b"x")) == [
        dot("b1"),
        dot("c1"),
    ]
    assert dots_of(record.delete(done_again().context)) == [dot("b1")]


def test_a_record_that_has_a_write_which_was_overwritten_under_its_other_dot_is_malformed() -> None:
    siblings = (Sibling(dot("a1"), REQUEST, b"v"),)
    with pytest.raises(Malformed, match="under another dot"):
        Record.unpack(Record(siblings, seen(a=1).add(AGAIN)).pack())


retried = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.sampled_from(["first", "again", "delete"])),
    max_size=8,
)


def retold(history: list[tuple[str, int, str]]) -> Record:
    """A record of some requests, each done by one node, or again, or deleted by whoever read the record."""
    record = Record.EMPTY
    for who, number, how in history:
        request = b"request %8d" % number
        new = Dot(actor(who.encode() * 8, number), 1) if how == "first" else dot_of_request(request)
        if how == "delete":
            record = record.delete(record.context)
        elif not record.context.covers(new) and not record.context.knows(request):
            record = record.merge(Record.EMPTY.write(Context.EMPTY, new, request, b"v%d" % number))
    return record


@given(retried, retried, retried)
@quick
def test_merging_keeps_its_laws_where_writes_were_done_again(one, two, three):
    a, b, c = retold(one), retold(two), retold(three)
    assert a.merge(b).pack() == b.merge(a).pack()
    assert a.merge(b).merge(c).pack() == a.merge(b.merge(c)).pack()
    assert a.merge(a) is a
    whole = a.merge(b)
    assert whole.merge(a).pack() == whole.merge(b).pack() == whole.pack()
    assert Record.unpack(packed_anew(whole)) == whole
    for sibling in whole.siblings:
        again = dot_of_request(sibling.request)
        assert again in dots_of(whole) or not whole.context.covers(again)


def test_whether_there_is_a_value_is_seen_without_unpacking() -> None:
    record = Record.EMPTY.write(Context.EMPTY, dot("a1"), REQUEST, b"value")
    assert is_live(record.pack())
    assert not is_live(record.delete(seen(a=1)).pack())
    assert not is_live(Record.EMPTY.pack())
    for cut in (b"", record.pack()[:9]):
        with pytest.raises(Malformed, match="cannot have"):
            is_live(cut)


def test_a_head_is_all_but_the_values() -> None:
    record = Record.EMPTY.write(Context.EMPTY, dot("a1"), REQUEST, b"value")
    assert head_of(record.pack()) + b"value" == record.pack()
    tombstone = record.delete(seen(a=1)).pack()
    assert head_of(tombstone) == tombstone
    with pytest.raises(Malformed, match="cannot have 9 bytes"):
        head_of(record.pack()[:9])


def test_a_record_of_another_kind_is_told_from_a_damaged_one():
    with pytest.raises(OtherKind, match="a packed record has the other kind 1"):
        Record.unpack(packed([("a1", b"v")], seen(a=1), kind=1))
    for damaged in (packed([("a1", b"v")], seen(a=1), format_=2, kind=1), b"\x01\x01"):
        with pytest.raises(Malformed) as caught:
            Record.unpack(damaged)
        assert type(caught.value) is Malformed


# ── dead entries ────────────────────────────────────────────────────────────────────────────────────────


def test_entries_are_dead_where_their_actor_has_no_live_value():
    key = Key()
    key.put("v1", at="a")
    key.put("v2", at="b", context=seen(a=1))
    key.put("v3", at="b")
    assert shown(key.record) == "b1:v2 b2:v3 | a:1 b:2"
    assert key.record.dead() == seen(a=1)
    deleted = key.record.delete(seen(a=1, b=2))
    assert deleted.dead() == seen(a=1, b=2)
    assert Record.EMPTY.dead() == Context.EMPTY


def test_forgetting_takes_exactly_the_entries_that_are_still_so():
    key = Key()
    key.put("v1", at="a")
    key.put("v2", at="b", context=seen(a=1))
    assert shown(key.record.forget(seen(a=1))) == "b1:v2 | b:1"
    assert key.record.forget(seen(a=2)) is key.record
    assert key.record.forget(seen(b=1)) is key.record, "a live value keeps its actor's entry"
    assert key.record.delete(seen(a=1, b=1)).forget(seen(a=1, b=1)) == Record.EMPTY


def test_dots_out_of_order_are_entries_too():
    deleted = Record.EMPTY.delete(context("a1", "a3"))
    assert deleted.forget(context("a1")) is deleted
    assert deleted.forget(context("a3")) is deleted
    assert deleted.forget(context("a1", "a3")) == Record.EMPTY


def test_what_was_forgotten_is_known_again_by_a_merge_with_who_did_not():
    deleted = Record.EMPTY.delete(seen(a=2))
    assert deleted.forget(seen(a=2)).merge(deleted) == deleted


def test_a_value_that_comes_after_its_entry_was_forgotten_is_back():
    key = Key()
    key.put("v1", at="a")
    old = key.record
    forgotten = old.delete(seen(a=1)).forget(seen(a=1))
    assert shown(forgotten.merge(old)) == "a1:v1 | a:1"


def test_the_header_alone_tells_where_surely_nothing_is_dead():
    key = Key()
    key.put("v1", at="a")
    assert surely_all_live(key.record.pack())
    assert not surely_all_live(key.record.delete(seen(a=1)).pack())
    key.put("v2", at="b")
    assert not surely_all_live(key.record.pack()), "that takes a look inside"
    with pytest.raises(Malformed):
        surely_all_live(b"short")
