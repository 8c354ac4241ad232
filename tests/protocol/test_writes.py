"""Writes under way, and what is asked before one begins; with several nodes, see stories/."""

from __future__ import annotations

from random import Random

import pytest

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot, dot_of_request
from dyno.causality.record import Record
from dyno.config import RECORD_BYTES_MAX
from dyno.protocol import writes as writes_module
from dyno.protocol.group_commit import Refusal
from dyno.protocol.outbox import Outbox
from dyno.protocol.planner import Intent
from dyno.protocol.sink import LinkSink
from dyno.storage.cell import pack_cell
from dyno.wire.messages import (
    ALL,
    STATUS_OK,
    STATUS_OVERLOADED,
    STATUS_STORAGE,
    Delete,
    Done,
    Failed,
    Found,
    Message,
    Put,
    Recall,
    Recalled,
    Store,
    Stored,
)
from tests.protocol.coordinator_harness import (
    KEY,
    LINK,
    At,
    a_context,
    a_delete,
    a_get,
    a_put,
    not_owned,
    record_at,
    with_record,
)

# ── links ──


def test_an_owner_whose_link_is_down_gets_the_record_when_it_is_back() -> None:
    at = At()
    at.cut("b")
    at.ask(a_put(w=ALL))
    ((other, store),) = at.sent(Store)
    assert isinstance(store, Store)
    assert other == "c"
    at.cut("c")  # before it answered: who knows whether it came
    at.link("b")
    at.link("c")
    assert at.sent(Store) == [("b", store), ("c", store)]
    at.commit()
    for name in "bc":
        at.hear(name, Stored(store.id, STATUS_OK))
    assert isinstance(at.answers()[0], Done)
    at.cut("b")
    at.link("b")
    assert at.sent(Store) == []


# ── a replica that cannot write ──


def begin(at: At, request: Put | Delete) -> list[Refusal]:
    """Whether it is refused once it has read first."""
    plan = at.ring.plan(request.bucket, request.key)
    intent = Intent(request.key, plan.slot, plan.owners, at.ring.fingerprint)
    refusals: list[Refusal] = []

    def refused(refusal: Refusal, now: float, out: Outbox) -> None:
        refusals.append(refusal)

    at.coordinator.writes.begin(request, intent, refused, LinkSink(LINK, request.id), at.now, at.out)
    return refusals


def test_a_write_that_cannot_be_done_here_is_refused_and_nothing_was_done() -> None:
    at = At()
    with_record(at)
    requests = (a_put(), a_put(conditional=True), a_delete(context=a_context(at)))
    at.engine.corrupt(at.ring.plan("bucket", KEY).slot)
    for request in requests:
        with pytest.raises(Refusal) as raised:
            begin(at, request)
        assert raised.value.status == STATUS_STORAGE
    assert not at.out
    assert at.coordinator.writes.under_way == 0


# ── the ring ──


def test_data_is_refused_while_somebody_joins() -> None:
    at = At()
    at.members.admitting = True
    at.ask(a_put())
    failure = at.failure()
    assert failure.code == "ring"
    assert "newcomer" in failure.message
    at.ask(a_delete())
    assert at.failure().code == "ring"
    at.ask(a_get(r=1))
    assert isinstance(at.answers()[0], Found)
    assert at.replica.take_batch() is None


def test_a_delete_with_a_context_reads_nothing_and_drops_what_it_covers() -> None:
    at = At()
    with_record(at)
    at.ask(a_delete(2, a_context(at)))
    assert len(at.out.sends) == 2
    stores = at.sent(Store)
    assert sorted(name for name, _ in stores) == ["b", "c"]
    (store, _) = (message for _, message in stores)
    assert isinstance(store, Store)
    record = Record.unpack(store.record)
    assert (record.live, bool(record.context)) == (False, True)
    at.commit()
    at.hear("b", Stored(store.id, STATUS_OK))
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert Context.unpack(done.context) == record.context
    assert at.coordinator.writes.under_way == 0


def test_a_delete_without_a_context_covers_nothing() -> None:
    at = At()
    with_record(at)
    at.ask(a_delete())
    assert at.answers() == [Done(1, b"", "", "")]
    assert at.out.sends == []
    assert Record.unpack(record_at(at)).live


