"""What nodes tell of repairs, packed into one bytes field of a message.

A report says of one node how it was reached, what it mended (in a run of `dyno repair`, or since it started),
how many records it has set aside, and with which other nodes it compared its copies, and when. Reports travel
one after another as one flat CBOR array, b"" for none.

Out of a stranger's bytes comes exactly that, or `ProtocolError`. REPORTS_MAX and PEERS_MAX bound what they
grow to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cbor2 import dumps

from dyno.wire.flat import FlatDecoder, ProtocolError
from dyno.wire.members import valid_name

if TYPE_CHECKING:
    from collections.abc import Iterable

REPORTS_MAX: Final = 10_000  # of one message
PEERS_MAX: Final = 20_000  # in all of them
RUN_BYTES: Final = 16  # of the id of a run

HEARD, SILENT, UNREACHABLE, OTHER_RING, BUSY = 0, 1, 2, 3, 4
REACH_NAMES: Final = ("heard", "silent", "unreachable", "other ring", "busy")

READY, COUNTING, RECOVERING, CLOSED, MERGING = 0, 1, 2, 3, 4
STATE_NAMES: Final = ("ready", "counting", "recovering", "closed", "merging")

WAITS, RUNS, CUT_OFF, DONE = 0, 1, 2, 3  # of the comparison with one other node


class Mends(NamedTuple):
    """read_repairs: records sent to owners that were found behind by a read. handed_over: hints. received,
    sent: records, in exchanges that the node began. healed: corrupt records. compared: keys. merged: records
    that had been set aside. aside: those that are."""

    read_repairs: int = 0
    handed_over: int = 0
    received: int = 0
    sent: int = 0
    healed: int = 0
    compared: int = 0
    merged: int = 0
    aside: int = 0


class Peer(NamedTuple):
    """ago_ms: since the comparison began that was finished last, plus 1; 0 where there was none."""

    name: str
    state: int
    ago_ms: int


class Report(NamedTuple):
    """state: what keeps the node from comparing. peers: in a run only those with whom it is not done; none of
    a node that was not heard."""

    node: str
    reach: int
    state: int = READY
    mends: Mends = Mends()
    peers: tuple[Peer, ...] = ()


def pack_reports(reports: Iterable[Report]) -> bytes:
    fields: list[object] = []
    for report in reports:
        fields += (report.node, report.reach, report.state, *report.mends, len(report.peers))
        for peer in report.peers:
            fields += peer
    return dumps(fields) if fields else b""


def unpack_reports(packed: bytes, *, reports_max: int = REPORTS_MAX) -> list[Report]:
    """What `pack_reports` packed. Raises ProtocolError for anything else."""
    if not packed:
        return []
    fields = FlatDecoder().decode(packed, fields_max=_FIELDS * reports_max + len(Peer._fields) * PEERS_MAX)
    reports: list[Report] = []
    at = 0
    while at < len(fields):
        if len(reports) == reports_max:
            raise ProtocolError(f"more than {reports_max} reports of repairs")
        report, at = _report(fields, at)
        reports.append(report)
    return reports


def unpack_report(packed: bytes) -> Report:
    """Exactly one."""
    reports = unpack_reports(packed, reports_max=1)
    if not reports:
        raise ProtocolError("no report of repairs")
    return reports[0]


_NUMBERS = 2 + len(Mends._fields) + 1  # reach, state, what was mended, how many peers
_FIELDS = 1 + _NUMBERS


def _report(fields: list[object], at: int) -> tuple[Report, int]:
    """The one that begins there, and where the next one does."""
    node, numbers = fields[at], fields[at + 1 : at + _FIELDS]
    reach, state, *mends, count = _checked(numbers, _NUMBERS)
    if not isinstance(node, str) or not valid_name(node):
        raise ProtocolError(f"a report of repairs of {node!r:.80}")
    if reach >= len(REACH_NAMES) or state >= len(STATE_NAMES):
        raise ProtocolError(f"an unknown state of {node}: {reach}, {state}")
    end = at + _FIELDS + len(Peer._fields) * count
    if count > PEERS_MAX or end > len(fields):
        raise ProtocolError("a report of repairs is cut short")
    peers = tuple(
        _peer(fields[start : start + len(Peer._fields)])
        for start in range(at + _FIELDS, end, len(Peer._fields))
    )
    return Report(node, reach, state, Mends(*mends), peers), end


def _peer(fields: list[object]) -> Peer:
    name, *numbers = fields
    state, ago_ms = _checked(numbers, 2)
    if not isinstance(name, str) or not valid_name(name):
        raise ProtocolError(f"a comparison with {name!r:.80}")
    if state > DONE:
        raise ProtocolError(f"an unknown state of a comparison: {state}")
    return Peer(name, state, ago_ms)


def _checked(fields: list[object], count: int) -> list[int]:
    numbers = [field for field in fields if type(field) is int and 0 <= field < 1 << 63]
    if len(numbers) != count or len(fields) != count:
        raise ProtocolError("a report of repairs with fields of other types")
    return numbers
