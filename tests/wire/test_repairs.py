"""Reports of repairs: out of any bytes come the reports that were packed, or ProtocolError."""

from __future__ import annotations

import random

import pytest
from cbor2 import dumps, loads

from dyno.wire.flat import ProtocolError
from dyno.wire.repairs import (
    BUSY,
    COUNTING,
    DONE,
    HEARD,
    MERGING,
    PEERS_MAX,
    SILENT,
    WAITS,
    Mends,
    Peer,
    Report,
    pack_reports,
    unpack_report,
    unpack_reports,
)

ONE = Report(
    "n1", HEARD, COUNTING, Mends(1, 2, 3, 4, 5, 6, 7, 8), (Peer("n2", WAITS, 0), Peer("n3", DONE, 9))
)
OTHERS = [Report("n2", SILENT), Report("n3", HEARD), Report("n4", BUSY)]


def test_reports_come_back_as_they_were_packed() -> None:
    assert unpack_reports(pack_reports([ONE, *OTHERS])) == [ONE, *OTHERS]
    assert pack_reports([]) == b""
    assert unpack_reports(b"") == []
    assert unpack_report(pack_reports([ONE])) == ONE


def test_one_report_is_one_report() -> None:
    for packed in (b"", pack_reports([ONE, ONE])):
        with pytest.raises(ProtocolError):
            unpack_report(packed)


@pytest.mark.parametrize(
    "report",
    [
        ONE._replace(node="?"),
        ONE._replace(node=""),
        ONE._replace(reach=BUSY + 1),
        ONE._replace(state=MERGING + 1),
        ONE._replace(mends=Mends(-1)),
        ONE._replace(mends=Mends(1 << 63)),
        ONE._replace(mends=Mends(True)),
        ONE._replace(peers=(Peer("n?", WAITS, 0),)),
        ONE._replace(peers=(Peer("n2", DONE + 1, 0),)),
        ONE._replace(peers=(Peer("n2", WAITS, -1),)),
        ONE._replace(peers=(Peer(b"n2", WAITS, 0),)),  # type: ignore[arg-type]
        ONE._replace(node=1),  # type: ignore[arg-type]
    ],
)
def test_what_no_node_tells_is_refused(report: Report) -> None:
    with pytest.raises(ProtocolError):
        unpack_reports(pack_reports([report]))


def test_what_is_cut_short_is_refused() -> None:
    fields = loads(pack_reports([ONE]))
    for length in range(1, len(fields)):
        with pytest.raises(ProtocolError):
            unpack_reports(dumps(fields[:length]))


def test_peers_that_are_not_there_are_not_waited_for() -> None:
    fields = loads(pack_reports([ONE]))
    for count in (3, PEERS_MAX, PEERS_MAX + 1, 1 << 62):
        fields[11] = count
        with pytest.raises(ProtocolError):
            unpack_reports(dumps(fields))


def test_any_bytes_end_in_reports_or_an_error() -> None:
    draw = random.Random(5)
    packed = pack_reports([ONE, *OTHERS])
    for _ in range(2000):
        changed = bytearray(packed)
        for _ in range(draw.randrange(1, 4)):
            changed[draw.randrange(len(changed))] = draw.randrange(256)
        try:
            unpack_reports(bytes(changed[: draw.randrange(len(changed) + 1)]))
        except ProtocolError:
            continue