def test_a_delete_of_a_key_whose_owners_are_all_away_is_kept_for_them() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    for name in at.ring.plan("bucket", key).owners:
        at.cut(name)
    context = token.encode(Context.EMPTY.add(Dot(b"a" * 16, 1)), cluster=b"c" * 16, bucket="bucket", key=key)
    at.ask(a_delete(1, context)._replace(key=key, w=1))
    assert at.answers() == []
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)


# ── if_context ──


def test_a_conditional_put_writes_only_where_the_record_is_at_its_context() -> None:
    at = At(names="a")
    at.ask(a_put(1, b"one", conditional=True))  # nothing is live
    at.commit()
    assert isinstance(at.answers()[0], Done)
    first = a_context(at)
    at.ask(a_put(2, b"two", conditional=True))
    failure = at.failure()
    assert (failure.code, failure.indeterminate) == ("conflict", False)
    assert failure.record == at.replica.read(at.ring.plan("bucket", KEY).slot)[0]
    at.ask(a_put(3, b"three", first, conditional=True))
    at.commit()
    assert isinstance(at.answers()[0], Done)
    at.ask(a_put(4, b"four", first, conditional=True))
    conflict = at.failure()
    assert conflict.code == "conflict"
    assert [sibling.value for sibling in Record.unpack(conflict.record).siblings] == [b"three"]
    at.ask(a_delete(5, a_context(at)))
    at.commit()
    at.answers()
    at.ask(a_put(6, b"six", conditional=True))  # what was deleted is not live
    at.commit()
    assert isinstance(at.answers()[0], Done)


def test_a_conflict_with_a_write_on_its_way_is_shown_once_that_is_on_the_disk() -> None:
    at = At(names="a")
    at.ask(a_put(1, b"one"))
    at.ask(a_put(2, b"two", conditional=True))
    assert at.answers() == []
    at.commit()
    done, conflict = at.answers()
    assert isinstance(done, Done)
    assert isinstance(conflict, Failed)
    assert (conflict.id, conflict.code) == (2, "conflict")
    assert [sibling.value for sibling in Record.unpack(conflict.record).siblings] == [b"one"]


def test_a_conflict_with_a_write_that_never_got_to_the_disk_is_none() -> None:
    at = At(names="a")
    at.ask(a_put(1, b"one"))
    at.ask(a_put(2, b"two", conditional=True))
    at.commit_fails()
    (failure,) = [answer for answer in at.answers() if isinstance(answer, Failed) and answer.id == 2]
    assert (failure.code, failure.record, failure.indeterminate) == ("storage", b"", False)
    assert failure.message == "a: the disk refused another write of this key"


# ── bounds ──


def test_a_value_has_so_many_bytes_and_no_more() -> None:
    at = At(names="a", value_bytes_max=10)
    at.ask(a_put(1, b"\xf5" * 10))
    at.commit()
    assert isinstance(at.answers()[0], Done)
    at.ask(a_put(2, b"\xf5" * 11))
    failure = at.failure()
    assert (failure.code, failure.message) == (
        "invalid",
        "the value has 11 bytes, more than value_bytes_max=10",
    )
    assert at.replica.take_batch() is None


@pytest.mark.parametrize(
    "request_",
    [a_put(request=b"short"), a_delete()._replace(request=b"x" * 17)],
)
def test_a_request_id_has_sixteen_bytes(request_: Put | Delete) -> None:
    at = At()
    at.ask(request_)
    assert at.failure().message == "a request id has 16 bytes"


def test_a_context_larger_than_any_record_is_refused_without_being_looked_into() -> None:
    at = At()
    at.ask(a_put(context=bytes(RECORD_BYTES_MAX + 1)))
    assert "never given to anybody" in at.failure().message
    at.ask(a_delete(context=bytes(RECORD_BYTES_MAX + 1)))
    assert "never given to anybody" in at.failure().message


def test_a_random_context_is_refused() -> None:
    at = At()
    random = Random(1)
    for _ in range(100):
        at.ask(a_put(context=random.randbytes(random.randrange(1, 60))))
        assert at.failure().code == "invalid"
    assert at.replica.take_batch() is None


# ── contexts of answers ──


def context_of(answer: Message) -> Context:
    assert isinstance(answer, Done)
    return Context.unpack(answer.context)


def test_the_context_of_a_blind_write_covers_that_write_alone() -> None:
    at = At(names="a")
    contexts = []
    for number in range(3):
        at.ask(a_put(number, b"%d" % number))
        at.commit()
        contexts.append(context_of(at.answers()[0]))
    at.ask(a_get(9))
    (found,) = at.answers()
    assert isinstance(found, Found)
    record = Record.unpack(found.record)
    for number, context in enumerate(contexts):
        covered = [sibling.value for sibling in record.siblings if context.covers(sibling.dot)]
        assert covered == [b"%d" % number]


