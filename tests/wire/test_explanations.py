"""What nodes hold of a key: what is packed comes back, bounded, and nothing else passes."""

from __future__ import annotations

import cbor2
import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import Record
from dyno.wire import explanations
from dyno.wire.explanations import (
    ABSENT,
    CONTEXT_SHOWN_BYTES_MAX,
    CORRUPT,
    HEARD,
    HELD,
    HINTS_SHOWN_MAX,
    OTHER_KIND,
    REPORTS_MAX,
    SIBLINGS_SHOWN_MAX,
    SILENT,
    UNREACHABLE,
    VALUE_SHOWN_BYTES_MAX,
    Explanation,
    Report,
    ShownSibling,
    View,
    absent,
    pack_explanation,
    pack_report,
    unpack_explanation,
    unpack_report,
    view_of,
)
from dyno.wire.flat import ProtocolError
from dyno.wire.rows import pack_row


def a_record(*values: bytes) -> Record:
    record = Record.EMPTY
    for number, value in enumerate(values, 1):
        record = record.write(Context.EMPTY, Dot(b"%016d" % number, 1), b"%016d" % number, value)
    return record


def heard(*views: View, node: str = "n1") -> Report:
    return Report(node, HEARD, False, 0, views)


# ── views ──


def test_a_record_is_shown():
    record = a_record(b"one", b"two")
    view = view_of(record.pack())
    assert (view.target, view.state, view.size, view.values) == ("", HELD, len(record.pack()), 2)
    assert Context.unpack(view.context) == record.context
    assert view.siblings == (
        ShownSibling(b"%016d" % 1, 1, b"%016d" % 1, 3, b"one"),
        ShownSibling(b"%016d" % 2, 1, b"%016d" % 2, 3, b"two"),
    )
    assert all(sibling.whole for sibling in view.siblings)


def test_equal_records_have_equal_digests():
    one, other = a_record(b"one").pack(), a_record(b"two").pack()
    assert view_of(one).digest == view_of(one, "n2").digest != view_of(other).digest


def test_a_tombstone_is_a_record_without_values():
    record = a_record(b"one")
    view = view_of(record.delete(record.context).pack())
    assert (view.state, view.values, view.siblings) == (HELD, 0, ())
    assert Context.unpack(view.context) == record.context


def test_a_large_record_is_cut():
    record = a_record(*[b"v" * 10_000] * 200)
    assert len(record.context.pack()) > CONTEXT_SHOWN_BYTES_MAX
    view = view_of(record.pack())
    assert (view.values, len(view.siblings), view.context) == (200, SIBLINGS_SHOWN_MAX, b"")
    assert view.siblings[0].size == 10_000
    assert view.siblings[0].head == b"v" * VALUE_SHOWN_BYTES_MAX
    assert not view.siblings[0].whole
    assert unpack_report(pack_report(heard(view))) == heard(view)


def test_what_cannot_be_read_is_said_to_be_so():
    assert view_of(None, "n2") == View("n2", CORRUPT, b"", 0, b"", 0, ())
    packed = a_record(b"one").pack()
    assert view_of(packed[:-1]).state == CORRUPT
    other = view_of(packed[:1] + b"\7" + packed[2:])
    assert (other.state, other.size, other.siblings) == (OTHER_KIND, len(packed), ())
    assert unpack_report(pack_report(heard(other))) == heard(other)


# ── what is packed comes back ──


@pytest.mark.parametrize(
    "report",
    [
        heard(absent()),
        heard(view_of(None)),
        heard(view_of(a_record(b"v").pack())),
        heard(absent(), view_of(a_record(b"v").pack(), "n2"), view_of(None, "n3")),
        Report("n1", HEARD, True, (1 << 63) - 1, (absent(),)),
        Report("n1", SILENT),
        Report("n1", UNREACHABLE),
    ],
)
def test_a_report_comes_back(report):
    assert unpack_report(pack_report(report)) == report


def test_an_explanation_comes_back():
    reports = (heard(view_of(a_record(b"v").pack())), Report("n2", SILENT))
    whole = Explanation(65_535, 3, ("n1", "n2", "n3"), ("n4", "n5"), reports)
    assert unpack_explanation(pack_explanation(whole)) == whole
    bare = Explanation(0, 1, ("n1",), (), ())
    assert unpack_explanation(pack_explanation(bare)) == bare


def test_an_explanation_is_bounded():
    view = view_of(a_record(*[b"v" * 1000] * SIBLINGS_SHOWN_MAX).pack())
    large = heard(absent(), *[view._replace(target=f"n{number}") for number in range(HINTS_SHOWN_MAX)])
    whole = Explanation(1, 3, ("n1",), (), (large,) * 1000)
    packed = pack_explanation(whole)
    assert len(packed) <= explanations.EXPLANATION_BYTES_MAX + 10_000
    assert 20 < len(unpack_explanation(packed).reports) < 1000
    many = Explanation(1, 3, ("n1",), (), (Report("n1", SILENT),) * (REPORTS_MAX + 1))
    assert len(unpack_explanation(pack_explanation(many)).reports) == REPORTS_MAX


