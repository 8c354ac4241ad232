"""Who keeps how many hints for whom: what is packed comes back, and nothing else passes."""

from __future__ import annotations

import cbor2
import pytest

from dyno.wire.flat import ProtocolError
from dyno.wire.hints import Held, pack_hints, rows_of, unpack_hints

ROWS = [Held("n1", "", 0), Held("n2", "n1", 12), Held("n2", "n3", (1 << 63) - 1)]

REFUSED = {
    "half of it": pack_hints(ROWS)[:-1],
    "a row cut short": cbor2.dumps(["n1", "n2"]),
    "other types": cbor2.dumps(["n1", b"n2", 1]),
    "a true count": cbor2.dumps(["n1", "n2", True]),
    "no name": cbor2.dumps(["", "n2", 1]),
    "a name that is none": cbor2.dumps(["n1", "n 2", 1]),
    "none for somebody": cbor2.dumps(["n1", "n2", 0]),
    "some for nobody": cbor2.dumps(["n1", "", 1]),
    "a negative count": cbor2.dumps(["n1", "n2", -1]),
    "too high a count": cbor2.dumps(["n1", "n2", 1 << 63]),
    "another order": pack_hints(ROWS[::-1]),
    "a pair twice": pack_hints([ROWS[1], ROWS[1]]),
    "none, and some": pack_hints([ROWS[0], Held("n1", "n2", 1)]),
    "more than may be": pack_hints([Held(f"n{number}", "", 0) for number in range(1, 6)]),
}


def test_rows_come_back():
    assert unpack_hints(pack_hints(ROWS)) == ROWS
    assert unpack_hints(pack_hints([])) == []


@pytest.mark.parametrize("packed", REFUSED.values(), ids=REFUSED.keys())
def test_anything_else_is_refused(packed):
    with pytest.raises(ProtocolError):
        unpack_hints(packed, rows_max=4)


def test_what_a_node_keeps_is_in_the_order_of_names():
    assert rows_of("n2", {"n3": 1, "n4": 0, "n1": 2}) == [Held("n2", "n1", 2), Held("n2", "n3", 1)]


def test_a_node_that_keeps_none_says_so():
    assert rows_of("n2", {}) == rows_of("n2", {"n1": 0}) == [Held("n2", "", 0)]