def test_the_context_of_a_write_that_had_read_everything_is_that_of_the_record() -> None:
    at = At(names="a")
    at.ask(a_put(1))
    at.commit()
    read = token.encode(context_of(at.answers()[0]), cluster=b"c" * 16, bucket="bucket", key=KEY)
    at.ask(a_put(2, b"next", read))
    at.commit()
    written = context_of(at.answers()[0])
    at.ask(a_get(3))
    (found,) = at.answers()
    assert isinstance(found, Found)
    assert Record.unpack(found.record).context == written


# ── overload ──


def write_many(at: At, count: int) -> list[Store]:
    """The copies that go to b and c."""
    for number in range(count):
        at.ask(a_put(number, key=b"key %d" % number))
    return [store for name, store in at.sent(Store) if name == "b" and isinstance(store, Store)]


def slow_down(at: At) -> None:
    """The disk takes a millisecond for a record from now on, as far as anybody knows."""
    write_many(at, 200)
    assert at.replica.take_batch(at.now) is not None
    at.now += 0.2
    at.replica.committed(at.now, at.out, 0.2)
    for store in [store for name, store in at.sent(Store) if name == "b"]:
        at.hear("b", Stored(store.id, STATUS_OK))  # type: ignore[union-attr]
    at.answers()


def test_a_write_that_would_wait_too_long_for_the_disk_is_refused_before_it_begins() -> None:
    at = At(names="a")
    slow_down(at)
    write_many(at, 600)
    answers = at.answers()
    assert 50 < len(answers) < 150
    refused = answers[-1]
    assert isinstance(refused, Failed)
    assert (refused.code, refused.indeterminate) == ("overloaded", False)
    assert refused.message.startswith("a: writes wait 0.5")
    assert 500 <= refused.retry_after_ms <= 550
    at.ask(a_delete(context=b""))  # reads first, and then would write
    assert at.failure().code == "overloaded"
    at.commit()
    assert len(at.answers()) + len(answers) == 600
    at.ask(a_put(1000))
    at.commit()
    assert isinstance(at.answers()[0], Done)


def test_a_write_whose_caller_waits_for_less_is_refused_earlier() -> None:
    at = At(names="a")
    slow_down(at)
    write_many(at, 100)
    at.ask(a_put(1000, budget_ms=150))
    assert at.failure().code == "overloaded"
    at.ask(a_put(1001, budget_ms=250))
    assert at.answers() == []


def test_a_write_is_not_begun_when_too_many_of_its_owners_refused_copies_lately() -> None:
    at = At()
    stores = write_many(at, 100)
    for name in "bc":
        at.hear(name, Stored(stores[-1].id, STATUS_OVERLOADED))
    at.answers()
    at.ask(a_put(1000))
    failed = at.failure()
    assert (failed.code, failed.indeterminate) == ("overloaded", False)
    assert failed.message == "a: fewer than 2 owners of the key keep up with writes"
    at.ask(a_put(1001, w=1))
    assert at.answers() == []
    for store in stores[:50]:
        at.hear("b", Stored(store.id, STATUS_OK))
    at.ask(a_put(1002))
    assert at.answers() == []


# ── buckets with properties of their own ──


def test_a_write_that_goes_on_to_another_owner_while_its_bucket_is_reserved_counts_as_before() -> None:
    at = At()
    at.ask(a_put())
    at.commit()
    at.serving["bucket"] = None
    (name, store), *_ = at.sent(Store)
    assert isinstance(store, Store)
    at.hear(name, Stored(store.id, STATUS_OK))
    assert isinstance(at.answers()[0], Done)


def of_another_kind() -> bytes:
    packed = bytearray(Record.EMPTY.write(Context.EMPTY, Dot(b"a" * 16, 1), b"r" * 16, b"v").pack())
    packed[1] = 7
    return bytes(packed)


def test_an_operation_of_another_kind_than_the_record_is_invalid() -> None:
    at = At("a", "a")
    slot = at.ring.plan("bucket", KEY).slot
    at.engine.write_batch({slot: pack_cell(KEY, b"", of_another_kind())}, {})
    context = token.encode(Context.EMPTY.add(Dot(b"a" * 16, 1)), cluster=b"c" * 16, bucket="bucket", key=KEY)
    for request in (a_put(), a_delete(context=context)):
        at.ask(request)
        failure = at.failure()
        assert failure.code == "invalid"
        assert "a packed record has the other kind 7" in failure.message


