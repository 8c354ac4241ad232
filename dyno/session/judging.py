"""What becomes of a call that was refused, lost or not answered: judged without state, done by `dispatch`.

The rule behind the table: a caller gets no error that a retry within its timeout could have avoided, and no
error later than it is certain.

    what comes                       a read                           a write (put, put if_context, delete)
    ───────────────────────────────  ───────────────────────────────  ───────────────────────────────────────
    its answer                       result                           result
    invalid, conflict                raised                           raised
    ring (nothing was done)          again after a pause              again after a pause
    overloaded (nothing was done)    at once at a node that has not   the same
                                     said so; else again after
                                     retry_after; raised at once only
                                     where that outlasts the timeout
    quorum, determinate              at once at up to ELSEWHERE_MAX   the same: nothing was done, and another
                                     other nodes; then again after a  coordinator may see more nodes alive
                                     pause if a change of the cluster
                                     may help (`changes`), or raised
    storage, determinate             at once elsewhere, then raised   the same
    quorum or storage,               like determinate                 like determinate, from then on in doubt
    indeterminate
    link lost, surely not sent       at once elsewhere                at once elsewhere
    link lost after sending          at once elsewhere                at once elsewhere, in doubt
    later than the link's usual      asked at another primary too;    goes on waiting
    95 in 100 (`hedging.usual`)      the first answer counts
    link silent for PATIENCE_S       asked elsewhere instead; the     the same, in doubt
                                     first answer counts
    no link ready                    waits for one                    waits for one
    the caller's timeout             RequestTimeout, determinate      RequestTimeout, indeterminate if sent;
                                     or, while it rested or waited: the refusal that made it rest;
                                     ConnectFailed when no link is up

Why quorum is not simply tried until the timeout: with W above the nodes that live the answer is certain, and
a caller who waits five seconds for it learns nothing more. But after a node restarts, its neighbours count
it as dead for a moment; so while the cluster changes, that answer is not certain yet. An overload or a
changing ring always passes. A full or broken disk seldom does within a timeout.

*In doubt*: the write may have been done. A put says so when it is sent again, and whoever gets it asks the
other owners before it does anything (docs/design/survival.md); a delete covers what it covered before.
Whatever a call in doubt ends with, other than its answer, is indeterminate; but a conflict is one, for a node
says so of a put in doubt only when all owners told it that they do not know it. Nodes know a write for a
while, so one in doubt is not sent again after RETRY_MAX_S.

Creating a bucket may be done twice: when its link is lost it is sent again, in doubt; but it waits for a
silent link, is asked for elsewhere only after a quick refusal, and what is indeterminate is raised.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from dyno.errors import Code, QuorumNotMet
from dyno.session import failures
from dyno.session.links import PATIENCE_S

if TYPE_CHECKING:
    from dyno.errors import DynoError
    from dyno.session.calls import Call, Trouble
    from dyno.session.changes import Changes
    from dyno.session.links import Links, NodeLink
    from dyno.wire.messages import Failed

ELSEWHERE_MAX = 2
PAUSE_MIN_S = 0.05
PAUSE_MAX_S = 0.5
OVERLOADED_PAUSE_MIN_S = 0.02
OVERLOADED_PAUSE_MAX_S = 2.0
SPARED_MIN_S = 0.1


class Advice(Enum):
    RAISE = "raise"
    LATER = "later"
    ELSEWHERE = "elsewhere"


def advice(
    call: Call, trouble: Trouble, failed: Failed, *, other: NodeLink | None, changes: Changes, now: float
) -> Advice:
    """The table above, for refusals. other: a link that can take the call now and was not tried."""
    code = failed.code
    if now >= call.repeatable_until or (failed.indeterminate and call.creates):
        return Advice.RAISE
    if code == Code.RING:
        return Advice.LATER
    if code not in (Code.OVERLOADED, Code.QUORUM, Code.STORAGE):
        return Advice.RAISE
    if call.creates and code != Code.OVERLOADED and now >= call.sent_at + PATIENCE_S:
        return Advice.RAISE  # a creation waited for silent members, and would only do so again
    if trouble.elsewhere >= ELSEWHERE_MAX:
        other = None
    if code == Code.OVERLOADED:
        if other is not None and other.ready:
            return Advice.ELSEWHERE
        in_time = now + failed.retry_after_ms / 1000 < call.deadline
        return Advice.LATER if in_time else Advice.RAISE
    if other is not None:
        return Advice.ELSEWHERE
    if code == Code.QUORUM and changes.may_help(needed=failed.needed, since=trouble.since, now=now):
        return Advice.LATER
    return Advice.RAISE


def pause_s(call: Call, trouble: Trouble, failed: Failed, *, draw: float, now: float) -> float:
    """Doubles with every rest, and is jittered by half of it either way; but not beyond the middle of the
    time that is left, so that a growing pause is not what makes a call fail. draw: 0 to 1."""
    factor = 1 << min(trouble.rests, 16)
    if failed.code == Code.OVERLOADED:
        least = max(failed.retry_after_ms / 1000, OVERLOADED_PAUSE_MIN_S)
        pause = min(least * factor, max(least, OVERLOADED_PAUSE_MAX_S))
    else:
        least = PAUSE_MIN_S
        pause = min(least * factor, PAUSE_MAX_S)
    return min(pause * (0.5 + draw), max((call.deadline - now) / 2, least))


def spared_s(failed: Failed, *, draw: float) -> float:
    """How long new calls should avoid a node that refused one, jittered likewise."""
    return min(max(failed.retry_after_ms / 1000, SPARED_MIN_S), OVERLOADED_PAUSE_MAX_S) * (0.5 + draw)


def too_late(call: Call, links: Links, *, saving: bool) -> DynoError:
    """The caller's timeout passed. saving: while the call waited for a token of the budget."""
    refusal = call.trouble.failure if call.trouble is not None else None
    tells = call.reads or (isinstance(refusal, QuorumNotMet) and refusal.indeterminate)
    if call.link is not None and (refusal is None or not tells):
        text = f"{call.link.name} at {call.link.address} did not answer in time"
        return failures.timeout(call, text, indeterminate=not call.reads)
    if refusal is not None:
        return refusal  # of what was sent again since, too: it says more than silence
    if saving:
        text = (
            "the node that had the request was lost or silent, and so many calls had to be sent again "
            "that this one's turn did not come in time"
        )
        return failures.timeout(call, text, indeterminate=False)
    if links.any_up:
        text = "no node took the request in time: all are silent, or have too much to answer"
        return failures.timeout(call, text, indeterminate=False)
    return failures.unreachable(links.why())