# ── nothing else passes ──

VIEW = view_of(a_record(b"one").pack())
SIBLING = VIEW.siblings[0]


def of_view(**facts: object) -> bytes:
    return pack_report(heard(VIEW._replace(**facts)))  # type: ignore[arg-type]


def of_sibling(**facts: object) -> bytes:
    return of_view(siblings=(SIBLING._replace(**facts),))  # type: ignore[arg-type]


def of_head(*fields: object) -> bytes:
    return pack_row([cbor2.dumps(fields), *[explanations._pack_view(absent())]])


REFUSED_REPORTS = {
    "nothing": b"",
    "half of it": pack_report(heard(VIEW))[:-1],
    "a null": pack_row([cbor2.dumps(["n1", SILENT, False, 0]), None]),
    "no head": pack_row([b""]),
    "a head cut short": of_head("n1", HEARD, False),
    "a head of other types": of_head("n1", HEARD, 0, 0),
    "no name": of_head("", HEARD, False, 0),
    "another reach": of_head("n1", 3, False, 0),
    "a time before": of_head("n1", HEARD, False, -1),
    "a time out of range": of_head("n1", HEARD, False, 1 << 63),
    "views of a silent node": of_head("n1", SILENT, False, 0),
    "no views of one that was heard": pack_report(Report("n1", HEARD)),
    "too many hints": pack_report(heard(absent(), *[VIEW._replace(target="n2")] * (HINTS_SHOWN_MAX + 1))),
    "a hint first": pack_report(heard(VIEW._replace(target="n2"))),
    "two copies": pack_report(heard(VIEW, VIEW)),
    "a hint that is none": pack_report(heard(VIEW, absent()._replace(target="n2"))),
    "a hint for no name": pack_report(heard(VIEW, VIEW._replace(target="n 2"))),
    "a view cut short": pack_row([cbor2.dumps(["n1", HEARD, False, 0]), cbor2.dumps(["", 0, b""])]),
    "a sibling cut short": pack_row(
        [cbor2.dumps(["n1", HEARD, False, 0]), cbor2.dumps([*VIEW[:6], *SIBLING[:3]])]
    ),
    "other types": of_view(size=True),
    "another state": of_view(state=4),
    "a negative size": of_view(size=-1),
    "too large a size": of_view(size=1 << 63),
    "another digest": of_view(digest=b"1234567"),
    "a digest of nothing": pack_report(heard(absent()._replace(digest=b"12345678"))),
    "a size of nothing": pack_report(heard(absent()._replace(size=1))),
    "values of nothing": pack_report(heard(absent()._replace(values=1))),
    "a context of nothing": pack_report(heard(absent()._replace(context=VIEW.context))),
    "more values than shown": of_view(values=2),
    "fewer values than shown": of_view(values=0),
    "too many values": of_view(values=1 << 32),
    "another context": of_view(context=VIEW.context[:-1]),
    "a short actor": of_sibling(actor=b"a"),
    "no count": of_sibling(counter=0),
    "too high a count": of_sibling(counter=1 << 64),
    "a short request": of_sibling(request=b"r"),
    "a value that is cut": of_sibling(head=b"on"),
    "a value that is longer": of_sibling(head=b"one!"),
    "too long a value": of_sibling(size=1 << 32, head=b"v" * VALUE_SHOWN_BYTES_MAX),
}


@pytest.mark.parametrize("packed", REFUSED_REPORTS.values(), ids=REFUSED_REPORTS.keys())
def test_another_report_is_refused(packed):
    with pytest.raises(ProtocolError):
        unpack_report(packed)


def of_explanation(*fields: object) -> bytes:
    return pack_row([cbor2.dumps(fields)])


REFUSED_EXPLANATIONS = {
    "nothing": b"",
    "cut short": of_explanation(1, 3, "n1"),
    "other types": of_explanation(1, 3, "n1", b""),
    "another partition": of_explanation(1 << 16, 3, "n1", ""),
    "no partition": of_explanation(-1, 3, "n1", ""),
    "no copies": of_explanation(1, 0, "n1", ""),
    "too many copies": of_explanation(1, 10, "n1", ""),
    "no names": of_explanation(1, 3, "n1,,n2", ""),
    "too many names": of_explanation(1, 3, "n1", ",".join(["n1"] * 10)),
    "another report": pack_row([cbor2.dumps([1, 3, "n1", ""]), b"\x80"]),
}


@pytest.mark.parametrize("packed", REFUSED_EXPLANATIONS.values(), ids=REFUSED_EXPLANATIONS.keys())
def test_another_explanation_is_refused(packed):
    with pytest.raises(ProtocolError):
        unpack_explanation(packed)


def test_names_for_people():
    assert explanations.VIEW_NAMES[ABSENT] == "absent"
    assert explanations.REACH_NAMES[UNREACHABLE] == "unreachable"
