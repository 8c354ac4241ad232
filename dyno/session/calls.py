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
    CreateBucket,
    Delete,
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
    from dyno.session.links import NodeLink

    Request: TypeAlias = Get | GetMany | Put | Delete | ListKeys | AskMembers | CreateBucket | AskBuckets

REQUEST_BYTES = 128  # of a message without its value, about

# What the words stand for in a bucket that says nothing else; only the nodes know better.
_WORDS = {DEFAULT: COPIES // 2 + 1, QUORUM: COPIES // 2 + 1, ALL: COPIES}


class Call:
    """id: unique within the session, the `id` of all its messages. request: None for an opening. bucket: its
    id, b"" where no key is routed. weight: bytes that it holds of a link's window. waiter: the shell's.
    parent: the batch that it is a part of; only then keys: those that it is about, and perhaps prefers: the
    link that it should go to."""

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
        self.parent: Batch | None = None
        self.trouble: Trouble | None = None
        self.result: Any = None
        self.error: DynoError | None = None
        self.waiter: Any = None

    @property
    def reads(self) -> bool:
        """Whether asking twice does no harm, and nothing is done by it."""
        kind = type(self.request)
        return kind is Get or kind is GetMany or kind is AskMembers or kind is ListKeys or kind is AskBuckets

    @property
    def is_repeatable(self) -> bool:
        """Whether it changes something, but doing it twice is as good as once."""
        return type(self.request) is CreateBucket

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
        if isinstance(request, Get | GetMany | ListKeys | Put | Delete | CreateBucket):
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
    since when. paid: whether a token of the budget was spent on the request that is under way. may_be_done: a
    link was lost that had a repeatable request."""

    __slots__ = (
        "also",
        "also_at",
        "elsewhere",
        "failure",
        "may_be_done",
        "overdue",
        "paid",
        "rests",
        "since",
        "tried",
    )

    def __init__(self, since: float) -> None:
        self.tried: list[NodeLink] = []
        self.failure: DynoError | None = None
        self.elsewhere = 0
        self.rests = 0
        self.since = since
        self.overdue = False
        self.also: NodeLink | None = None
        self.also_at = since
        self.paid = False
        self.may_be_done = False


def _count(quorum: int, primaries: int) -> int:
    return max(
        _WORDS.get(quorum, quorum), 0 if primaries in (DEFAULT, STRICT) else _WORDS.get(primaries, primaries)
    )
