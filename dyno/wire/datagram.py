"""One message per UDP packet.

A packet is b"dyn", a version byte, the 16 bytes of the cluster's id, and a flat CBOR array of one message:
[code, field…]. Its numbers are those of `codec`. The cluster id keeps clusters apart that meet by chance (an
address that moved on); it is no secret and keeps nobody out.

Anybody can send a packet, so `decode` refuses all that is not exactly this with `ProtocolError`, and the
right form from elsewhere with `ForeignCluster`. Neither deserves an answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cbor2 import dumps

from dyno.config import DATAGRAM_BYTES_MAX
from dyno.wire.codec import DATAGRAMS
from dyno.wire.flat import FlatDecoder, ProtocolError

if TYPE_CHECKING:
    from dyno.wire.messages import Datagram

MAGIC: Final = b"dyn\x01"
CLUSTER_BYTES: Final = 16

_HEADER_BYTES = len(MAGIC) + CLUSTER_BYTES


class ForeignCluster(ProtocolError):
    """A packet of another cluster."""


def encode(cluster: bytes, message: Datagram) -> bytes:
    """The packet, of DATAGRAM_BYTES_MAX bytes at most: what gossip is to ride along was chosen to fit."""
    assert len(cluster) == CLUSTER_BYTES
    fields: list[object] = []
    DATAGRAMS.append(message, fields)
    data = MAGIC + cluster + dumps(fields)
    assert len(data) <= DATAGRAM_BYTES_MAX, f"a {type(message).__name__} of {len(data)} bytes"
    return data


def decode(cluster: bytes, data: bytes) -> Datagram:
    """The message in a packet. ProtocolError for anything else."""
    if len(data) > DATAGRAM_BYTES_MAX:
        raise ProtocolError(f"a datagram of over {DATAGRAM_BYTES_MAX} bytes")
    if not data.startswith(MAGIC):
        raise ProtocolError("not a datagram of this protocol version")
    if data[len(MAGIC) : _HEADER_BYTES] != cluster:
        raise ForeignCluster("a datagram of another cluster")
    messages = DATAGRAMS.decode(FlatDecoder().decode(data[_HEADER_BYTES:]))
    if len(messages) > 1:
        raise ProtocolError("more than one message in a datagram")
    return messages[0]
