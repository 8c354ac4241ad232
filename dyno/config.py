"""Every tunable of a node, with its default, its unit in its name and its bounds.

One flat structure, read from a TOML file (`dyno node --config`) or given to `dyno.Node`. Unknown names and
values out of bounds are refused with the name in the message.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

# The shortest, added to whatever a clock says, is later: what is due again is never due in the same turn.
Seconds = Annotated[float, msgspec.Meta(ge=0.001, le=86_400)]
Factor = Annotated[float, msgspec.Meta(ge=0.001, le=86_400)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Bytes = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]

# Fixed limits of the format, the same on every node of every cluster.
KEY_BYTES_MAX = 1024
BUCKET_NAME_BYTES_MAX = 64
NODE_NAME_BYTES_MAX = 64
PARTITIONS_MAX = 1 << 16
COPIES = 3  # n of a bucket that nobody created: the same for everybody, so not a tunable of a node
COPIES_MAX = 9  # the largest n of a bucket
BUCKETS_MAX = 10_000  # created ones that a table can hold
SIBLINGS_MAX = 100  # a put that would leave more is refused; merging never is
RECORD_BYTES_MAX = 8 << 20  # likewise
MESSAGE_BYTES_MAX = 64 << 20  # merged records of several coordinators still pass
FRAME_BYTES_MAX = (1 << 20) + (64 << 10)
CHUNK_BYTES = 256 << 10  # larger messages travel in pieces of this size
DATAGRAM_BYTES_MAX = 1400


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tunables of one node; the names are the keys of the TOML file."""

    # ── values ──
    value_bytes_max: Annotated[int, msgspec.Meta(ge=1, le=RECORD_BYTES_MAX)] = 1 << 20

    # ── failure detection and gossip (memberlist's LAN defaults) ──
    probe_interval_s: Seconds = 1.0
    probe_timeout_s: Seconds = 0.5
    indirect_probes: Count = 3
    suspicion_mult: Factor = 4.0
    suspicion_max_mult: Annotated[float, msgspec.Meta(ge=1, le=1000)] = 6.0
    self_distrust_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 8  # times as long is waited for acks
    gossip_interval_s: Seconds = 0.2
    gossip_nodes: Count = 3
    gossip_to_dead_s: Seconds = 30.0
    retransmit_mult: Count = 4
    push_pull_interval_s: Seconds = 30.0
    join_retry_s: Seconds = 1.0
    members_max: Count = 10_000

    # ── requests ──
    get_timeout_s: Seconds = 2.0
    put_timeout_s: Seconds = 3.0
    hedge_after_s: Seconds = 0.05  # a read answer later than this is overtaken by another replica
    requests_max: Count = 10_000  # under way at once on one coordinator
    read_bytes_max: Bytes = 64 << 20  # of records that wait to be compared with other nodes'
    listings_max: Count = 128  # pages of keys under way at once on one coordinator
    retry_after_s: Seconds = 0.1  # what an Overloaded answer advises at least
    write_delay_max_s: Seconds = 0.5  # expected until the commit of a client's write; more is Overloaded
    read_delay_max_s: Seconds = 0.25  # likewise before a slow disk; peers have three times both

    # ── surviving (docs/design/survival.md) ──
    fallback_after_s: Seconds = 0.2  # an owner that has not stored a write by then gets a hint at a fallback
    hints_bytes_max: Bytes = 1 << 30  # hints beyond those that writes counted on
    handoff_rate_bytes_max: Bytes = 16 << 20  # per second, of hints handed over by one node
    handoff_retry_s: Seconds = 1.0  # after a target refused
    exchange_interval_s: Seconds = 1.0  # between two comparisons with another node, of one that lacks nothing
    exchange_rate_bytes_max: Bytes = 4 << 20  # per second, of what one node fetches and sends in them
    scrub_s: Annotated[float, msgspec.Meta(ge=0.001, le=10**8)] = 86_400.0  # all of the disk is read in it
    retry_window_s: Seconds = 300.0  # how long a write is known by its request id
    requests_seen_max: Count = (
        200_000  # writes so known, about 300 bytes each; the oldest are forgotten first
    )
    reap_after_s: Annotated[float, msgspec.Meta(ge=0.001, le=10**8)] = 3 * 86_400.0  # dead context entries

    # ── buckets ──
    buckets_max: Annotated[int, msgspec.Meta(ge=1, le=BUCKETS_MAX)] = 1000  # more are not created

    # ── storage ──
    storage_bytes_max: Bytes = 1 << 38  # LMDB's map size, address space only
    storage_reserve_bytes: Bytes = 64 << 20  # writes are refused when less of the disk is free
    batch_bytes_max: Bytes = 64 << 20  # waiting for the disk; more is Overloaded
    batch_count_max: Count = 20_000
    batch_waiters_max: Count = 50_000  # answers that wait for one commit

    # ── links ──
    link_backlog_bytes_max: Bytes = 64 << 20  # a peer or client that reads slower is cut off
    links_bytes_max: Bytes = 512 << 20  # half-arrived and unsent on all links; past it the heaviest is closed
    client_links_max: Count = 1000
    peer_links_max: Count = 1000
    handshake_timeout_s: Seconds = 5.0
    reconnect_min_s: Seconds = 0.05
    reconnect_max_s: Seconds = 2.0
