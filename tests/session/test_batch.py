"""get_many and put_many: many calls that begin, wait and end as one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from dyno.errors import (
    ConnectFailed,
    InvalidRequest,
    Overloaded,
    QuorumNotMet,
    RequestTimeout,
)
from dyno.session import batch as batches
from dyno.session.batch import KEYS_MAX, PARTS_MAX, Batch, GetBatch, PutBatch
from dyno.session.dealing import KEYS_BYTES_MAX
from dyno.session.links import PATIENCE_S, WINDOW_BYTES_MAX
from dyno.session.results import PutResult, Record
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    GET_MANY_KEYS_MAX,
    STRICT,
    AskMembers,
    Found,
    FoundMany,
    Get,
    GetMany,
    Put,
)
from dyno.wire.rows import pack_row, unpack_keys
from dyno.wire.values import encode

FIVE = ("n1", "n2", "n3", "n4", "n5")


def get_many(world, keys, **options) -> Batch:
    batch = GetBatch(world.session, world.bucket, keys, now=world.now, **options)
    batch.go_on(world.now, world.out)
    return batch


def put_many(world, values, **options) -> Batch:
    batch = PutBatch(world.session, world.bucket, values, now=world.now, **options)
    batch.go_on(world.now, world.out)
    return batch


def keys_of(request: GetMany) -> list[bytes]:
    return unpack_keys(request.keys, items_max=GET_MANY_KEYS_MAX)


def found_many(world, request: GetMany, values: dict[bytes, Any], answered: str = "n1,n2") -> FoundMany:
    """Keys that are not among values are left out."""
    keys = keys_of(request)
    row = [world.stored(values[key]).pack() if key in values else None for key in keys]
    return FoundMany(request.id, pack_row(row), answered, bytes(len(keys)))


def answer_gets(world, value: Any = "alone") -> list[bytes]:
    """Every get is answered; gives their keys."""
    sent = world.sent(Get)
    for address, get in sent:
        world.hear(address, world.found(get, value))
    return [get.key for _, get in sent]


def is_over(world, batch: Batch) -> bool:
    """It ended, and left nothing behind."""
    over = world.finished() == [batch]
    return over and world.session._dispatch.calls == {}


# ── reading ──


def test_keys_are_asked_for_in_one_question_and_have_an_entry_each_in_the_callers_order(world):
    batch = get_many(world, ["a", "b", "c"], r="all", pr=1)
    ((address, request),) = world.sent()
    assert (request.bucket, request.r, request.pr, request.budget_ms) == ("carts", ALL, 1, 5000)
    assert sorted(keys_of(request)) == [b"a", b"b", b"c"]
    world.hear(address, found_many(world, request, {b"c": 3, b"b": 2, b"a": 1}))
    assert is_over(world, batch)
    assert batch.error is None
    assert [(key, record.value) for key, record in batch.result.items()] == [("a", 1), ("b", 2), ("c", 3)]
    record = batch.result["a"]
    assert type(record) is Record
    assert record.error is None
    assert record.replicas == (("n1", "n2"), ())
    assert record.context != b""


def test_without_sloppy_a_batch_asks_for_primaries(world):
    get_many(world, ["a"], sloppy=False)
    put_many(world, {"a": 1}, sloppy=False)
    (_, get), (_, put) = world.sent()
    assert (get.r, get.pr, put.w, put.pw) == (DEFAULT, STRICT, DEFAULT, STRICT)


def test_each_record_names_the_nodes_that_answered_for_it(world):
    batch = get_many(world, ["a", "b"])
    ((address, request),) = world.sent()
    records = {b"a": world.stored(1).pack(), b"b": b""}
    row = pack_row([records[key] for key in keys_of(request)])
    which = bytes(key == b"a" for key in keys_of(request))
    world.hear(address, FoundMany(request.id, row, "n1,n2;n1,n3", which))
    assert batch.result["a"].replicas.answered == ("n1", "n3")
    assert batch.result["b"].replicas.answered == ("n1", "n2")
    assert not batch.result["b"].exists


def test_what_a_node_leaves_out_is_got_alone(world):
    batch = get_many(world, ["a", "b", "c"], r="all")
    ((address, request),) = world.sent()
    world.now += 1.0
    world.hear(address, found_many(world, request, {b"a": "together"}))
    assert world.finished() == []
    sent = world.sent(Get)
    assert sorted((get.key, get.r, get.pr, get.forwarded) for _, get in sent) == [
        (b"b", ALL, DEFAULT, False),
        (b"c", ALL, DEFAULT, False),
    ]
    assert [get.budget_ms for _, get in sent] == [4000, 4000], "the time that is left"
    for address, get in sent:
        world.hear(address, world.found(get, "alone"))
    assert is_over(world, batch)
    assert [record.value for record in batch.result.values()] == ["together", "alone", "alone"]


def test_a_get_that_follows_at_once_has_the_whole_time(world):
    get_many(world, ["a"], timeout=2)
    ((address, request),) = world.sent()
    world.hear(address, found_many(world, request, {}))
    ((_, get),) = world.sent(Get)
    assert get.budget_ms == 2000


def test_a_str_key_and_its_bytes_are_read_once_and_have_an_entry_each(world):
    batch = get_many(world, iter(["a", b"a", "a"]))
    ((address, request),) = world.sent()
    assert keys_of(request) == [b"a"]
    world.hear(address, found_many(world, request, {}))
    assert answer_gets(world) == [b"a"]
    assert [(key, record.value) for key, record in batch.result.items()] == [("a", "alone"), (b"a", "alone")]
    together = get_many(world, ["a", b"a"])
    ((address, request),) = world.sent()
    world.hear(address, found_many(world, request, {b"a": 1}))
    assert [record.value for record in together.result.values()] == [1, 1]


def test_views_generators_and_dicts_will_do(world):
    for keys in ({"a": 1}.keys(), (name for name in "a"), {"a": 1}, ("a",), frozenset(["a"])):
        batch = get_many(world, keys)
        ((address, request),) = world.sent()
        world.hear(address, found_many(world, request, {b"a": 1}))
        assert list(batch.result) == ["a"]


def test_nothing_asked_is_nothing_sent(world):
    for begin in (lambda: get_many(world, []), lambda: put_many(world, {}, contexts={})):
        batch = begin()
        assert batch.result == {}
        assert batch.error is None
        assert is_over(world, batch)
    assert world.sent() == []


def test_keys_go_to_nodes_that_own_them_in_as_few_questions_as_that_takes(a_world):
    world = a_world([f"{name}:7101" for name in FIVE])
    world.settle(*FIVE, members=world.members(*FIVE))
    keys = [f"key {number}" for number in range(60)]
    get_many(world, keys)
    sent = world.sent()
    assert len(dict.fromkeys(address for address, _ in sent)) == len(sent) < 5
    asked = [key for _, request in sent for key in keys_of(request)]
    assert sorted(asked) == sorted(key.encode() for key in keys)
    routing = world.session._routing
    for address, request in sent:
        for key in keys_of(request):
            primaries = routing.primaries(routing.partition(world.bucket.id, key))
            assert address in [member.address for member in primaries]


def test_more_keys_than_one_question_holds_are_asked_in_several(world):
    get_many(world, [f"{number}" for number in range(GET_MANY_KEYS_MAX + 1)])
    sent = world.sent()
    assert [len(keys_of(request)) for _, request in sent] == [GET_MANY_KEYS_MAX, 1]
    assert sent[0][0] != sent[1][0], "and of more than one node"
    get_many(world, [f"{number:01024}" for number in range(KEYS_BYTES_MAX // 1024 + 1)])
    assert [len(keys_of(request)) for _, request in world.sent()] == [KEYS_BYTES_MAX // 1024, 1]


@pytest.mark.parametrize(
    "answer",
    [
        (pack_row([b"", b""]), "n1", b"\0"),
        (pack_row([b""]), "n1", b"\0\0"),
        (pack_row([b""]), "n1", b""),
        (pack_row([b""]), "n1;n2", b"\2"),
        (b"\x80", "n1", b"\0"),
        (b"", "n1", b"\0"),
        (b"\x81\x01", "n1", b"\0"),
        (b"\x81\x81\x40", "n1", b"\0"),
    ],
)
def test_an_answer_that_is_none_is_refused_and_another_node_asked(world, answer):
    batch = get_many(world, ["a"])
    ((address, request),) = world.sent()
    with pytest.raises(ProtocolError):
        world.hear(address, FoundMany(request.id, *answer))
    world.down(address, "not understood")  # as the shell does then
    ((other, again),) = world.sent(GetMany)
    assert other != address
    world.hear(other, found_many(world, again, {b"a": 1}))
    assert is_over(world, batch)


def test_an_answer_that_belongs_to_nothing_means_nothing(world):
    world.hear("n1:7101", FoundMany(999, b"nonsense", "", b""))
    call = world.get("a")
    world.hear("n1:7101", FoundMany(call.id, b"nonsense", "", b""))
    batch = get_many(world, ["a"])
    ((address, request),) = world.sent(GetMany)
    world.hear(address, world.found(request, 1))  # a Found for a GetMany
    world.hear(address, world.done(request))
    assert world.finished() == []
    answer = found_many(world, request, {b"a": 1})
    world.hear(address, answer)
    world.hear(address, answer)
    assert world.finished() == [batch]


def test_a_silent_node_is_not_waited_for(world):
    batch = get_many(world, ["a"])
    ((silent, _),) = world.sent()
    world.advance(0.6)
    ((other, request),) = world.sent(GetMany)
    assert other != silent
    assert request.budget_ms < 5000
    world.hear(other, found_many(world, request, {b"a": 1}))
    assert is_over(world, batch)


def test_primaries_without_a_link_are_dialled_for_the_calls_to_come(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members("n1", "n2", "n3"))
    get_many(world, ["a"])
    assert [address for address, _ in world.sent()] == ["n1:7101"]
    assert sorted(world.dialled()) == ["n2:7101", "n3:7101"]
    get_many(world, ["b"])
    assert world.dialled() == []


def test_keys_of_nodes_out_of_reach_go_to_anybody(a_world):
    world = a_world(["n1:7101"])
    world.settle("n1", members=world.members(*FIVE))
    keys = [f"key {number}" for number in range(60)]
    get_many(world, keys)
    sent = world.sent()
    assert [address for address, _ in sent] == ["n1:7101", "n1:7101"], "its own keys, and those of others"
    assert sum(len(keys_of(request)) for _, request in sent) == 60


# ── failing ──


def test_a_key_that_fails_has_its_error_and_the_others_their_records(world):
    batch = get_many(world, ["a", "b", b"b"])
    ((address, request),) = world.sent()
    world.hear(address, found_many(world, request, {b"a": 1}))
    for _ in range(3):  # here, and at two others
        ((address, get),) = world.sent(Get)
        world.hear(address, world.failed(get, "quorum"))
    assert is_over(world, batch)
    assert batch.error is None
    assert batch.result["a"].value == 1
    for name in ("b", b"b"):
        entry = batch.result[name]
        assert isinstance(entry.error, QuorumNotMet)
        with pytest.raises(QuorumNotMet):
            _ = entry.value


def test_a_question_that_is_refused_is_asked_again_later_and_fails_all_its_keys_in_the_end(world):
    batch = get_many(world, ["a", "b"], timeout=1)
    asked = 0
    while not world.finished():
        for address, request in world.sent(GetMany):
            asked += 1
            world.hear(address, world.failed(request, "overloaded", retry_after_ms=10))
        world.advance(0.01)
    assert asked > 3
    assert batch.error is None
    assert [type(entry.error) for entry in batch.result.values()] == [Overloaded, Overloaded]


@pytest.mark.parametrize("how", ["overloaded", "reset"])
def test_keys_whose_node_cannot_take_them_go_to_the_next_best(a_world, how):
    names = [f"n{number}" for number in range(1, 9)]
    world = a_world([f"{name}:7101" for name in names])
    world.settle(*names, members=world.members(*names))
    keys = [f"key {number}".encode() for number in range(GET_MANY_KEYS_MAX)]
    get_many(world, keys)
    routing = world.session._routing

    def owned(address, some):
        partitions = [routing.partition(world.bucket.id, key) for key in some]
        return sum(address == member.address for at in partitions for member in routing.primaries(at))

    address, request = world.sent(GetMany)[0]
    if how == "reset":
        world.down(address, "reset")
    else:
        world.hear(address, world.failed(request, "overloaded", retry_after_ms=100))
    ((other, again),) = world.sent(GetMany)
    some = keys_of(again)
    others = [f"{name}:7101" for name in names if f"{name}:7101" != address]
    assert owned(other, some) == max(owned(one, some) for one in others)


def test_what_all_nodes_refuse_for_all_keys_is_the_callers_mistake(world):
    batch = get_many(world, ["a", "b"], r=9)
    ((address, request),) = world.sent()
    world.hear(address, world.failed(request, "invalid"))
    assert is_over(world, batch)
    assert isinstance(batch.error, InvalidRequest)


def test_when_nobody_can_be_reached_the_call_fails(world):
    batch = get_many(world, ["a"], timeout=1)
    for name in ("n1", "n2", "n3"):
        world.down(f"{name}:7101")
    world.advance(2)
    assert isinstance(batch.error, ConnectFailed)
    assert batch in world.finished()


def test_a_call_fails_as_a_whole_however_many_keys_nobody_could_be_asked_for(world):
    batch = put_many(world, {f"key {number}": 1 for number in range(2 * batches.PARTS_MAX)}, timeout=1)
    world.sent()
    reading = get_many(world, [f"key {number}" for number in range(2 * batches.KEYS_MAX)], timeout=1)
    for name in ("n1", "n2", "n3"):
        world.down(f"{name}:7101")
    world.advance(2)
    assert isinstance(reading.error, ConnectFailed)
    assert batch.error is None, "some were sent"
    writing = put_many(world, {f"key {number}": 1 for number in range(2 * batches.PARTS_MAX)}, timeout=1)
    world.advance(2)
    assert isinstance(writing.error, ConnectFailed)


def test_what_has_no_answer_in_time_has_timed_out_and_what_had_no_turn_as_well(world, monkeypatch):
    monkeypatch.setattr(batches, "PARTS_MAX", 2)
    batch = put_many(world, {"a": 1, "b": 2, "c": 3}, timeout=1)
    (address, put), _ = world.sent(Put)
    world.hear(address, world.done(put))
    world.now += 0.5
    ((_, third),) = world.sent(Put)
    assert third.key == b"c"
    put_many(world, {}, timeout=1)
    world.advance(2)
    assert batch in world.finished()
    assert batch.error is None
    assert [type(entry.error) for entry in batch.result.values()] == [
        type(None),
        RequestTimeout,
        RequestTimeout,
    ]
    assert batch.result["b"].error.indeterminate


def test_what_had_no_turn_before_the_time_was_up_was_surely_not_done(world, monkeypatch):
    monkeypatch.setattr(batches, "PARTS_MAX", 1)
    batch = put_many(world, {"a": 1, "b": 2}, timeout=1)
    world.advance(2)
    assert [put.key for _, put in world.sent(Put)] == [b"a"]
    assert is_over(world, batch)
    late = batch.result["b"].error
    assert isinstance(late, RequestTimeout)
    assert not late.indeterminate
    assert "its turn" in str(late)


def test_in_a_full_client_one_part_waits_for_another(world, monkeypatch):
    monkeypatch.setattr("dyno.session.session.CALLS_MAX", 1)
    batch = put_many(world, {"a": 1, "b": 2})
    for _ in range(2):
        ((address, put),) = world.sent(Put)
        world.hear(address, world.done(put))
    assert is_over(world, batch)
    assert [type(entry) for entry in batch.result.values()] == [PutResult, PutResult]


def test_a_full_client_refuses_the_parts_and_not_the_batch(world, monkeypatch):
    monkeypatch.setattr("dyno.session.session.CALLS_MAX", 1)
    world.get()
    batch = put_many(world, {"a": 1, "b": 2})
    assert batch in world.finished()
    assert [type(entry.error) for entry in batch.result.values()] == [Overloaded, Overloaded]


def test_a_client_that_is_closed_ends_all_of_it(world, monkeypatch):
    monkeypatch.setattr(batches, "PARTS_MAX", 1)
    reading = get_many(world, [f"{number}" for number in range(GET_MANY_KEYS_MAX + 1)])
    writing = put_many(world, {"a": 1, "b": 2})
    world.session.close(world.now, world.out)
    assert world.finished() == [reading, writing]
    assert isinstance(reading.error, ConnectFailed)
    assert writing.error is None, "the first may have been done"
    assert isinstance(writing.result["a"].error, QuorumNotMet)
    assert writing.result["a"].error.indeterminate
    assert isinstance(writing.result["b"].error, ConnectFailed)
    assert world.session._dispatch.calls == {}
    later = put_many(world, {"a": 1})
    assert isinstance(later.error, ConnectFailed)


def frames(error):
    count, traceback = 0, error.__traceback__
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


def test_errors_of_many_keys_hold_no_frames_of_one_another(world):
    writing = put_many(world, {f"key {number}": 1 for number in range(2 * batches.PARTS_MAX)})
    world.session.close(world.now, world.out)
    assert max(frames(entry.error) for entry in writing.result.values()) < 5
    entry = next(iter(writing.result.values()))
    for _ in range(100):
        with pytest.raises(QuorumNotMet):
            _ = entry.context
    assert frames(entry.error) < 5


def test_a_link_that_breaks_fails_its_writes_alone_and_the_rest_goes_on(world, monkeypatch):
    monkeypatch.setattr(batches, "PARTS_MAX", 2)
    batch = put_many(world, {f"{number}": number for number in range(6)})
    world.down(world.sent(Put)[0][0])
    while sent := world.sent(Put):
        for address, put in sent:
            if put.id in world.session._dispatch.calls:
                world.hear(address, world.done(put))
    for call in list(world.session._dispatch.calls.values()):
        world.hear(call.link.address, world.done(call))
    assert is_over(world, batch)
    kinds = Counter(type(entry.error) for entry in batch.result.values())
    assert kinds[QuorumNotMet] >= 1
    assert kinds[type(None)] >= 4


# ── cancelling ──


def test_a_cancelled_batch_leaves_no_part_behind(world):
    for begin in (lambda: get_many(world, ["a", "b"]), lambda: put_many(world, {"a": 1, "b": 2})):
        batch = begin()
        sent = world.sent()
        world.cancel(batch)
        assert world.session._dispatch.calls == {}
        for address, request in sent:
            answer = found_many(world, request, {}) if type(request) is GetMany else world.done(request)
            world.hear(address, answer)
        assert world.sent() == []
        assert world.finished() == []
        world.cancel(batch)  # once more does no harm


def test_a_batch_that_has_ended_is_cancelled_without_harm(world):
    batch = get_many(world, ["a"])
    ((address, request),) = world.sent()
    world.hear(address, found_many(world, request, {b"a": 1}))
    world.cancel(batch)
    assert world.finished() == [batch]


def test_cancelling_sends_nothing_that_waited(world):
    big = b"x" * (WINDOW_BYTES_MAX // 2)
    batch = put_many(world, {f"{number}": big for number in range(20)})
    assert len(world.sent(Put)) < 20, "the windows of all links are full"
    world.cancel(batch)
    assert world.sent() == []
    assert world.session._dispatch.calls == {}
    world.get("a")
    assert len(world.sent(Get)) == 1, "and there is room again"


def test_cancelling_makes_room_for_others(world):
    big = b"x" * (WINDOW_BYTES_MAX // 2)
    batch = put_many(world, {f"{number}": big for number in range(20)})
    world.sent()
    world.get("a")
    assert world.sent(Get) == []
    world.cancel(batch)
    assert len(world.sent(Get)) == 1


# ── writing ──


def test_every_value_is_put_with_its_context(world):
    token = world_token(world, "b")
    batch = put_many(world, {"a": 1, "b": 2}, contexts={b"b": token}, w="all", pw=1)
    sent = world.sent(Put)
    assert sorted((put.key, put.value, put.context, put.conditional, put.w, put.pw) for _, put in sent) == [
        (b"a", encode(1, bytes_max=100), b"", False, ALL, 1),
        (b"b", encode(2, bytes_max=100), token, False, ALL, 1),
    ]
    assert len({put.request for _, put in sent}) == 2
    for address, put in reversed(sent):
        world.hear(address, world.done(put))
    assert is_over(world, batch)
    assert list(batch.result) == ["a", "b"]
    assert all(type(result) is PutResult and result.error is None for result in batch.result.values())
    assert batch.result["a"].replicas.answered == ("n1", "n2")


def world_token(world, key: str) -> bytes:
    """A context as a put of that key returned it."""
    call = world.put(key, 1)
    ((address, _),) = world.sent(Put)
    world.hear(address, world.done(call))
    world.finished()
    token: bytes = call.result.context
    return token


def test_a_write_that_is_refused_fails_alone(world):
    batch = put_many(world, {"a": 1, b"b": 2})
    for address, put in world.sent(Put):
        world.hear(address, world.done(put) if put.key == b"a" else world.failed(put, "invalid"))
    assert is_over(world, batch)
    assert batch.error is None
    assert batch.result["a"].error is None
    assert isinstance(batch.result[b"b"].error, InvalidRequest)


def test_no_more_than_so_many_parts_are_under_way_and_others_have_the_time_that_is_left(world):
    batch = put_many(world, {f"{number}": number for number in range(PARTS_MAX + 2)})
    sent = world.sent(Put)
    assert len(sent) == PARTS_MAX
    assert {put.budget_ms for _, put in sent} == {5000}
    world.now += 1.5
    address, put = sent[0]
    world.hear(address, world.done(put))
    ((_, next_put),) = world.sent(Put)
    assert next_put.budget_ms == 3500
    assert world.finished() == []
    world.cancel(batch)


def test_no_more_keys_are_asked_for_at_once_than_a_node_takes(world):
    keys = [f"{number}" for number in range(2 * KEYS_MAX)]
    batch = get_many(world, keys)
    asked = world.sent(GetMany)
    assert len(asked) == KEYS_MAX // GET_MANY_KEYS_MAX
    while asked:
        address, request = asked.pop(0)
        world.hear(address, found_many(world, request, dict.fromkeys(keys_of(request), 1)))
        asked += world.sent(GetMany)
        assert len(asked) <= KEYS_MAX // GET_MANY_KEYS_MAX
    assert is_over(world, batch)
    assert [record.value for record in batch.result.values()] == [1] * len(keys)


def test_those_who_waited_for_room_come_before_the_next_parts_of_a_batch(world, monkeypatch):
    monkeypatch.setattr(batches, "PARTS_MAX", 8)
    big = b"x" * (WINDOW_BYTES_MAX // 2)
    put_many(world, {f"{number}": big for number in range(60)})
    sent = world.sent(Put)
    world.get("a")
    assert world.sent(Get) == []
    address, put = sent[0]
    world.hear(address, world.done(put))
    assert [type(message) for _, message in world.sent()] == [Put], "one that waited longer than the get"
    for address, put in sent[1:3]:
        world.hear(address, world.done(put))
    assert Get in [type(message) for _, message in world.sent()], "before all of the batch"


# ── what cannot be right ──


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("a", "several keys"),
        (b"a", "several keys"),
        (5, "several keys"),
        (None, "several keys"),
        (["a", ""], "1 to 1024 bytes"),
        (["a", "x" * 1025], "1 to 1024 bytes"),
        (["a", 5], "str or bytes"),
        (["a", bytearray(b"b")], "str or bytes"),
        (["a", ["b"]], "str or bytes"),
    ],
)
def test_keys_that_cannot_be_right_are_refused_before_anything_is_sent(world, keys, says):
    with pytest.raises(InvalidRequest, match=says):
        get_many(world, keys)
    assert world.sent() == []
    assert world.session._dispatch.calls == {}


@pytest.mark.parametrize(
    ("values", "options", "says"),
    [
        ([("a", 1)], {}, "values is a dict"),
        ({"a": 1, "b": object()}, {}, "object"),
        ({"a": 1, "": 2}, {}, "1 to 1024 bytes"),
        ({"a": 1, b"a": 2}, {}, "are one key"),
        ({"a": 1}, {"contexts": ["a"]}, "contexts is a dict"),
        ({"a": 1}, {"contexts": {"b": b""}}, "no value"),
        ({"a": 1}, {"contexts": {"a": b"", b"a": b""}}, "are one key"),
        ({"a": 1}, {"contexts": {"a": "text"}}, "context"),
        ({"a": 1}, {"w": 0}, "w"),
        ({"a": 1}, {"timeout": -1}, "timeout"),
    ],
)
def test_values_that_cannot_be_right_are_refused_before_anything_is_sent(world, values, options, says):
    with pytest.raises(InvalidRequest, match=says):
        put_many(world, values, **options)
    assert world.sent() == []
    assert world.session._dispatch.calls == {}


def test_quorums_that_cannot_be_right_are_refused(world):
    for options in ({"r": 0}, {"pr": -1}, {"r": "most"}, {"timeout": 0}):
        with pytest.raises(InvalidRequest):
            get_many(world, ["a"], **options)
    assert world.sent() == []


# ── before the members are known ──


@pytest.fixture
def just_opened(a_world):
    """Linked to five nodes, one of which was asked for the members."""
    world = a_world([f"{name}:7101" for name in FIVE])
    world.open()
    for name in FIVE:
        world.up(f"{name}:7101")
    ((world.asked, _),) = world.sent(AskMembers)
    world.finished()
    return world


KEYS = [f"key {number}" for number in range(60)]


def test_a_read_waits_for_the_members_and_then_asks_the_owners(just_opened):
    world = just_opened
    batch = get_many(world, KEYS)
    assert world.sent() == [], "they were asked for already"
    world.advance(0.25)
    world.hear(world.asked, world.members(*FIVE))
    routing = world.session._routing
    sent = world.sent()
    for address, request in sent:
        assert request.budget_ms == 4750, "the time that is left"
        for key in keys_of(request):
            owners = routing.primaries(routing.partition(world.bucket.id, key))
            assert address in [member.address for member in owners]
    for address, request in sent:
        world.hear(address, found_many(world, request, dict.fromkeys(keys_of(request), 1)))
    assert is_over(world, batch)
    assert [record.value for record in batch.result.values()] == [1] * 60


def test_without_members_any_node_will_do_after_a_moment(a_world):
    world = a_world()
    world.open()
    world.up("n2:7101")
    world.finished()
    get_many(world, ["a", "b"])
    get_many(world, ["c"], timeout=0.5)
    world.advance(0.24)
    world.hear("n2:7101", Found(9999, b"", "", ""))  # it is not silent
    assert world.sent(GetMany) == []
    world.advance(0.02)
    ((_, request),) = world.sent(GetMany)
    assert keys_of(request) == [b"c"], "a hurried one waits for half of its time"
    world.advance(batches.MEMBERS_WAIT_S - 0.3)
    world.hear("n2:7101", Found(9999, b"", "", ""))
    world.sent()
    world.advance(0.1)
    ((address, request),) = world.sent(GetMany)
    assert address == "n2:7101"
    assert keys_of(request) == [b"a", b"b"]
    world.hear("n2:7101", world.members("n1", "n2", "n3"))
    assert world.sent() == [], "what comes too late changes nothing"


def test_the_members_come_from_another_node_when_the_first_is_lost_or_says_nothing(just_opened):
    world = just_opened
    get_many(world, KEYS)
    world.down(world.asked)
    ((silent, _),) = world.sent()
    world.advance(PATIENCE_S + 0.1)
    ((other, ask),) = world.sent()
    assert type(ask) is AskMembers
    assert other != silent
    world.hear(other, world.members(*FIVE))
    sent = world.sent()
    assert {type(request).__name__ for _, request in sent} == {"GetMany"}


def test_a_read_that_waits_for_the_members_can_be_cancelled_and_closed(just_opened):
    world = just_opened
    cancelled, closed = get_many(world, KEYS), get_many(world, KEYS)
    world.cancel(cancelled)
    world.session.close(world.now, world.out)
    assert world.finished() == [closed]
    assert isinstance(closed.error, ConnectFailed)
    assert world.session._dispatch.calls == {}
    world.hear(world.asked, world.members(*FIVE))
    assert world.sent() == []


def test_a_client_that_is_closed_waits_for_no_members(just_opened):
    just_opened.session.close(just_opened.now, just_opened.out)
    batch = get_many(just_opened, ["a"])
    assert just_opened.finished() == [batch]
    assert isinstance(batch.error, ConnectFailed)


def test_a_full_client_does_not_wait_for_the_members(just_opened, monkeypatch):
    monkeypatch.setattr("dyno.session.session.CALLS_MAX", 0)
    batch = get_many(just_opened, ["a"])
    assert just_opened.finished() == [batch]
    assert isinstance(batch.result["a"].error, Overloaded)


def test_a_read_before_any_link_is_up_waits_for_a_link_alone(a_world):
    world = a_world(["n1:7101"])
    world.open()
    batch = get_many(world, ["a"])
    world.up("n1:7101")
    ((address, request),) = world.sent(GetMany)
    world.hear(address, found_many(world, request, {b"a": 1}))
    assert batch.result["a"].value == 1


def test_nothing_to_read_waits_for_nothing(just_opened):
    batch = get_many(just_opened, [])
    assert is_over(just_opened, batch)
