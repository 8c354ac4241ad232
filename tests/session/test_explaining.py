"""What nodes hold of a key, as plain values."""

from __future__ import annotations

import pytest

from dyno.causality.context import Context
from dyno.causality.dots import Dot
from dyno.causality.record import Record
from dyno.session.explaining import shown
from dyno.wire import values
from dyno.wire.codec import ProtocolError
from dyno.wire.explanations import (
    HEARD,
    SILENT,
    UNREACHABLE,
    VALUE_SHOWN_BYTES_MAX,
    Explanation,
    Report,
    absent,
    pack_explanation,
    view_of,
)
from dyno.wire.messages import Explained

A, B = b"a" * 16, b"b" * 16
OWNERS = ("n1", "n2", "n3")


def a_record(*encoded: bytes) -> Record:
    record = Record.EMPTY
    for counter, value in enumerate(encoded, 1):
        record = record.write(Context.EMPTY, Dot(A, counter), b"r" * 16, value)
    return record


def told(*reports: Report, owners: tuple[str, ...] = OWNERS) -> dict:
    explanation = Explanation(7, 3, owners, ("n4",), reports)
    return shown("carts", b"alice", Explained(1, pack_explanation(explanation)))


def heard(node: str, *views, **facts) -> Report:
    return Report(node, HEARD, views=views or (absent(),), **facts)


def one(value: bytes) -> dict:
    """The only sibling."""
    (sibling,) = told(heard("n1", view_of(a_record(value).pack())))["replicas"][0]["copy"]["siblings"]
    return sibling


def test_the_preference_list_is_shown():
    explained = told()
    assert explained == {
        "bucket": "carts", "key": "alice", "partition": 7, "n": 3, "primaries": ["n1", "n2", "n3"],
        "fallbacks": ["n4"], "agree": False, "replicas": [],
    }  # fmt: skip


def test_a_key_that_is_no_text_stays_bytes():
    explanation = Explanation(7, 3, OWNERS, (), ())
    assert shown("b", b"\xff", Explained(1, pack_explanation(explanation)))["key"] == b"\xff"


def test_a_copy_is_shown_with_its_values():
    record = a_record(values.encode("milk"), values.encode({"bread"}))
    (replica,) = told(heard("n1", view_of(record.pack()), weak=True, compared_ms=2501))["replicas"]
    view = view_of(record.pack())
    assert replica == {
        "node": "n1", "role": "primary", "reach": "heard", "weak": True, "compared_s": 2.5, "hints": [],
        "copy": {
            "state": "held", "digest": view.digest.hex(), "bytes": view.size, "tombstone": False,
            "context": {"vector": {A.hex(): 2}, "dots": []}, "values": 2,
            "siblings": [
                {"actor": A.hex(), "counter": 1, "request": (b"r" * 16).hex(), "bytes": 5, "value": "milk"},
                {
                    "actor": A.hex(), "counter": 2, "request": (b"r" * 16).hex(),
                    "bytes": len(values.encode({"bread"})), "value": {"bread"},
                },
            ],
        },
    }  # fmt: skip


def test_a_tombstone_is_told_from_nothing():
    record = a_record(b"\x01")
    deleted = record.delete(record.context).pack()
    first, second = told(heard("n1", view_of(deleted)), heard("n2"))["replicas"]
    assert (first["copy"]["state"], first["copy"]["tombstone"]) == ("held", True)
    assert (second["copy"]["state"], second["copy"]["tombstone"]) == ("absent", False)
    assert second["copy"]["context"] is None


def test_dots_of_the_cloud_stand_by_themselves():
    record = Record.EMPTY.write(Context.EMPTY.add(Dot(B, 1)), Dot(A, 5), b"r" * 16, b"\x01")
    (replica,) = told(heard("n1", view_of(record.pack())))["replicas"]
    assert replica["copy"]["context"] == {"vector": {B.hex(): 1}, "dots": [[A.hex(), 5]]}


def test_hints_are_shown_with_those_that_they_are_for():
    view = view_of(a_record(b"\x01").pack(), "n2")
    (replica,) = told(heard("n4", absent(), view, view_of(None, "n3")))["replicas"]
    assert (replica["role"], replica["copy"]["state"]) == ("fallback", "absent")
    assert [(hint["for"], hint["state"]) for hint in replica["hints"]] == [("n2", "held"), ("n3", "corrupt")]
    assert replica["hints"][0]["siblings"][0]["value"] == 1


def test_who_was_not_heard_is_said_to_be_so():
    replicas = told(Report("n1", SILENT), Report("n2", UNREACHABLE))["replicas"]
    assert [(r["reach"], r["copy"], r["hints"], r["compared_s"]) for r in replicas] == [
        ("silent", None, [], None),
        ("unreachable", None, [], None),
    ]


def test_large_values_are_shown_by_how_they_begin():
    text = "ä" * 1000
    begins = one(values.encode(text))["begins"]
    assert text.startswith(begins)
    assert VALUE_SHOWN_BYTES_MAX // 2 - 4 < len(begins) <= VALUE_SHOWN_BYTES_MAX // 2
    data = bytes(range(256)) * 4
    begins = one(values.encode(data))["begins"]
    assert data.startswith(begins)
    assert one(values.encode(list(range(1000))))["begins"] == values.encode(list(range(1000)))[:256]


def test_what_no_client_stored_is_shown_all_the_same():
    assert one(b"\xff\xff")["begins"] == b"\xff\xff"
    assert one(b"")["begins"] == b""


def test_whether_the_primaries_agree():
    record, other = view_of(a_record(b"\x01").pack()), view_of(a_record(b"\x02").pack())
    assert told(*[heard(name, record) for name in OWNERS])["agree"]
    assert told(*[heard(name) for name in OWNERS])["agree"], "nobody has anything"
    for odd in (heard("n3", other), heard("n3"), heard("n3", view_of(None)), Report("n3", SILENT)):
        assert not told(heard("n1", record), heard("n2", record), odd)["agree"]
    assert not told(*[heard(name, view_of(None)) for name in OWNERS])["agree"]


def test_an_answer_that_no_node_gives_is_refused():
    with pytest.raises(ProtocolError):
        shown("b", b"k", Explained(1, b"nonsense"))
