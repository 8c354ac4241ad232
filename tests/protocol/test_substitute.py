"""Minting where no primary can be reached: on top of what is kept here, and never a dot twice."""

from __future__ import annotations

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import dot_of_request
from dyno.causality.record import Record
from dyno.errors import InvalidRequest
from dyno.protocol import substitute
from dyno.protocol.group_commit import Refusal
from dyno.protocol.replica import NO_DOT, Written
from dyno.protocol.rows import HINTS
from dyno.protocol.substitute import Substitute
from dyno.storage.cell import pack_cell
from tests.protocol.hints_harness import KEY, Kept, a_record, a_slot, values

OWNERS = ["b", "c", "d"]


class Standing:
    """Node a, which owns nothing."""

    def __init__(self, kept: Kept | None = None) -> None:
        self.kept = kept or Kept()
        self.substitute = Substitute(replica=self.kept.replica, hints=self.kept.hints)

    def put(self, value: bytes, context: Context = Context.EMPTY, *, number: int = 1) -> Written:
        return self.substitute.put(a_slot(number), OWNERS, context=context, request=b"r" * 16, value=value)

    def keep(self, record: bytes, *, target: str = "b", number: int = 1) -> None:
        self.kept.keep(target, number, record)


def test_a_write_stands_on_all_that_is_kept_of_the_key() -> None:
    at = Standing()
    at.keep(a_record(b"one", by=1), target="b")
    at.keep(a_record(b"other", by=2), target="c")
    written = at.put(b"blind")
    assert values(written.record) == [b"blind", b"one", b"other"]
    assert written.batch is None
    over = at.put(b"over", Record.unpack(written.record).context)
    assert b"over" in values(over.record)


def test_the_count_goes_on_only_where_what_was_minted_is_kept_here() -> None:
    at = Standing()
    first = at.put(b"one")
    at.keep(first.record)
    second = at.put(b"two")
    assert first.dot is not None
    assert second.dot is not None
    assert second.dot == first.dot._replace(counter=2)
    third = at.put(b"three")  # as if the second was not taken by any disk
    assert third.dot is not None
    assert third.dot.actor != first.dot.actor
    assert len({first.dot, second.dot, third.dot}) == 3


def test_notes_are_bounded_and_a_lost_one_opens_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(substitute, "_NOTES_MAX", 2)
    at = Standing()
    dots = []
    for number in (1, 2, 3, 1):
        written = at.put(b"value", number=number)
        at.keep(written.record, number=number)
        dots.append(written.dot)
    assert len({dot.actor for dot in dots if dot}) == 4
    again = at.put(b"value", number=1).dot
    assert again is not None
    assert again.counter == 2


def test_a_delete_covers_what_its_context_does() -> None:
    at = Standing()
    at.keep(a_record(b"one", by=1))
    context = Record.unpack(a_record(b"other", by=2)).context
    written = at.substitute.delete(a_slot(1), OWNERS, context=context)
    assert values(written.record) == [b"one"]
    assert Record.unpack(written.record).context.includes(context)
    assert (written.dot, written.batch) == (NO_DOT, None)


def test_a_write_that_is_sent_again_is_recalled_from_what_is_kept() -> None:
    at = Standing()
    request = b"r" * 16
    assert at.substitute.recall(a_slot(1), OWNERS, request) is None
    written = at.put(b"value")
    at.keep(written.record)
    known = at.substitute.recall(a_slot(1), OWNERS, request)
    assert known is not None
    assert (known.record, known.dot, known.batch) == (written.record, written.dot, None)
    assert at.substitute.recall(a_slot(1), OWNERS, b"q" * 16) is None


def test_a_write_that_was_replaced_in_what_is_kept_is_recalled_all_the_same() -> None:
    at = Standing()
    request = b"r" * 16
    written = at.put(b"value")
    at.keep(written.record)
    over = at.substitute.put(
        a_slot(1), OWNERS, context=Context.EMPTY.add(written.dot), request=b"q" * 16, value=b"over"
    )
    at.keep(over.record)
    for restarted in (False, True):
        if restarted:
            at.kept.commit()
            at = Standing(at.kept.restarted())
        known = at.substitute.recall(a_slot(1), OWNERS, request)
        assert known is not None
        assert (known.dot, values(known.record)) == (written.dot, [b"over"])


def test_a_first_attempt_that_comes_after_it_was_done_again_is_recalled() -> None:
    at = Standing()
    again = at.substitute.put(
        a_slot(1), OWNERS, context=Context.EMPTY, request=b"r" * 16, value=b"value", again=True
    )
    at.keep(again.record)
    written = at.put(b"value")
    assert (written.record, written.dot) == (again.record, dot_of_request(b"r" * 16))


def test_a_write_that_is_done_again_has_the_dot_of_its_request() -> None:
    at = Standing()
    request = b"q" * 16
    written = at.substitute.put(
        a_slot(1), OWNERS, context=Context.EMPTY, request=request, value=b"value", again=True
    )
    assert written.dot == dot_of_request(request)
    at.keep(at.put(b"over", Record.unpack(written.record).context).record)
    covered = at.substitute.recall(a_slot(1), OWNERS, request)
    assert covered is not None
    assert covered.dot == dot_of_request(request)


@pytest.mark.parametrize(("record", "error"), [(b"\1\7" + bytes(8), InvalidRequest), (b"nonsense", Refusal)])
def test_what_is_kept_and_cannot_be_read_is_not_written_over(record: bytes, error: type[Exception]) -> None:
    at = Standing()
    at.keep(a_record(b"one"))
    at.kept.commit()
    (row,) = at.kept.rows()
    assert row.startswith(HINTS)
    at.kept.replica.write_row(row, bytes(8) + pack_cell(KEY, b"", record))
    with pytest.raises(error):
        at.put(b"value")