def test_a_conditional_put_over_a_record_of_another_kind_is_invalid() -> None:
    at = At()
    slot = at.ring.plan("bucket", KEY).slot
    at.engine.write_batch({slot: pack_cell(KEY, b"", of_another_kind())}, {})
    at.ask(a_put(conditional=True))
    failure = at.failure()
    assert (failure.code, "holds no siblings" in failure.message) == ("invalid", True)


def test_conditional_puts_that_wait_for_a_commit_to_be_refused_are_bounded() -> None:
    at = At(batch_waiters_max=5)
    at.ask(a_put())
    for number in range(2, 12):
        at.ask(a_put(number, conditional=True))
    refused = at.answers()
    assert [failed.id for failed in refused] == [6, 7, 8, 9, 10, 11]  # type: ignore[union-attr]
    assert {failed.code for failed in refused} == {"overloaded"}  # type: ignore[union-attr]
    at.commit()
    conflicts = at.answers()
    assert [failed.id for failed in conflicts] == [2, 3, 4, 5]  # type: ignore[union-attr]
    assert {failed.code for failed in conflicts} == {"conflict"}  # type: ignore[union-attr]


# ── puts that are sent again ──


def recalled(at: At, node: str, recall: Recall, record: Record | None = None) -> None:
    """The word of another owner: it knows nothing, or the only write of this record."""
    if record is None:
        at.hear(node, Recalled(recall.id, STATUS_OK, b"", 0, b""))
    else:
        at.hear(node, Recalled(recall.id, STATUS_OK, *record.siblings[0].dot, record.pack()))


def asked(at: At) -> Recall:
    """What the others are asked; they all are."""
    sent = at.sent(Recall)
    assert [name for name, _ in sent] == ["b", "c"]
    recall = sent[0][1]
    assert isinstance(recall, Recall)
    return recall


def elsewhere(put: Put) -> Record:
    """What the owner has who did it."""
    return Record.EMPTY.write(Context.EMPTY, Dot(b"e" * 16, 4), put.request, put.value)


def test_a_put_that_was_sent_before_asks_the_other_owners_first() -> None:
    at = At()
    put = a_put(again=True)
    at.ask(put)
    recall = asked(at)
    assert recall.request == put.request
    assert at.coordinator.writes.under_way == 1
    assert at.replica.take_batch() is None
    recalled(at, "b", recall)
    assert at.sent(Store) == []
    recalled(at, "c", recall)
    (_, store), _ = at.sent(Store)
    assert isinstance(store, Store)
    (sibling,) = Record.unpack(store.record).siblings
    assert sibling.dot == dot_of_request(put.request)
    at.commit()
    at.hear("b", Stored(store.id, STATUS_OK))
    assert isinstance(at.answers()[0], Done)


def test_a_put_that_another_owner_knows_is_brought_to_an_end() -> None:
    at = At()
    put = a_put(again=True, conditional=True)
    at.ask(put)
    recall, record = asked(at), elsewhere(put)
    recalled(at, "c", recall, record)
    (_, store), _ = at.sent(Store)
    assert isinstance(store, Store)
    assert store.record == record.pack()
    at.commit()
    assert at.answers() == []
    at.hear("b", Stored(store.id, STATUS_OK))
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert Context.unpack(done.context) == Context.EMPTY.add(record.siblings[0].dot)
    assert at.replica.seen.dots(recall.slot, put.request) == [record.siblings[0].dot]


def test_a_put_that_is_known_here_asks_nobody_and_mints_nothing() -> None:
    at = At()
    put = a_put(w=1)
    at.ask(put)
    at.sent(Store)
    at.ask(put._replace(id=2, again=True))  # before the first is on the disk
    assert len(at.sent(Store)) == 2
    at.commit()
    first, second = at.answers()
    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert (second.id, second.context) == (2, first.context)
    at.ask(put._replace(id=3))  # and after it
    (third,) = at.answers()
    assert isinstance(third, Done)
    assert third.context == first.context
    assert len(Record.unpack(record_at(at)).siblings) == 1


def test_the_context_of_a_completed_put_is_its_callers_and_its_dot() -> None:
    at = At(names="a")
    with_record(at)
    context = a_context(at)
    put = a_put(2, b"next", context=context)
    at.ask(put)
    at.commit()
    (first,) = at.answers()
    at.ask(a_put(3, b"a sibling"))
    at.commit()
    at.answers()
    at.ask(put._replace(id=4, again=True))
    (again,) = at.answers()
    assert context_of(again) == context_of(first)


