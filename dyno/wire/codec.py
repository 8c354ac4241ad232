"""Messages to frames and back: what is written on a link, byte by byte.

A frame is a u32 big-endian length and a body; the body is one flat CBOR array (RFC 8949) that holds many
messages one after another: [code, field…, code, field…]. One `dumps` and one `decode` serve them all.

`append` adds a message to a list of fields, `encode_frame` makes a frame of it. `decode_frame_body` takes
what a stranger sent, and refuses all that is not a row of messages with `ProtocolError`. So a decoded
message can be trusted: every field has exactly its declared type (True is no int), every integer lies in
0..2**64-1. What the values mean is for the reader to judge.
"""

from __future__ import annotations

from typing import Final

from cbor2 import dumps

from dyno.wire import messages
from dyno.wire.flat import FlatDecoder, ProtocolError
from dyno.wire.messages import Chunk, Datagram, Message
from dyno.wire.registry import Registry

__all__ = [
    "CHUNKS",
    "CHUNK_CODE",
    "DATAGRAMS",
    "LENGTH_BYTES",
    "LINK",
    "ProtocolError",
    "append",
    "decode_fields",
    "decode_frame_body",
    "encode_frame",
]

LENGTH_BYTES: Final = 4  # of the frame's length

# The numbers of the protocol. A number is never given to another message, and a message's fields never
# change under its number: a new version takes a new one. Hello and Refuse are read before versions are
# agreed on, so they stay as they are for good. Below 24 a code takes one byte.
CHUNK_CODE: Final = 3

LINK: Final[Registry[Message]] = Registry(
    {
        1: messages.Hello,
        2: messages.Refuse,
        4: messages.Get,
        5: messages.Put,
        6: messages.Delete,
        7: messages.Found,
        8: messages.Done,
        9: messages.Failed,
        10: messages.AskMembers,
        11: messages.Members,
        12: messages.Read,
        13: messages.ReadAnswer,
        14: messages.Store,
        15: messages.Stored,
        16: messages.AskJoin,
        17: messages.Introduce,
        18: messages.Admit,
        19: messages.Assent,
        20: messages.Reject,
        21: messages.PushPull,
        22: messages.ReadMany,
        23: messages.ReadManyAnswer,
        24: messages.GetMany,
        25: messages.FoundMany,
        30: messages.ListKeys,
        31: messages.Listed,
        32: messages.Scan,
        33: messages.ScanAnswer,
        40: messages.CreateBucket,
        41: messages.AskBuckets,
        42: messages.Buckets,
        43: messages.Propose,
        44: messages.Proposed,
        45: messages.Withdrawn,
        46: messages.AskFate,
        47: messages.SwapBuckets,
        26: messages.StoreHint,
        27: messages.HandOver,
        28: messages.Recall,
        29: messages.Recalled,
        48: messages.Compare,
        49: messages.Compared,
        50: messages.Fetch,
        51: messages.Fetched,
        52: messages.AskReap,
        53: messages.Reapable,
        54: messages.Reap,
        55: messages.AskHints,
        56: messages.HintsHeld,
        57: messages.Explain,
        58: messages.Explained,
        59: messages.Examine,
        60: messages.Examined,
        61: messages.Committed,
        68: messages.AskStatus,
        70: messages.CompareRoots,
        71: messages.RootsCompared,
        72: messages.AskBranches,
        73: messages.Branches,
        74: messages.CompareLeaves,
        75: messages.LeavesCompared,
        76: messages.AskRepair,
        77: messages.RepairTold,
        78: messages.Repair,
        79: messages.Repaired,
        80: messages.Ping,
        81: messages.Ack,
        90: messages.AskRing,
        91: messages.RingEntry,
        92: messages.RingKnown,
        93: messages.RingPrepare,
        94: messages.RingPromised,
        95: messages.RingAccept,
        96: messages.RingAccepted,
        97: messages.RingOutvoted,
        98: messages.RingFence,
        99: messages.RingFenced,
    }
)

CHUNKS: Final[Registry[Chunk]] = Registry({CHUNK_CODE: Chunk})

DATAGRAMS: Final[Registry[Datagram]] = Registry(
    {
        64: messages.Ping,
        65: messages.Ack,
        66: messages.PingRequest,
        67: messages.Gossip,
        82: messages.Nack,
        83: messages.Doubts,
    }
)

append = LINK.append
decode_fields = LINK.decode


def encode_frame(fields: list[object]) -> bytes:
    """A whole frame: length ‖ body."""
    body = dumps(fields)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def decode_frame_body(body: bytes) -> list[Message]:
    """The messages of one frame, its length taken off. ProtocolError for anything else."""
    return LINK.decode(FlatDecoder().decode(body))
