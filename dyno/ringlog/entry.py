"""One entry of the ring log: everything about the ring from then on, as one flat value.

An entry is whole: the members with their directories, seats, zones, weights and states, the seats that are
moving, and the buckets. So whoever fell behind needs none of those between, a gap is filled by any later
entry, and no two versions can fold the same history differently. `before` is the digest of the entry that
it follows.

The *voters* of an entry decide about the one after it: members that are normal or leaving. One that is
joining has no vote, or a founder and a joiner that died half-way were two voters, of whom one cannot go on.

Entries travel, and are kept, packed: one flat CBOR array, rows sorted. Equal entries have equal bytes.
`unpack` refuses with `ProtocolError` all that `pack` does not give.
"""

from __future__ import annotations

from hashlib import blake2b
from itertools import pairwise
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, TypeVar, cast

from cbor2 import dumps

from dyno.buckets.properties import Properties, check
from dyno.config import BUCKETS_MAX, COPIES_MAX
from dyno.errors import InvalidRequest
from dyno.ringlog.numbers import FIRST, has_next
from dyno.wire.flat import FlatDecoder, ProtocolError
from dyno.wire.members import (
    LEAVING,
    LEFT,
    NORMAL,
    STATE_NAMES,
    WEIGHT_MAX,
    WEIGHT_MIN,
    valid_name,
    valid_zone,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dyno.wire.members import Member

COPYING, SEALED = 0, 1  # phases of a move that is under way; one that is done or aborted is no row any more

ROWS_MAX: Final = 20_000  # members of an entry, those that left included
MOVES_MAX: Final = 500_000  # 8 MB
ID_BYTES: Final = 16
DIGEST_BYTES: Final = 16
CLUSTER_BYTES: Final = 16


class Row(NamedTuple):
    """A member. directory, seat: 16 bytes. state: as of wire.members. since: number of the entry that gave
    it this state. replaces: the name whose seat it takes over while that one is leaving, or ""."""

    name: str
    directory: bytes
    seat: bytes
    zone: str
    weight: float
    state: int
    since: int
    replaces: str


class Move(NamedTuple):
    """A seat of a (partition, n) on its way. predecessor, successor: directory ids. since: number of the
    entry that began it."""

    partition: int
    n: int
    predecessor: bytes
    successor: bytes
    phase: int
    since: int

    @property
    def key(self) -> tuple[int, int, bytes]:
        """Nobody gets two seats of one (partition, n)."""
        return (self.partition, self.n, self.successor)


class Entry(NamedTuple):
    """rows by name, moves by key, buckets by name; all sorted. cluster: its id, for a machine may have lived
    in another one before, whose members still know its name and address."""

    number: int
    before: bytes
    forced: bool
    rows: tuple[Row, ...]
    moves: tuple[Move, ...] = ()
    buckets: tuple[tuple[str, Properties], ...] = ()
    cluster: bytes = b""

    def row(self, name: str) -> Row | None:
        return next((row for row in self.rows if row.name == name), None)

    def voters(self) -> dict[str, bytes]:
        """Directory ids by name, of those that decide about the next entry."""
        return {row.name: row.directory for row in self.rows if row.state in (NORMAL, LEAVING)}


def majority(count: int) -> int:
    return count // 2 + 1


def first(members: Iterable[Member], buckets: Mapping[str, Properties], cluster: bytes) -> Entry:
    """The entry with which a log begins: the founder alone, or all that a cluster without one has. The same
    on every node that knows the same members and created buckets."""
    rows = sorted(
        Row(m.name, m.directory, m.seat, m.zone, m.weight, NORMAL, FIRST, "")
        for m in members
        if m.state != LEFT
    )
    return Entry(FIRST, b"", False, tuple(rows), (), tuple(sorted(buckets.items())), cluster)


def digest(packed: bytes) -> bytes:
    return blake2b(packed, digest_size=DIGEST_BYTES).digest()


def pack(entry: Entry) -> bytes:
    place = {row.directory: index for index, row in enumerate(entry.rows)}
    moves = b"".join(
        _MOVE.pack(m.partition, m.n, place[m.predecessor], place[m.successor], m.phase, m.since)
        for m in entry.moves
    )
    fields: list[object] = [_FORMAT, entry.cluster, entry.number, entry.before, entry.forced, moves]
    fields.append(len(entry.rows))
    for row in entry.rows:
        fields.extend(row)
    for name, properties in entry.buckets:
        fields += (name, *properties)
    return dumps(fields)


def unpack(data: bytes) -> Entry:
    """Raises ProtocolError for all that `pack` does not give."""
    fields = FlatDecoder().decode(data, fields_max=_FIELDS_MAX)
    if tuple(map(type, fields[: len(_HEAD)])) != _HEAD:
        raise ProtocolError("a ring entry with a head of other types")
    form, cluster, number, before, forced, moves, count = cast("_Head", tuple(fields[: len(_HEAD)]))
    if form != _FORMAT:
        raise ProtocolError(f"a ring entry of format {form}; this version reads {_FORMAT}")
    end = len(_HEAD) + count * _ROW_FIELDS
    if not 0 < count <= ROWS_MAX or end > len(fields) or (len(fields) - end) % _BUCKET_FIELDS:
        raise ProtocolError("a ring entry is cut short")
    rows = tuple(_row(fields[at : at + _ROW_FIELDS]) for at in range(len(_HEAD), end, _ROW_FIELDS))
    buckets = tuple(
        _bucket(fields[at : at + _BUCKET_FIELDS]) for at in range(end, len(fields), _BUCKET_FIELDS)
    )
    entry = Entry(number, before, forced, rows, _moves(moves, rows), buckets, cluster)
    fault = _fault(entry)
    if fault:
        raise ProtocolError(f"a ring entry with {fault}")
    return entry


_FORMAT: Final = 1
_HEAD = (int, bytes, int, bytes, bool, bytes, int)
_Head: TypeAlias = tuple[int, bytes, int, bytes, bool, bytes, int]
_MOVE = Struct(">HBHHBQ")
_ROW_TYPES = (str, bytes, bytes, str, float, int, int, str)
_ROW_FIELDS = len(_ROW_TYPES)
_BUCKET_TYPES = (str, int, int, int, int)
_BUCKET_FIELDS = len(_BUCKET_TYPES)
_FIELDS_MAX = len(_HEAD) + ROWS_MAX * _ROW_FIELDS + BUCKETS_MAX * _BUCKET_FIELDS

_Key = TypeVar("_Key", str, tuple[int, int, bytes])


def _row(fields: list[object]) -> Row:
    if tuple(map(type, fields)) != _ROW_TYPES:
        raise ProtocolError("a member of a ring entry with fields of other types")
    row = Row(*fields)  # type: ignore[arg-type]
    if not valid_name(row.name) or not (row.replaces == "" or valid_name(row.replaces)):
        raise ProtocolError(f"a ring entry with the name {row.name!r:.80}")
    sound = (
        len(row.directory) == len(row.seat) == ID_BYTES
        and valid_zone(row.zone)
        and WEIGHT_MIN <= row.weight <= WEIGHT_MAX
        and 0 <= row.state < len(STATE_NAMES)
        and FIRST <= row.since < 1 << 64
    )
    if not sound:
        raise ProtocolError(f"a ring entry in which {row.name} cannot be")
    return row


def _bucket(fields: list[object]) -> tuple[str, Properties]:
    if tuple(map(type, fields)) != _BUCKET_TYPES:
        raise ProtocolError("a bucket of a ring entry with fields of other types")
    name, n, r, w, kind = fields
    properties = Properties(n, r, w, kind)  # type: ignore[arg-type]
    try:
        check(name, properties)  # type: ignore[arg-type]
    except InvalidRequest as error:
        raise ProtocolError(f"a ring entry with a bucket that cannot be: {error}") from None
    return name, properties  # type: ignore[return-value]


def _moves(data: bytes, rows: tuple[Row, ...]) -> tuple[Move, ...]:
    if len(data) % _MOVE.size or len(data) > MOVES_MAX * _MOVE.size:
        raise ProtocolError("the moving seats of a ring entry are cut short, or too many")
    moves = []
    for partition, n, predecessor, successor, phase, since in _MOVE.iter_unpack(data):
        if max(predecessor, successor) >= len(rows):
            raise ProtocolError("a seat that moves to or from nobody")
        source, target = rows[predecessor], rows[successor]
        if (
            source is target
            or target.state == LEFT
            or phase > SEALED
            or not 1 <= n <= COPIES_MAX
            or not since
        ):
            raise ProtocolError(f"a seat of partition {partition} that cannot move so")
        moves.append(Move(partition, n, source.directory, target.directory, phase, since))
    return tuple(moves)


def _fault(entry: Entry) -> str:
    """What no entry could have, "" if there is nothing."""
    if entry.number < FIRST or not has_next(entry.number):
        return "a number out of range"
    if len(entry.cluster) not in (0, CLUSTER_BYTES):
        return "a cluster's id of another length"
    if len(entry.before) not in (0, DIGEST_BYTES):
        return "a digest of another length"
    if not _rise([row.name for row in entry.rows]):
        return "members that are not sorted, or not unique"
    if len({row.directory for row in entry.rows}) < len(entry.rows):
        return "two members of one directory"
    if not _rise([name for name, _ in entry.buckets]):
        return "buckets that are not sorted, or not unique"
    if not _rise([move.key for move in entry.moves]):
        return "moving seats that are not sorted, or not unique"
    if not entry.voters():
        return "nobody who could decide about the next one"
    return ""


def _rise(keys: list[_Key]) -> bool:
    return all(one < other for one, other in pairwise(keys))
