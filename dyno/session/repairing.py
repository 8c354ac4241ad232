"""A repair from its beginning to its end: `Client.repair` as a machine; and what nodes mended, for `status`.

In: what all nodes report, asked for again and again under the id of one run, with a pause between. Out: the
calls that ask, and how far it is, for whoever shows progress. It is done when every two nodes that share
copies have been compared since the run began. It ends as well, and says so, when nothing else is left than
pairs of which one cannot be reached, or does not answer, and that has been so for `PATIENCE_S`.

    {"done", "pairs", "compared" (pairs), "keys", "sent", "received", "healed", "merged", "aside",
     "nodes": [{"name", "reach", "state", "keys", "sent", "received", "healed", "merged", "aside"}],
     "unreached": {name: why}, "waiting": {name: [names]}}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dyno.errors import Overloaded, RequestTimeout
from dyno.session import options
from dyno.wire.repairs import (
    BUSY,
    CUT_OFF,
    DONE,
    HEARD,
    MERGING,
    OTHER_RING,
    RUN_BYTES,
    SILENT,
    STATE_NAMES,
    UNREACHABLE,
    Mends,
    Report,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dyno.session.calls import Call
    from dyno.session.outbox import SessionOutbox
    from dyno.session.session import Session

PAUSE_S: Final = 0.25  # between an answer and the next question
PATIENCE_S: Final = 5.0  # with nodes that cannot be reached, since anything else changed
QUESTION_S: Final = 5.0  # for the answer to one question
ANSWERLESS_S: Final = 30.0  # without any

_WHY: Final = {
    SILENT: "it does not answer",
    UNREACHABLE: "it cannot be reached",
    OTHER_RING: "it knows other members than the others do",
    BUSY: "too many repairs are under way there",
}

_Pair = tuple[str, str]


def told(reports: Sequence[Report]) -> dict[str, Any]:
    """What nodes mended since they started, by the name of those that were heard. compared_s: how long ago
    they compared all that they share with whom; None where that was not done since the start."""
    return {
        report.node: {
            "state": STATE_NAMES[report.state],
            **report.mends._asdict(),
            "compared_s": {
                peer.name: (peer.ago_ms - 1) / 1000 if peer.ago_ms else None for peer in report.peers
            },
        }
        for report in reports
        if report.reach == HEARD
    }


class Repairing:
    """One run. `start`, and `step` after each call that ended, until `step` returns None. progress: as above,
    by the last answer."""

    def __init__(
        self,
        session: Session,
        *,
        bucket: str | None,
        quarantine: bool,
        timeout: float | None,
        now: float,
    ) -> None:
        """timeout: seconds; None to go on as long as it takes. Raises InvalidRequest."""
        self.progress: dict[str, Any] = {}
        self._session = session
        self._bucket = "" if bucket is None else options.bucket_name(bucket)
        self._merge = quarantine
        self._deadline = None if timeout is None else now + options.timeout_s(timeout)
        self._run = session.random.randbytes(RUN_BYTES)
        self._mends: dict[str, Mends] = {}  # as each node said last
        self._earlier: dict[str, Mends] = {}  # of processes that are gone
        self._pairs: dict[_Pair, None] = {}
        self._seen: object = None
        self._changed_at = self._answered_at = now

    def start(self, now: float, out: SessionOutbox) -> Call:
        return self._ask(0.0, now, out)

    def step(self, call: Call, now: float, out: SessionOutbox) -> Call | None:
        """The next call; None when it is over. Raises what ended it: RequestTimeout, or why the cluster
        cannot be asked."""
        if isinstance(call.error, RequestTimeout | Overloaded) and now < self._answered_at + ANSWERLESS_S:
            return self._ask(PAUSE_S, now, out)  # the nodes may have much to do
        if call.error is not None:
            raise call.error
        self._answered_at = now
        return None if self._learn(call.result, now) else self._ask(PAUSE_S, now, out)

    def _ask(self, delay: float, now: float, out: SessionOutbox) -> Call:
        patience = QUESTION_S
        if self._deadline is not None:
            patience = min(patience, self._deadline - now - delay)
            if patience <= 0:
                raise RequestTimeout(
                    f"the time is over, and {shown(self.progress)}",
                    needed=0,
                    answered=0,
                    nodes=(),
                    indeterminate=False,
                )
        return self._session.repair(
            self._run,
            self._bucket,
            merge=self._merge,
            timeout=delay + patience,  # the pause counts
            delay=delay,
            now=now,
            out=out,
        )

    # ── what was reported ──

    def _learn(self, reports: Sequence[Report], now: float) -> bool:
        """Whether it is over."""
        heard = {report.node: report for report in reports if report.reach == HEARD}
        for report in heard.values():
            self._count(report)
        unheard = {report.node: _WHY[report.reach] for report in reports if report.reach != HEARD}
        waiting, blocked = self._open_pairs(heard, unheard)
        merging = [name for name, report in heard.items() if report.state == MERGING]
        done = not waiting and not blocked and not unheard and not merging
        seen = (waiting, blocked, sorted(unheard), merging)
        if seen != self._seen:
            self._seen, self._changed_at = seen, now
        gives_up = not waiting and not merging and now >= self._changed_at + PATIENCE_S
        self._tell(reports, done=done, waiting=waiting, blocked=blocked, unheard=unheard)
        return done or gives_up

    def _count(self, report: Report) -> None:
        """A node that was started anew counts from the beginning."""
        before = self._mends.get(report.node, Mends())
        if any(number < was for number, was in zip(report.mends[:-1], before[:-1], strict=True)):
            self._earlier[report.node] = _sum(self._earlier.get(report.node, Mends()), before)
        self._mends[report.node] = report.mends

    def _open_pairs(
        self, heard: dict[str, Report], unheard: dict[str, str]
    ) -> tuple[list[_Pair], list[_Pair]]:
        """Those that are not compared yet: which will be, and which cannot be as things are. Either of the
        two knows when they were."""
        rows = {
            (node, peer.name): peer.state
            for node, report in heard.items()
            for peer in report.peers
            if peer.state != DONE
        }
        waiting: dict[_Pair, None] = {}
        blocked: dict[_Pair, None] = {}
        for node, name in rows:
            if name in heard and (name, node) not in rows:
                continue  # that one knows that they were compared
            pair = (min(node, name), max(node, name))
            self._pairs[pair] = None
            # The first of the two asks the other, unless that one recovers.
            states = [rows.get(pair), rows.get(pair[::-1])]
            is_cut_off = name in unheard or all(state in (None, CUT_OFF) for state in states)
            (blocked if is_cut_off else waiting)[pair] = None
        return sorted(waiting), sorted(blocked)

    def _tell(
        self,
        reports: Sequence[Report],
        *,
        done: bool,
        waiting: list[_Pair],
        blocked: list[_Pair],
        unheard: dict[str, str],
    ) -> None:
        nodes = []
        for report in reports:
            mends = self._total(report.node)
            nodes.append(
                {
                    "name": report.node,
                    "state": STATE_NAMES[report.state] if report.reach == HEARD else "not heard",
                    **_counts(mends),
                }
            )
        unreached = dict(unheard)
        for one, other in blocked:
            if one not in unheard and other not in unheard:
                unreached[other] = f"{one} cannot reach it"
        total = _sum(*(self._total(name) for name in self._mends))
        self.progress = {
            "done": done,
            "pairs": len(self._pairs),
            "compared": len(self._pairs) - len(waiting) - len(blocked),
            **_counts(total),
            "nodes": nodes,
            "unreached": dict(sorted(unreached.items())),
            "waiting": [list(pair) for pair in waiting],
        }

    def _total(self, node: str) -> Mends:
        return _sum(self._earlier.get(node, Mends())._replace(aside=0), self._mends.get(node, Mends()))


def shown(progress: dict[str, Any]) -> str:
    """How far it is, as people read it."""
    if not progress:
        return "no node has answered"
    states = [node["state"] for node in progress["nodes"] if node["state"] not in ("ready", "not heard")]
    doing = f", {', '.join(dict.fromkeys(states))}" if states else ""
    return (
        f"{progress['compared']} of {progress['pairs']} pairs compared, "
        f"{progress['sent']} records sent, {progress['received']} received{doing}"
    )


def _sum(*mends: Mends) -> Mends:
    return Mends(*map(sum, zip(*mends, strict=True))) if mends else Mends()


def _counts(mends: Mends) -> dict[str, int]:
    return {
        "keys": mends.compared,
        "sent": mends.sent,
        "received": mends.received,
        "healed": mends.healed,
        "merged": mends.merged,
        "aside": mends.aside,
    }