def test_a_put_that_arrives_while_its_retry_asks_is_not_done_twice() -> None:
    at = At(names="abc")
    put = a_put(w=1)
    at.ask(put._replace(id=2, again=True))
    recall = asked(at)
    at.ask(put)
    at.sent(Store)
    for name in "bc":
        recalled(at, name, recall)
    at.commit()
    assert {type(answer) for answer in at.answers()} == {Done}
    assert len(Record.unpack(record_at(at)).siblings) == 1


def test_a_conditional_put_that_was_done_again_elsewhere_meets_no_conflict_when_it_comes_at_last() -> None:
    at = At()
    put = a_put(w=1)._replace(conditional=True)
    other = Record.EMPTY.write(Context.EMPTY, dot_of_request(put.request), put.request, put.value)
    at.replica.merge(at.ring.plan("bucket", KEY).slot, KEY, other.pack())
    at.ask(put)
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert Context.unpack(done.context) == Context.EMPTY.add(dot_of_request(put.request))
    assert record_at(at) == other.pack()


def test_a_put_of_which_somebody_else_was_told_that_it_is_unknown_here_is_not_begun() -> None:
    at = At()
    put = a_put()
    at.replica.seen.bar(put.request, at.now)
    at.ask(put)
    failure = at.failure()
    assert (failure.code, failure.indeterminate) == ("quorum", True)
    at.now = 1.0
    at.ask(put._replace(again=True))  # a later attempt is another matter
    recall = asked(at)
    at.now = 1.2
    at.replica.seen.bar(put.request, 1.1)  # but one later still overtakes it
    for name in "bc":
        recalled(at, name, recall)
    assert at.failure().indeterminate
    assert at.replica.take_batch() is None


def test_a_ring_that_changes_while_the_owners_are_asked_is_planned_with_anew() -> None:
    at = At()
    at.ask(a_put(again=True))
    recall = asked(at)
    at.turn("abcd")
    for name in "bc":
        recalled(at, name, recall)
    assert at.failure().code == "ring"
    assert at.replica.take_batch() is None


def test_owners_that_say_nothing_are_waited_for_for_a_quarter_of_the_time() -> None:
    at = At(put_timeout_s=2.0)
    at.ask(a_put(again=True))
    asked(at)
    assert at.coordinator.deadline() == 0.5
    at.tick(0.5)
    assert len(at.sent(Store)) == 2


def test_a_condition_that_does_not_hold_is_a_conflict_only_where_all_owners_were_asked() -> None:
    at = At()
    with_record(at)
    for certain in (True, False):
        at.ask(a_put(2, conditional=True, again=True))
        recall = asked(at)
        recalled(at, "b", recall)
        if certain:
            recalled(at, "c", recall)
        else:
            at.cut("c")
            at.tick(at.now)
        failure = at.failure()
        assert (failure.code, failure.indeterminate) == (("conflict", False) if certain else ("quorum", True))


def test_a_conditional_put_that_was_sent_before_asks_all_members() -> None:
    """Any of them may have stood in for the owners."""
    at = At(names="abcde")
    keys = (b"key %d" % number for number in range(100))
    key = next(key for key in keys if "a" in at.ring.plan("bucket", key).owners)
    others = at.planner.standing(at.ring.plan("bucket", key).owners).others
    put = a_put(2, again=True)._replace(key=key)
    at.ask(put)
    assert [name for name, _ in at.sent(Recall)] == list(others)
    put = put._replace(id=3, conditional=True, request=b"r" * 16)
    at.ask(put)
    assert sorted(name for name, _ in at.sent(Recall)) == ["b", "c", "d", "e"]


def test_where_members_are_too_many_to_be_asked_a_condition_that_does_not_hold_is_no_conflict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writes_module, "_RECALLED_MAX", 1)
    at = At(names="abc")
    with_record(at)
    at.ask(a_put(2, again=True, conditional=True))
    recall = asked(at)
    for name in "bc":
        recalled(at, name, recall)
    (failed,) = at.answers()
    assert isinstance(failed, Failed)
    assert failed.indeterminate


