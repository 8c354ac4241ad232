"""What one node knows of buckets: those that are created, and those that are about to be.

    unknown ──▶ reserved ──▶ created          a reservation that is withdrawn is forgotten again, unless an
       ▲           │                          abandoned one stood there before (`doubtful`): that one may
       └───────────┘                          have been decided, so it is never forgotten, only replaced

While a name is reserved nobody can say how many copies its keys have, so it is served as nothing; but for a
reservation of the very defaults, which changes nothing where there is no doubt about another one. `serving`
and `copies` say in one look-up what holds for a request and for a slot; both list only what differs from an
unknown bucket.

In: entries. Out: those look-ups, the ids of buckets whose serving changed, and the table packed: one flat
CBOR array, sorted by name, for the disk and the wire alike. `unpack` refuses with `ProtocolError` all that
`pack` does not give.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from cbor2 import dumps

from dyno.buckets.properties import DEFAULTS, Properties, check
from dyno.config import BUCKETS_MAX
from dyno.errors import InvalidRequest
from dyno.placement.hashing import bucket_id
from dyno.wire.flat import FlatDecoder, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

PROPOSAL_BYTES: Final = 16
DIRECTORY_BYTES: Final = 16
UNKNOWN: Final = -1  # the n of no slot

_TYPES = (str, int, int, int, int, bytes, bytes, bool)
_FIELDS = len(_TYPES)
_LENGTHS = ((0, 0), (PROPOSAL_BYTES, DIRECTORY_BYTES))


class Entry(NamedTuple):
    """proposal: the id of the creation that reserved the name, and coordinator the directory id of the node
    that runs it; both empty for a created bucket. doubtful: an abandoned creation of the name may have been
    decided; when the present one is withdrawn, both ids become empty and the doubt stays."""

    name: str
    properties: Properties
    proposal: bytes = b""
    coordinator: bytes = b""
    doubtful: bool = False

    @property
    def is_created(self) -> bool:
        return not self.proposal and not self.doubtful

    def created(self) -> Entry:
        return Entry(self.name, self.properties)


class Table:
    """entries: by name, not to be changed. serving: by name; None while nobody can say. copies: by bucket id,
    UNKNOWN while nobody can say. changed: ids of buckets whose serving changed, until noticed. version:
    counts all changes of entries."""

    __slots__ = ("_names", "_packed", "changed", "copies", "entries", "serving", "version")

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: dict[str, Entry] = {}
        self.serving: dict[str, Properties | None] = {}
        self.copies: dict[bytes, int] = {}
        self.changed: list[bytes] = []
        self._names: dict[bytes, str] = {}
        self._packed: bytes | None = b""
        self.version = 0
        for entry in entries:
            self.put(entry)
        self.changed.clear()

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, name: str) -> Entry | None:
        return self.entries.get(name)

    def created(self) -> list[Entry]:
        """By name."""
        return [entry for _, entry in sorted(self.entries.items()) if entry.is_created]

    def reserved(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if not entry.is_created]

    def has_id_of(self, name: str) -> bool:
        """Whether another bucket has the id that this name hashes to: the two would share their slots."""
        return self._names.get(bucket_id(name), name) != name

    def put(self, entry: Entry) -> None:
        """Its id must not be another bucket's."""
        assert not self.has_id_of(entry.name)
        self.entries[entry.name] = entry
        self._names[bucket_id(entry.name)] = entry.name
        self._serve(entry.name, entry)

    def withdraw(self, name: str) -> None:
        """Nothing comes of the creation that reserved this name."""
        entry = self.entries.pop(name)
        if entry.doubtful:
            self.entries[name] = entry._replace(proposal=b"", coordinator=b"")
        else:
            del self._names[bucket_id(name)]
        self._serve(name, self.entries.get(name))

    def pack(self) -> bytes:
        """b"" for an empty table. Kept, so asking again is free."""
        if self._packed is None:
            self._packed = pack(self.entries.values())
        return self._packed

    def _serve(self, name: str, entry: Entry | None) -> None:
        self._packed = None
        self.version += 1
        identity = bucket_id(name)
        before = self.serving.get(name, DEFAULTS)
        now: Properties | None = DEFAULTS
        if entry is not None and (entry.doubtful or entry.properties != DEFAULTS):
            now = entry.properties if entry.is_created else None
        if now == before:
            return
        self.changed.append(identity)
        if now == DEFAULTS:
            del self.serving[name], self.copies[identity]
        else:
            self.serving[name] = now
            self.copies[identity] = UNKNOWN if now is None else now.n


def pack(entries: Iterable[Entry]) -> bytes:
    """The entries by name; b"" for none."""
    fields: list[object] = []
    for name, properties, proposal, coordinator, doubtful in sorted(entries):
        fields += (name, *properties, proposal, coordinator, doubtful)
    return dumps(fields) if fields else b""


def unpack(data: bytes) -> list[Entry]:
    """The entries by name. Raises ProtocolError for all that `pack` does not give, and for too many."""
    if not data:
        return []
    fields = FlatDecoder().decode(data, fields_max=_FIELDS * BUCKETS_MAX)
    if len(fields) % _FIELDS:
        raise ProtocolError("a bucket's entry is cut short")
    entries = [_entry(fields[at : at + _FIELDS]) for at in range(0, len(fields), _FIELDS)]
    for one, other in pairwise(entries):
        if one.name >= other.name:
            raise ProtocolError("the buckets of a table are not sorted or not unique")
    return entries


def _entry(fields: list[object]) -> Entry:
    if tuple(map(type, fields)) != _TYPES:
        raise ProtocolError("a bucket's entry with fields of other types")
    name, n, r, w, kind, proposal, coordinator, doubtful = fields
    entry = Entry(name, Properties(n, r, w, kind), proposal, coordinator, doubtful)  # type: ignore[arg-type]
    try:
        check(entry.name, entry.properties)
    except InvalidRequest as error:
        raise ProtocolError(f"a bucket's entry that cannot be: {error}") from None
    if (len(entry.proposal), len(entry.coordinator)) not in _LENGTHS:
        raise ProtocolError("a bucket's entry with ids of other lengths")
    return entry
