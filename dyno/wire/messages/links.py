"""What belongs to a link itself: its handshake, and pieces of what is too large for one frame."""

from __future__ import annotations

from typing import NamedTuple

PROTOCOL_VERSION = 1


# ── handshake: the first message of either side of a TCP link ───────────────────────────────────────────


class Hello(NamedTuple):
    """Who speaks. A client leaves everything after `role` empty but `cluster`, where it knows one.

    The answering node sends its own Hello, or a Refuse and closes. protocol_low..protocol_high is the
    range of versions that the speaker can talk; both sides use the highest common one. capabilities:
    comma-joined flags. cluster: 16 bytes, or b"" (a client, or a node that has not joined yet).
    """

    protocol_low: int
    protocol_high: int
    role: str  # "peer" | "client"
    cluster: bytes
    partitions: int
    name: str
    directory: bytes
    start: bytes
    capabilities: str
    commit: int = 0  # the number of the speaker's last commit
    seen: int = 0  # by who answers: the highest one known of the other's directory from before its start
    rounds: int = 0  # the highest number of a reaping that the speaker knows of


class Refuse(NamedTuple):
    """Why the link is about to be closed. code: "cluster", "partitions", "protocol", "name", "overloaded"…"""

    code: str
    text: str


# ── pieces of a message that is too large for one frame ─────────────────────────────────────────────────


class Chunk(NamedTuple):
    """The next piece of the one large message under way in this direction, alone in its frame (wire.link).
    last: the pieces together are now the body of a frame that holds that message."""

    part: bytes
    last: bool
