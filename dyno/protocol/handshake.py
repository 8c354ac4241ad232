"""Who may talk to whom: the first message on every TCP link, judged.

Either side says Hello: its range of protocol versions, and what it is. A node refuses a link to another
cluster, another number of partitions or an incompatible version with a reason that names both sides' facts
(DESIGN, Identity).
"""

from __future__ import annotations

from typing import NamedTuple

from dyno.wire.messages import PROTOCOL_VERSION, Hello, Refuse

PROTOCOL_LOW = PROTOCOL_VERSION
PEER, CLIENT = "peer", "client"
CAPABILITIES = ("ring_log",)  # what a node of this version understands beyond its protocol version


class Self(NamedTuple):
    """What this node says of itself. cluster is b"" and partitions 0 until it has joined one."""

    name: str
    directory: bytes
    start: bytes
    cluster: bytes
    partitions: int
    commit: int = 0  # the number of its last
    rounds: int = 0  # the highest number of a reaping that it knows of


def hello_of(me: Self, *, seen: int = 0) -> Hello:
    """seen: the highest commit number known of the other side's directory from before its present start."""
    return Hello(
        PROTOCOL_LOW,
        PROTOCOL_VERSION,
        PEER,
        me.cluster,
        me.partitions,
        me.name,
        me.directory,
        me.start,
        ",".join(CAPABILITIES),
        me.commit,
        seen,
        me.rounds,
    )


def understood(hello: Hello) -> tuple[str, ...]:
    """The capabilities of this version that the other side has as well."""
    theirs = hello.capabilities.split(",")
    return tuple(capability for capability in CAPABILITIES if capability in theirs)


def judge(me: Self, hello: Hello) -> Refuse | None:
    """None: welcome. The same rules on both sides of a link."""
    if hello.protocol_low > PROTOCOL_VERSION or hello.protocol_high < PROTOCOL_LOW:
        return Refuse(
            "protocol",
            f"{me.name} talks protocol versions {PROTOCOL_LOW} to {PROTOCOL_VERSION}, "
            f"not {hello.protocol_low} to {hello.protocol_high}",
        )
    if hello.role not in (PEER, CLIENT):
        return Refuse("protocol", f"unknown role {hello.role!r}")
    if hello.role == CLIENT and not me.cluster:
        return Refuse("joining", f"{me.name} has not joined a cluster yet")
    if hello.cluster and me.cluster and hello.cluster != me.cluster:
        return Refuse(
            "cluster",
            f"{me.name} belongs to cluster {me.cluster.hex()}, not to {hello.cluster.hex()}",
        )
    if hello.role == PEER and hello.cluster and me.cluster and hello.partitions != me.partitions:
        return Refuse(
            "partitions",
            f"{me.name} belongs to a cluster of {me.partitions} partitions, not {hello.partitions}",
        )
    return None
