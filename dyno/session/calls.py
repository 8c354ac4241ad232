"""One call under way, from `begin` to its result.

A call is in exactly one of four states at any time,

    asked     `link` is the link that has its request; a hedged read is on `trouble.also` too
    waiting   no link can take it now; it stands in a queue
    saving    there is no budget for sending it again; it stands in another queue
    resting   after a refusal that says "later"; its timer sends it again

and ends with `result` or `error` set, in `SessionOutbox.finished`. What only a call in trouble needs is kept
apart in `Trouble`, so that all others are cheap to make.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dyno.config import COPIES
from dyno.session import options
from dyno.wire.messages import (
    ALL,
    DEFAULT,
    QUORUM,
    STRICT,
    AskBuckets,
    AskMembers,
    AskRepair,
    AskStatus,
    CreateBucket,
    Delete,
    Explain,
    Get,
    GetMany,
    ListKeys,
    Put,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    from dyno.errors import DynoError
    from dyno.session.batch import Batch
    from dyno.session.deletion import Deletion
    from dyno.session.links import NodeLink

    Question: TypeAlias = AskMembers | AskStatus | AskBuckets | Explain | AskRepair
    Request: TypeAlias = Get | GetMany | Put | Delete | ListKeys | CreateBucket | Question

REQUEST_BYTES = 128  # of a message without its value, about
RETRY_MAX_S = 30.0  # since a write may have been done first: well below the nodes' retry_window_s

_QUESTIONS = (AskMembers, AskStatus, AskBuckets, Explain, AskRepair)

# What the words stand for in a bucket that says nothing else; only the nodes know better.
_WORDS = {DEFAULT: COPIES // 2 + 1, QUORUM: COPIES // 2 + 1, ALL: COPIES}


class Call:
    """id: unique within the session, the `id` of all its messages. request: None for an opening. bucket: its
    id, b"" where no key is routed. weight: bytes that it holds of a link's window. waiter: the shell's.
    parent: the batch, or the delete, that it is a part of; of a batch also keys: those that it is about, and
    perhaps prefers: the link that it should go to."""

    __slots__ = (
        "bucket",
        "deadline",
        "error",
        "id",
        "keys",
        "link",
        "parent",
        "prefers",
        "request",
        "result",
        "sent_at",
        "slot",
        "trouble",
        "waiter",
        "weight",
    )

    sent_at: float
    slot: dict[int, Call]
    keys: Sequence[bytes]

    def __init__(
        self, id: int, request: Request | None, *, bucket: bytes, deadline: float, weight: int
    ) -> None:
        self.id = id
        self.request = request
        self.bucket = bucket
        self.deadline = deadline
        self.weight = weight
        self.link: NodeLink | None = None
        self.prefers: NodeLink | None = None
        self.parent: Batch | Deletion | None = None
        self.trouble: Trouble | None = None
        self.result: Any = None
        self.error: DynoError | None = None
        self.waiter: Any = None

    @property
    def reads(self) -> bool:
        """Whether asking twice does no harm, and nothing is done by it."""
        kind = type(self.request)
        return kind is Get or kind is GetMany or kind is ListKeys or kind in _QUESTIONS

    @property
    def writes(self) -> bool:
        """Whether it changes what is stored under a key; sent again it is done once, as long as nodes know it
        by its request id."""
        kind = type(self.request)
        return kind is Put or kind is Delete

    @property
    def creates(self) -> bool:
        """Whether it creates a bucket, which done twice is as good as once."""
        return type(self.request) is CreateBucket

    def doubt(self) -> Trouble:
        """What was sent last may have been done, and nobody will say whether it was. If it is sent again it
        says so."""
        trouble = self.troubled()
        if not self.reads:
            if trouble.doubted_since is None:
                trouble.doubted_since = self.sent_at
            if type(self.request) is Put:
                self.request = self.request._replace(again=True)
        return trouble

    @property
    def repeatable_until(self) -> float:
        """When it must not be sent again any more: at its deadline, or once it may have been done so long ago
        that nodes do not know it any more."""
        trouble = self.trouble
        if trouble is None or trouble.doubted_since is None or not self.writes:
            return self.deadline
        return min(self.deadline, trouble.doubted_since + RETRY_MAX_S)

    @property
    def needed(self) -> int:
        """The answers it asked for; a word counts as in a bucket of three copies."""
        request = self.request
        if isinstance(request, Get | GetMany | ListKeys):
            return _count(request.r, request.pr)
        if isinstance(request, Put | Delete):
            return _count(request.w, request.pw)
        return 1

    def trim(self, now: float) -> None:
        """The request carries the time that is left."""
        request = self.request
        if isinstance(request, Get | GetMany | ListKeys | Put | Delete | CreateBucket | Explain):
            self.request = request._replace(budget_ms=options.budget_ms(self.deadline - now))

    def is_asked_at(self, link: NodeLink) -> bool:
        return self.link is link or (self.trouble is not None and self.trouble.also is link)

    def troubled(self) -> Trouble:
        """Made when a call is late or refused for the first time; before that it is in no trouble."""
        if self.trouble is None:
            self.trouble = Trouble(self.sent_at)
        return self.trouble


class Trouble:
    """tried: links that need not be asked again now. failure: the last refusal. elsewhere: nodes asked since
    it last rested. rests: how often it did. since: when it was first sent.

    overdue: whether its answer is later than usual. also, also_at: a second link that has the request, and
    since when. paid: whether a token of the budget was spent on the request that is under way. doubted_since:
    when it was sent first so that it may have been done, None if it never was. abandoned: links that were
    given up on before they answered a write, once for each time that it was sent there."""

    __slots__ = (
        "abandoned",
        "also",
        "also_at",
        "doubted_since",
        "elsewhere",
        "failure",
        "overdue",
        "paid",
        "rests",
        "since",
        "tried",
    )

    def __init__(self, since: float) -> None:
        self.tried: list[NodeLink] = []
        self.abandoned: list[NodeLink] = []
        self.failure: DynoError | None = None
        self.elsewhere = 0
        self.rests = 0
        self.since = since
        self.overdue = False
        self.also: NodeLink | None = None
        self.also_at = since
        self.paid = False
        self.doubted_since: float | None = None


def _count(quorum: int, primaries: int) -> int:
    return max(
        _WORDS.get(quorum, quorum), 0 if primaries in (DEFAULT, STRICT) else _WORDS.get(primaries, primaries)
    )
