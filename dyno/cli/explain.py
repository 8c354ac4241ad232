"""`dyno explain`: what every node holds of one key.

A line for each copy and each hint, and further ones for further siblings: a table with colours on a terminal,
aligned plain text in a pipe, and with --json one object. Ids are shortened: an actor is the beginning of the
start id of the process that minted it, and the epoch where that is not 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dyno.cli import options, output, tables
from dyno.cli.options import AsJson, BucketName, KeyText, Nodes, Version
from dyno.cli.outcome import one_line
from dyno.cli.session import converse

if TYPE_CHECKING:
    from dyno import Client

COLUMNS = (
    tables.Column("node"),
    tables.Column("as"),
    tables.Column(
        "state",
        colours={
            "held": "green",
            "tombstone": "cyan",
            "absent": "yellow",
            "corrupt": "red",
            "other kind": "red",
            "silent": "red",
            "unreachable": "red",
        },
    ),
    tables.Column("digest"),
    tables.Column("context"),
    tables.Column("dot"),
    tables.Column("request"),
    tables.Column("value"),
)

_ACTORS_SHOWN = 6
_VALUE_CHARS = 40
_ID_CHARS = 8  # of ids that have 16 or 32


def explain(
    bucket: BucketName,
    key: KeyText,
    as_json: AsJson = False,
    node: Nodes = None,
    version: Version = False,
) -> None:
    """Show what every node holds of a key.

    Its partition and preference list, and on each replica the values with their dots, the context, a
    tombstone, hints, and whether the copies agree.
    """
    options.utf8(bucket, "BUCKET")
    options.utf8(key, "KEY")

    async def ask(client: Client) -> dict[str, Any]:
        return await client.explain(bucket, key)

    facts = converse(node, ask)
    if as_json:
        from dyno.cli import shapes

        output.document(shapes.shape(facts))
    else:
        tables.show(COLUMNS, rows(facts), above=[tables.Remark(summary(facts))], below=remarks(facts))


def summary(facts: dict[str, Any]) -> str:
    """The key and its preference list in one line."""
    fallbacks = f", then {', '.join(facts['fallbacks'])}" if facts["fallbacks"] else ""
    where = f"{_text(facts['bucket'])}/{_text(facts['key'])}: partition {facts['partition']}, n={facts['n']}"
    return one_line(f"{where}, on {', '.join(facts['primaries'])}{fallbacks}")


def rows(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for replica in facts["replicas"]:
        name = one_line(replica["node"])
        if replica["copy"] is None:
            found.append((name, replica["role"], replica["reach"], *[""] * 5))
            continue
        found += _view_rows(name, replica["role"], replica["copy"])
        for hint in replica["hints"]:
            found += _view_rows("", f"hint for {one_line(hint['for'])}", hint)
    return found


def remarks(facts: dict[str, Any]) -> list[tables.Remark]:
    """What the rows cannot say."""
    heard = [replica for replica in facts["replicas"] if replica["reach"] == "heard"]
    lines = []
    if facts["agree"] and all(replica["copy"]["state"] == "absent" for replica in heard):
        lines.append(
            tables.Remark("no primary holds anything: the key was never written, or all of it is reaped")
        )
    elif facts["agree"]:
        lines.append(tables.Remark("all primaries hold the same"))
    else:
        lines.append(tables.Remark("not all primaries are known to hold the same", "yellow"))
    weak = [one_line(replica["node"]) for replica in heard if replica["weak"]]
    if weak:
        text = f"not complete again yet, so not counted in reads: {', '.join(weak)}"
        lines.append(tables.Remark(text, "yellow"))
    compared = [
        f"{one_line(replica['node'])} {tables.ago(replica['compared_s'])}"
        for replica in heard
        if replica["compared_s"] is not None
    ]
    if compared:
        lines.append(tables.Remark(f"last compared with another owner: {', '.join(compared)}"))
    return lines


def _view_rows(node: str, role: str, view: dict[str, Any]) -> list[tuple[str, ...]]:
    """One for each sibling, but one at least."""
    state = "tombstone" if view["tombstone"] else view["state"]
    siblings = [_sibling(sibling) for sibling in view["siblings"]] or [("", "", "")]
    if view["values"] > len(view["siblings"]):
        siblings.append(("", "", f"… {view['values'] - len(view['siblings'])} more"))
    first = (node, role, state, view["digest"][:_ID_CHARS], _context(view))
    return [(*(first if number == 0 else [""] * 5), *siblings[number]) for number in range(len(siblings))]


def _sibling(sibling: dict[str, Any]) -> tuple[str, str, str]:
    dot = f"{_actor(sibling['actor'])}:{sibling['counter']}"
    return dot, sibling["request"][:_ID_CHARS], _value(sibling)


def _value(sibling: dict[str, Any]) -> str:
    from dyno.cli import shapes

    whole = "value" in sibling
    shown = sibling["value"] if whole else sibling["begins"]
    text = one_line(shapes.text_of(shapes.shape(shown)))
    if whole and len(text) <= _VALUE_CHARS:
        return text
    return f"{text[:_VALUE_CHARS]}… ({sibling['bytes']} bytes)"


def _context(view: dict[str, Any]) -> str:
    """actor:counter for all of an actor's dots up to there, +actor:counter for a single one."""
    context = view["context"]
    if context is None:
        return "(too large to show)" if view["state"] == "held" else ""
    entries = [f"{_actor(actor)}:{counter}" for actor, counter in context["vector"].items()]
    entries += [f"+{_actor(actor)}:{counter}" for actor, counter in context["dots"]]
    more = len(entries) - _ACTORS_SHOWN
    return " ".join(entries[:_ACTORS_SHOWN]) + (f" … {more} more" if more > 0 else "")


def _actor(actor: str) -> str:
    """32 hexadecimal digits: the start id, then the epoch."""
    epoch = int(actor[16:], 16)
    return actor[:_ID_CHARS] + (f".{epoch}" if epoch else "")


def _text(key: str | bytes) -> str:
    return key if isinstance(key, str) else repr(key)
