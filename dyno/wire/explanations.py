"""What nodes hold of one key, for people: packed into one bytes field of a message.

A *view* is one record as a node has it, its own copy or a hint that it keeps for another: enough to compare
it with others and to show it, but no more than so many siblings and bytes of each value, however large the
record. A *report* is what one node says, or that it said nothing; an *explanation* is the preference list of
a key with the reports of all nodes that have something to do with it.

Each travels as a row (wire.rows): its own fields, flat, in the first item, its parts in the others. Out of a
stranger's bytes comes exactly what was described here, or `ProtocolError`; the bounds are below.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from cbor2 import dumps
from mmh3 import mmh3_x64_128_digest

from dyno.causality.context import Context, Malformed
from dyno.causality.dots import ACTOR_BYTES
from dyno.causality.record import REQUEST_BYTES, OtherKind, Record
from dyno.config import COPIES_MAX, PARTITIONS_MAX
from dyno.wire.flat import FlatDecoder, ProtocolError
from dyno.wire.members import valid_name
from dyno.wire.rows import pack_row, unpack_keys

SIBLINGS_SHOWN_MAX: Final = 20
VALUE_SHOWN_BYTES_MAX: Final = 256
CONTEXT_SHOWN_BYTES_MAX: Final = 4 << 10  # some 170 actors
HINTS_SHOWN_MAX: Final = 16  # of one node, for one key
REPORTS_MAX: Final = 1000
EXPLANATION_BYTES_MAX: Final = 4 << 20

# What a view shows.
ABSENT, HELD, CORRUPT, OTHER_KIND = range(4)
VIEW_NAMES = ("absent", "held", "corrupt", "other kind")

# How a node came to be in an explanation.
HEARD, SILENT, UNREACHABLE = range(3)
REACH_NAMES = ("heard", "silent", "unreachable")

_DIGEST_BYTES = 8


class ShownSibling(NamedTuple):
    """size: of the encoded value. head: all of it, or so much that it is seen to be cut."""

    actor: bytes
    counter: int
    request: bytes
    size: int
    head: bytes

    @property
    def whole(self) -> bool:
        return len(self.head) == self.size


class View(NamedTuple):
    """target: for whom it is kept as a hint; "" for a node's own copy. digest: equal for equal records.
    size: of the record. context: packed, b"" where it is too large to be shown. values: how many siblings
    there are, the first of which are `siblings`. Where state is not HELD, the rest is empty."""

    target: str
    state: int
    digest: bytes
    size: int
    context: bytes
    values: int
    siblings: tuple[ShownSibling, ...]


class Report(NamedTuple):
    """weak: its copy is not complete again yet, so that it does not count. compared_ms: since the node last
    finished a comparison of this (partition, n) with another owner, plus 1; 0 where it is not known. views:
    the copy first, then hints; none but where the node was heard."""

    node: str
    reach: int
    weak: bool = False
    compared_ms: int = 0
    views: tuple[View, ...] = ()


class Explanation(NamedTuple):
    """partition, copies: of the key's slot. owners, fallbacks: the preference list, with as many fallbacks as
    owners. reports: of the owners, in order, then of others that hold something of the key."""

    partition: int
    copies: int
    owners: tuple[str, ...]
    fallbacks: tuple[str, ...]
    reports: tuple[Report, ...]


def absent() -> View:
    return View("", ABSENT, b"", 0, b"", 0, ())


def view_of(record: bytes | None, target: str = "") -> View:
    """A packed record as it is shown; None for one that is damaged."""
    if record is None:
        return View(target, CORRUPT, b"", 0, b"", 0, ())
    try:
        unpacked = Record.unpack(record)
    except OtherKind:
        return View(target, OTHER_KIND, _digest(record), len(record), b"", 0, ())
    except Malformed:
        return View(target, CORRUPT, b"", 0, b"", 0, ())
    context = unpacked.context.pack()
    if len(context) > CONTEXT_SHOWN_BYTES_MAX:
        context = b""
    shown = tuple(
        ShownSibling(*dot, request, len(value), value[:VALUE_SHOWN_BYTES_MAX])
        for dot, request, value in unpacked.siblings[:SIBLINGS_SHOWN_MAX]
    )
    return View(target, HELD, _digest(record), len(record), context, len(unpacked.siblings), shown)


def pack_report(report: Report) -> bytes:
    node, reach, weak, compared_ms, views = report
    return pack_row([dumps([node, reach, weak, compared_ms]), *map(_pack_view, views)])


def unpack_report(packed: bytes) -> Report:
    """What `pack_report` packed. Raises ProtocolError for anything else."""
    head, *views = unpack_keys(packed, items_max=2 + HINTS_SHOWN_MAX)
    node, reach, weak, compared_ms = _fields(head, str, int, bool, int)
    report = Report(node, reach, weak, compared_ms, tuple(map(_unpack_view, views)))
    _check(valid_name(node) and 0 <= reach < len(REACH_NAMES) and 0 <= compared_ms < 1 << 63, "a report")
    _check(bool(report.views) == (reach == HEARD), "what a report shows")
    for number, view in enumerate(report.views):
        _check(bool(number) == bool(view.target), "whose views a report shows")
    return report


def pack_explanation(explanation: Explanation) -> bytes:
    """Reports that would make it too large, or too many, are left out."""
    partition, copies, owners, fallbacks, reports = explanation
    head = dumps([partition, copies, ",".join(owners), ",".join(fallbacks)])
    items = [head]
    room = EXPLANATION_BYTES_MAX - len(head)
    for report in reports[:REPORTS_MAX]:
        packed = pack_report(report)
        room -= len(packed)
        if room < 0:
            break
        items.append(packed)
    return pack_row(items)


def unpack_explanation(packed: bytes) -> Explanation:
    """What `pack_explanation` packed. Raises ProtocolError for anything else."""
    head, *reports = unpack_keys(packed, items_max=1 + REPORTS_MAX)
    partition, copies, owners, fallbacks = _fields(head, int, int, str, str)
    _check(0 <= partition < PARTITIONS_MAX and 1 <= copies <= COPIES_MAX, "an explanation")
    return Explanation(
        partition, copies, _names(owners), _names(fallbacks), tuple(map(unpack_report, reports))
    )


def _digest(record: bytes) -> bytes:
    return mmh3_x64_128_digest(record)[:_DIGEST_BYTES]


def _pack_view(view: View) -> bytes:
    fields: list[Any] = list(view[:_VIEW_FIELDS])
    for sibling in view.siblings:
        fields.extend(sibling)
    return dumps(fields)


def _unpack_view(packed: bytes) -> View:
    width = len(ShownSibling._fields)
    fields: list[Any] = FlatDecoder().decode(packed, fields_max=_VIEW_FIELDS + SIBLINGS_SHOWN_MAX * width)
    count, rest = divmod(len(fields) - _VIEW_FIELDS, width)
    _check(not rest and count >= 0, "a view's length")
    _check(tuple(map(type, fields)) == (str, int, bytes, int, bytes, int) + _SIBLING_TYPES * count, "a view")
    starts = range(_VIEW_FIELDS, len(fields), width)
    siblings = tuple(ShownSibling(*fields[at : at + width]) for at in starts)
    view = View._make([*fields[:_VIEW_FIELDS], siblings])
    _check_view(view)
    return view


_VIEW_FIELDS = 6
_SIBLING_TYPES = (bytes, int, bytes, int, bytes)


def _check_view(view: View) -> None:
    target, state, digest, size, context, values, siblings = view
    _check(not target or valid_name(target), "for whom a hint is")
    _check(0 <= state < len(VIEW_NAMES) and 0 <= size < 1 << 63 and 0 <= values < 1 << 32, "a view's figures")
    has_record = state in (HELD, OTHER_KIND)
    _check(len(digest) == _DIGEST_BYTES * has_record and (has_record or not size), "a view's digest")
    _check(state == HELD or not (context or values or siblings), "a view of nothing")
    _check(not (target and state == ABSENT), "a hint that is not there")
    _check(len(siblings) == min(values, SIBLINGS_SHOWN_MAX), "how many siblings a view has")
    if context:
        try:
            Context.unpack(context)
        except Malformed as error:
            raise ProtocolError(str(error)) from None
    for actor, counter, request, length, head in siblings:
        _check(len(actor) == ACTOR_BYTES and 0 < counter < 1 << 64, "a dot")
        _check(len(request) == REQUEST_BYTES, "a request id")
        _check(length < 1 << 32 and len(head) == min(length, VALUE_SHOWN_BYTES_MAX), "a value's head")


def _fields(packed: bytes, *types: type) -> list[Any]:
    fields: list[Any] = FlatDecoder().decode(packed, fields_max=len(types))
    _check(tuple(map(type, fields)) == types, "its fields")
    return fields


def _names(joined: str) -> tuple[str, ...]:
    names = tuple(joined.split(",")) if joined else ()
    _check(len(names) <= COPIES_MAX and all(map(valid_name, names)), "a preference list")
    return names


def _check(right: bool, what: str) -> None:
    if not right:
        raise ProtocolError(f"an explanation of a key is wrong in {what}")
