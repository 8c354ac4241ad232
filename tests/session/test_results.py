"""Records and put results: decoded when asked, never picking a sibling silently."""

from __future__ import annotations

import pytest

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot, dot_of_request
from dyno.causality.record import Record as Stored
from dyno.errors import ConflictError, InvalidRequest, StorageFailed
from dyno.session.results import (
    FailedPut,
    FailedRecord,
    Origin,
    PutResult,
    Record,
    Replicas,
    UpdatedRecord,
)
from dyno.wire import values

CLUSTER = bytes(range(16))
ORIGIN = Origin(CLUSTER, "carts", b"alice")


def a_record(*siblings, raw=None, answered="n1,n2", fallbacks=""):
    stored = Stored.EMPTY
    for number, value in enumerate(siblings, 1):
        dot = Dot(b"%016d" % number, 1)
        stored = stored.write(Context.EMPTY, dot, b"%016d" % number, values.encode(value))
    packed = stored.pack() if raw is None else raw
    return Record(packed, ORIGIN, answered, fallbacks)


def context_of(bytes_):
    return token.decode(bytes_, cluster=CLUSTER, bucket="carts", key=b"alice")


def test_a_missing_key_has_no_value_no_siblings_and_an_empty_context():
    record = Record(b"", ORIGIN, "n1,n2", "")
    assert not record.exists
    assert record.value is None
    assert record.siblings == []
    assert record.context == b""


def test_the_only_value_is_the_value():
    record = a_record({"milk": 1})
    assert record.exists
    assert record.value == {"milk": 1}
    assert record.siblings == [{"milk": 1}]
    assert context_of(record.context) == Context.EMPTY.add(Dot(b"%016d" % 1, 1))


def test_a_write_that_was_done_again_shows_once():
    request = b"request.request."
    first = Stored.EMPTY.write(Context.EMPTY, Dot(b"%016d" % 1, 1), request, values.encode("milk"))
    again = Stored.EMPTY.write(Context.EMPTY, dot_of_request(request), request, values.encode("milk"))
    record = a_record(raw=first.merge(again).pack())
    assert record.value == "milk"
    assert record.siblings == ["milk"]
    assert context_of(record.context) == first.context.union(again.context)


def test_a_stored_none_exists():
    record = a_record(None)
    assert record.exists
    assert record.value is None


def test_siblings_are_the_callers_to_choose_from():
    record = a_record("left", "right")
    assert record.exists
    assert record.siblings == ["left", "right"]
    with pytest.raises(ConflictError, match="carts/alice has 2 concurrent values") as caught:
        _ = record.value
    assert caught.value.siblings == ["left", "right"]
    assert caught.value.context == record.context != b""


def test_changing_the_list_of_siblings_does_not_change_the_record():
    record = a_record("left", "right")
    record.siblings.clear()
    assert record.siblings == ["left", "right"]


def test_a_deleted_key_does_not_exist_but_has_a_context():
    one = Context.EMPTY.add(Dot(b"%016d" % 1, 1))
    record = a_record(raw=Stored.EMPTY.delete(one).pack())
    assert not record.exists
    assert record.value is None
    assert context_of(record.context) == one


def test_a_context_is_made_once_and_bound_to_its_key():
    record = a_record(1)
    assert record.context is record.context
    with pytest.raises(Exception, match="belongs to another key"):
        token.decode(record.context, cluster=CLUSTER, bucket="carts", key=b"bob")


def test_replicas_are_names():
    record = a_record(1, answered="n1,n2,n4", fallbacks="n4")
    assert record.replicas == Replicas(answered=("n1", "n2", "n4"), fallbacks=("n4",))
    assert a_record(1, answered="", fallbacks="").replicas == ((), ())


@pytest.mark.parametrize("raw", [b"\x00", b"not a record", Stored.EMPTY.pack() + b"x"])
def test_a_damaged_record_says_so(raw):
    record = a_record(raw=raw)
    for look in (lambda: record.exists, lambda: record.value, lambda: record.context):
        with pytest.raises(StorageFailed, match="the answer for carts/alice is damaged"):
            look()


def test_a_damaged_value_says_so():
    stored = Stored.EMPTY.write(Context.EMPTY, Dot(b"%016d" % 1, 1), b"%016d" % 1, b"\xff\xff")
    record = a_record(raw=stored.pack())
    assert record.exists
    with pytest.raises(StorageFailed, match="damaged"):
        _ = record.value


def test_a_record_shows_what_it_is():
    assert repr(a_record(1, 2)) == "<Record of carts/alice: [1, 2]>"
    odd = Record(b"", Origin(CLUSTER, "carts", b"\xff\x00"), "", "")
    assert repr(odd) == "<Record of carts/\\xff\x00: []>"


def test_a_put_returns_the_token_of_its_write():
    written = Context.EMPTY.add(Dot(b"%016d" % 3, 1))
    result = PutResult(written.pack(), ORIGIN, "n1,n2", "n2")
    assert context_of(result.context) == written
    assert result.context is result.context
    assert result.replicas == (("n1", "n2"), ("n2",))
    assert repr(result) == "<PutResult of carts/alice: on n1, n2>"


def test_deleting_what_is_missing_covers_nothing():
    result = PutResult(b"", ORIGIN, "", "")
    assert result.context == b""
    assert repr(result) == "<PutResult of carts/alice: on no node>"


def test_a_damaged_put_result_says_so():
    with pytest.raises(StorageFailed, match="damaged"):
        _ = PutResult(b"\x01", ORIGIN, "n1", "").context


def test_an_updated_record_holds_what_was_put():
    written = Context.EMPTY.add(Dot(b"%016d" % 3, 1))
    stored = PutResult(written.pack(), ORIGIN, "n1,n2", "")
    record = UpdatedRecord(values.encode([1, 2]), stored)
    assert record.exists
    assert record.value == [1, 2]
    assert record.siblings == [[1, 2]]
    assert record.context == stored.context
    assert record.replicas == stored.replicas


# ── entries of a batch ──


def test_what_succeeded_has_no_error():
    assert a_record(1).error is None
    assert PutResult(b"", ORIGIN, "", "").error is None


@pytest.mark.parametrize(("kind", "base"), [(FailedRecord, Record), (FailedPut, PutResult)])
def test_an_entry_that_failed_has_its_error_and_all_else_raises_it(kind, base):
    error = StorageFailed("the disk is full")
    entry = kind(error)
    assert isinstance(entry, base)
    assert entry.error is error
    for name in [name for name in dir(base) if not name.startswith("_") and name != "error"]:
        with pytest.raises(StorageFailed) as caught:
            getattr(entry, name)
        assert caught.value is error
    assert "that failed: StorageFailed('the disk is full')" in repr(entry)


def test_an_entry_that_failed_has_no_other_attributes():
    with pytest.raises(AttributeError):
        _ = FailedRecord(StorageFailed("the disk is full")).nonsense


def test_a_record_of_another_kind_is_no_siblings():
    raw = bytearray(Stored.EMPTY.pack())
    raw[1] = 7
    record = a_record(raw=bytes(raw))
    with pytest.raises(InvalidRequest, match=r"carts/alice holds no siblings: .* the other kind 7"):
        _ = record.value
