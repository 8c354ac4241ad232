"""What nodes hold of a key, as `Client.explain` gives it: plain values, in a shape of which programs read.

In: an Explained message. Out: a dict. Ids are in hexadecimal; a value that is too large to travel with them
is shown by how it begins. Raises ProtocolError for an answer that no node gives.

    {"bucket", "key", "partition", "n", "primaries", "fallbacks", "agree", "replicas": [
        {"node", "role", "reach", "weak", "compared_s", "copy": VIEW or None, "hints": [{"for", **VIEW}]}]}
    VIEW: {"state", "digest", "bytes", "tombstone", "context", "values", "siblings": [SIBLING]}
    SIBLING: {"actor", "counter", "request", "bytes", "value" or "begins"}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dyno.causality.context import Context
from dyno.session.pages import key_of
from dyno.wire import values
from dyno.wire.explanations import ABSENT, HEARD, HELD, REACH_NAMES, VIEW_NAMES, unpack_explanation

if TYPE_CHECKING:
    from dyno.wire.explanations import Explanation, Report, ShownSibling, View
    from dyno.wire.messages import Explained

_BYTES_BEGIN, _TEXT_BEGINS = 2, 3  # CBOR's major types


def shown(bucket: str, key: bytes, told: Explained) -> dict[str, Any]:
    """agree: whether all primaries were heard, and hold the same."""
    explanation = unpack_explanation(told.report)
    return {
        "bucket": bucket,
        "key": key_of(key),
        "partition": explanation.partition,
        "n": explanation.copies,
        "primaries": list(explanation.owners),
        "fallbacks": list(explanation.fallbacks),
        "agree": _agree(explanation),
        "replicas": [_replica(report, explanation.owners) for report in explanation.reports],
    }


def _agree(explanation: Explanation) -> bool:
    held = {
        report.node: report.views[0].digest
        for report in explanation.reports
        if report.reach == HEARD and report.views[0].state in (ABSENT, HELD)
    }
    digests = [held.get(name) for name in explanation.owners]
    return None not in digests and len(dict.fromkeys(digests)) <= 1


def _replica(report: Report, owners: tuple[str, ...]) -> dict[str, Any]:
    """compared_s: how many seconds ago its copies of the partition were compared with another owner's; None
    where that is not known. copy: None of a node that was not heard."""
    copy, *hints = report.views or (None,)
    return {
        "node": report.node,
        "role": "primary" if report.node in owners else "fallback",
        "reach": REACH_NAMES[report.reach],
        "weak": report.weak,
        "compared_s": (report.compared_ms - 1) / 1000 if report.compared_ms else None,
        "copy": None if copy is None else _view(copy),
        "hints": [{"for": hint.target, **_view(hint)} for hint in hints if hint is not None],
    }


def _view(view: View) -> dict[str, Any]:
    """context: {"vector": {actor: counter}, "dots": [[actor, counter]]}; None where it is too large to be
    shown, or there is none."""
    context = None
    if view.context:
        vector, cloud = Context.unpack(view.context).parts()
        context = {
            "vector": {actor.hex(): counter for actor, counter in vector.items()},
            "dots": [[dot.actor.hex(), dot.counter] for dot in cloud],
        }
    return {
        "state": VIEW_NAMES[view.state],
        "digest": view.digest.hex(),
        "bytes": view.size,
        "tombstone": view.state == HELD and not view.values,
        "context": context,
        "values": view.values,
        "siblings": [_sibling(sibling) for sibling in view.siblings],
    }


def _sibling(sibling: ShownSibling) -> dict[str, Any]:
    fields = {
        "actor": sibling.actor.hex(),
        "counter": sibling.counter,
        "request": sibling.request.hex(),
        "bytes": sibling.size,
    }
    if sibling.whole:
        try:
            return fields | {"value": values.decode(sibling.head)}
        except ValueError:
            pass  # what no client stored is shown as the bytes that it is
    return fields | {"begins": _beginning(sibling.head)}


def _beginning(head: bytes) -> str | bytes:
    """Of a text or bytes as much as is there, of anything else how it is encoded."""
    kind = head[0] >> 5 if head else 0
    content = head[len(head) - values.content_size(head) :]
    if kind == _TEXT_BEGINS:
        return content.decode(errors="ignore")
    return content if kind == _BYTES_BEGIN else head
