"""The member record: what every node knows of every node, as one flat value.

Records of one name order by (stamp, start, incarnation, liveness); merging keeps the greater, so records
form a lattice and the order in which gossip arrives cannot matter (SWIM, Das, Gupta, Motivala 2002, §4.2,
with start stamps in front).

Records travel, and are kept on disk, packed: one flat CBOR array of 11 fields each, b"" for none of them.
`unpack_members` refuses, with `ProtocolError`, every record that no node could have: a name, address or zone
of strange characters, an id of another length, a number out of its range. Whether a record is *true* is for
the membership protocol to judge.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cbor2 import dumps

from dyno.config import NODE_NAME_BYTES_MAX
from dyno.wire.address import parse_address
from dyno.wire.flat import FlatDecoder, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

ALIVE, SUSPECT, DEAD = 0, 1, 2  # liveness; later beats earlier within one incarnation
JOINING, NORMAL, LEAVING, LEFT = 0, 1, 2, 3  # state; changed by the member itself, under a new incarnation

LIVENESS_NAMES = ("alive", "suspect", "dead")
STATE_NAMES = ("joining", "normal", "leaving", "left")

ZONE_CHARS_MAX: Final = 64
WEIGHT_MIN: Final = 0.001
WEIGHT_MAX: Final = 1000.0


class Member(NamedTuple):
    """name: 1..64 of [A-Za-z0-9._-]. directory, seat: 16 bytes; start: 8 bytes (one process start).
    stamp: grows with every start of the name. address: the advertised HOST:PORT, TCP and UDP alike."""

    name: str
    directory: bytes
    seat: bytes
    start: bytes
    stamp: int
    incarnation: int
    state: int
    liveness: int
    address: str
    zone: str
    weight: float

    def order(self) -> tuple[int, bytes, int, int]:
        return (self.stamp, self.start, self.incarnation, self.liveness)


def valid_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def valid_zone(zone: str) -> bool:
    """At most 64 printable characters; none at all is a zone too."""
    return len(zone) <= ZONE_CHARS_MAX and zone.isprintable()


def pack_members(members: Iterable[Member]) -> bytes:
    """The records in their order; b"" for none."""
    fields: list[object] = []
    for member in members:
        fields.extend(member)
    return dumps(fields) if fields else b""


def unpack_members(data: bytes, *, members_max: int) -> list[Member]:
    """The records in their order. ProtocolError when there are over members_max or one is malformed."""
    if not data:
        return []
    fields = FlatDecoder().decode(data, fields_max=_FIELDS * members_max)
    if len(fields) % _FIELDS:
        raise ProtocolError("a member record is cut short")
    return [_member(fields[at : at + _FIELDS]) for at in range(0, len(fields), _FIELDS)]


def pack_member(member: Member) -> bytes:
    return dumps(list(member))


def unpack_member(data: bytes) -> Member:
    """Exactly one record. ProtocolError when there is another number of them, or it is malformed."""
    members = unpack_members(data, members_max=1)
    if not members:
        raise ProtocolError("no member record")
    return members[0]


def packed_size(member: Member) -> int:
    """How many bytes a record adds to packed ones: at most this, at least 40 less."""
    return _FIXED_BYTES + len(member.name) + len(member.address) + len(member.zone.encode())


_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{NODE_NAME_BYTES_MAX}}}")
_FIELDS = len(Member._fields)
_TYPES = (str, bytes, bytes, bytes, int, int, int, int, str, str, float)

# Every field but the texts themselves, whose headers are the three 3; stamp and incarnation at their longest.
_FIXED_BYTES = 3 + 17 + 17 + 9 + 9 + 9 + 1 + 1 + 3 + 3 + 9


def _member(fields: list[object]) -> Member:
    if tuple(map(type, fields)) != _TYPES:
        raise ProtocolError("a member record with fields of other types")
    member = Member(*fields)  # type: ignore[arg-type]
    fault = _fault(member)
    if fault:
        raise ProtocolError(f"a member record with {fault}")
    return member


def _fault(member: Member) -> str:
    """What no node could have in its record, "" if there is nothing."""
    if not valid_name(member.name):
        return f"the name {member.name!r:.80}"
    if (len(member.directory), len(member.seat), len(member.start)) != (16, 16, 8):
        return "an id of another length"
    if not (0 <= member.stamp < 1 << 63 and 0 <= member.incarnation < 1 << 63):
        return "a stamp or incarnation out of range"
    if not (0 <= member.state < len(STATE_NAMES) and 0 <= member.liveness < len(LIVENESS_NAMES)):
        return "an unknown state or liveness"
    if not valid_zone(member.zone):
        return f"the zone {member.zone!r:.80}"
    if not WEIGHT_MIN <= member.weight <= WEIGHT_MAX:  # which NaN is not either
        return f"the weight {member.weight}"
    try:
        parse_address(member.address)
    except ValueError as error:
        return f"a wrong address: {error}"
    return ""
