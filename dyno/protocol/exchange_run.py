"""One exchange with another node on its way, as the one who asks: what is asked, and what is not written yet.

It decides nothing; `exchange` moves it on, and its walk says where to. `size_of` is what a message counts for
in the bandwidth that exchanges may take.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from dyno.protocol.walks import Answer, StretchWalk, TreeWalk
from dyno.wire.messages import Fetched, Stored

if TYPE_CHECKING:
    from dyno.protocol.group_commit import Batch
    from dyno.protocol.recovery import Pair

FIRST_SLOTS: Final = 32  # of the first Fetch; nobody knows yet how large the records are


class Run:
    """One exchange on its way. pair: a (partition, n) and the other node; b"" for all that is shared. began:
    by this node's clock. walk: finds out where the copies differ. wanted, fetching: slots to be fetched, and
    those asked for now. at_once: how many are asked for, about as many as fitted into the last answer.
    missing: slots that the other lacks, to be given. unwritten: commits here and answers from there that are
    waited for. waits_for: the id of the question that is not answered, or 0; answered_by: with what class;
    until: how long an answer or a disk is waited for. rests: until it may go on. flawed: heads of which not
    all could be brought up to date. given: heads of the records that were sent, by the id of their Store.
    losses: how often this node had found out that it lacks something."""

    __slots__ = (
        "answered_by",
        "at_once",
        "batch",
        "began",
        "by_trees",
        "fetching",
        "flawed",
        "given",
        "losses",
        "missing",
        "over",
        "pair",
        "peer",
        "rests",
        "until",
        "unwritten",
        "waits_for",
        "walk",
        "wanted",
    )

    def __init__(self, pair: Pair, walk: StretchWalk | TreeWalk, now: float, *, losses: int) -> None:
        self.pair = pair
        self.walk = walk
        self.by_trees = isinstance(walk, TreeWalk)
        self.losses = losses
        self.peer = pair[1]
        self.began = now
        self.wanted: deque[bytes] = deque()
        self.fetching: list[bytes] = []
        self.at_once = FIRST_SLOTS
        self.missing: deque[bytes] = deque()
        self.batch: Batch | None = None
        self.unwritten = 0
        self.waits_for = 0
        self.answered_by: type[Answer | Fetched] = Fetched
        self.until = now
        self.rests = False
        self.flawed: dict[bytes, None] = {}
        self.given: dict[int, bytes] = {}
        self.over = False

    def expects(self, id: int) -> type[Answer | Fetched | Stored]:
        """The class of the answer to what was asked under an id that is waited for."""
        return self.answered_by if id == self.waits_for else Stored


def size_of(message: tuple[object, ...]) -> int:
    """Of what is of any length in it."""
    return sum(len(field) for field in message if isinstance(field, bytes))