def test_a_condition_that_holds_is_enough_for_a_put_that_nobody_knows() -> None:
    at = At()
    with_record(at)
    at.ask(a_put(2, conditional=True, context=a_context(at), again=True))
    recall = asked(at)
    recalled(at, "b", recall)
    at.cut("c")
    at.tick(at.now)
    assert [name for name, _ in at.sent(Store)] == ["b"]


def test_what_cannot_be_done_here_after_the_owners_were_asked_is_refused_then() -> None:
    at = At()
    with_record(at)
    put = a_put(2, again=True)
    refusals = begin(at, put)
    recall = asked(at)
    at.engine.corrupt(recall.slot)
    for name in "bc":
        recalled(at, name, recall)
    (refusal,) = refusals
    assert refusal.status == STATUS_STORAGE
    assert at.answers() == []


def test_what_can_never_be_written_is_invalid_also_after_the_owners_were_asked() -> None:
    at = At()
    at.ask(a_put(again=True))
    recall = asked(at)
    at.engine.write_batch({recall.slot: pack_cell(KEY, b"", of_another_kind())}, {})
    for name in "bc":
        recalled(at, name, recall)
    assert "other kind" in at.failure().message


# ── puts that are sent again to a node that owns nothing of the key ──


def stand_in(at: At) -> bytes:
    """A key none of whose owners can be asked by this node, which is none of them."""
    key = not_owned(at)
    for name in at.ring.plan("bucket", key).owners:
        at.cut(name)
    return key


def kept_values(at: At, key: bytes) -> list[bytes]:
    """What this node keeps of a key for its owners."""
    plan = at.ring.plan("bucket", key)
    packed, _ = at.hints.read(plan.slot, plan.owners)
    return [sibling.value for sibling in Record.unpack(packed).siblings]


def test_a_put_that_was_done_in_its_owners_place_is_not_done_again() -> None:
    at = At(names="abcde")
    key = stand_in(at)
    put = a_put(w=1)._replace(key=key)
    at.ask(put)
    at.commit()
    (first,) = at.answers()
    at.ask(put._replace(id=2, again=True))
    (second,) = at.answers()
    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert second.context == first.context
    assert kept_values(at, key) == [put.value]


def test_a_put_that_was_done_in_its_owners_place_and_replaced_since_does_not_come_back() -> None:
    at = At(names="abcde")
    key = stand_in(at)
    put = a_put(w=1)._replace(key=key)
    at.ask(put)
    at.commit()
    (first,) = at.answers()
    assert isinstance(first, Done)
    context = token.encode(Context.unpack(first.context), cluster=b"c" * 16, bucket="bucket", key=key)
    at.ask(a_put(2, b"over", context, w=1)._replace(key=key))
    at.commit()
    assert isinstance(at.answers()[0], Done)
    at.ask(put._replace(id=3, again=True))
    at.ask(put._replace(id=4))
    for answer in at.answers():
        assert isinstance(answer, Done)
        assert answer.context == first.context
    assert kept_values(at, key) == [b"over"]


def test_a_put_that_a_dead_owner_knows_is_kept_for_the_others_as_that_owner_has_it() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    owner, *others = at.ring.plan("bucket", key).owners
    for name in others:
        at.cut(name)
    at.members.dead = [owner]  # as gossip has it; but there is a link
    put = a_put(again=True, w=1)._replace(key=key)
    at.ask(put)
    ((name, recall),) = at.sent(Recall)
    assert name == owner
    assert isinstance(recall, Recall)
    record = elsewhere(put).write(Context.EMPTY, Dot(b"f" * 16, 1), b"q" * 16, b"beside")
    first = next(sibling.dot for sibling in record.siblings if sibling.request == put.request)
    at.hear(owner, Recalled(recall.id, STATUS_OK, *first, record.pack()))
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert Context.unpack(done.context) == Context.EMPTY.add(first)
    assert sorted(kept_values(at, key)) == [b"beside", put.value]


def test_a_put_that_no_dead_owner_knows_is_done_again_in_its_owners_place() -> None:
    at = At(names="abcde")
    key = not_owned(at)
    at.members.dead = list(at.ring.plan("bucket", key).owners)
    put = a_put(again=True, w=1)._replace(key=key)
    at.ask(put)
    for name, recall in at.sent(Recall):
        assert isinstance(recall, Recall)
        recalled(at, name, recall)
    at.commit()
    (done,) = at.answers()
    assert isinstance(done, Done)
    assert Context.unpack(done.context) == Context.EMPTY.add(dot_of_request(put.request))
    assert kept_values(at, key) == [put.value]
