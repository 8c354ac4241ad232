"""`dyno status`: the cluster's members, as one node sees them.

Three forms of the same facts: a table with colours on a terminal, aligned plain text in a pipe, and with
--json the object of the contract. With --wait-drained they are shown once no hint waits for a living node;
until then a line on stderr, where that is a terminal, says what waits.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dyno.cli import output, tables
from dyno.cli.options import AsJson, Nodes, Version
from dyno.cli.outcome import one_line
from dyno.cli.session import converse
from dyno.cli.tables import ago

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from dyno import Client

COLUMNS = (
    tables.Column("name"),
    tables.Column("address"),
    tables.Column("zone"),
    tables.Column("weight", right=True),
    tables.Column("state"),
    tables.Column("liveness", colours={"alive": "green", "suspect": "yellow", "dead": "red"}),
    tables.Column("incarnation", right=True),
    tables.Column("share", right=True),
    tables.Column("hints", right=True),
)


_WaitDrained = Annotated[
    bool, typer.Option("--wait-drained", help="Return once no hint waits for a living node.")
]


def status(
    wait_drained: _WaitDrained = False,
    as_json: AsJson = False,
    node: Nodes = None,
    version: Version = False,
) -> None:
    """Show the members of the cluster, their share of the copies, and waiting hints."""

    async def ask(client: Client) -> dict[str, Any]:
        if wait_drained:
            with Notice() as notice:
                await client.hints_drained(told=lambda backlog: notice.show(f"{backlog} …"))
        return await client.status()

    facts = converse(node, ask)
    if as_json:
        output.document(facts)
    else:
        rows = [cells(member, facts["unheard"]) for member in facts["members"]]
        tables.show(COLUMNS, rows, above=[tables.Remark(summary(facts))], below=remarks(facts))


class Notice:
    """One line on a terminal's stderr that is written over and over, and goes away at the end; nothing
    elsewhere."""

    def __init__(self) -> None:
        self._is_seen = sys.stderr is not None and sys.stderr.isatty()
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.show("")

    def show(self, text: str) -> None:
        if self._is_seen and text != self._shown:
            self._shown = text
            sys.stderr.write(f"\r\x1b[K{one_line(text)}")
            sys.stderr.flush()


def summary(facts: dict[str, Any]) -> str:
    """The cluster in one line."""
    members = facts["members"]
    alive = sum(member["liveness"] == "alive" for member in members)
    return (
        f"cluster {one_line(str(facts['cluster']))}: {facts['partitions']} partitions, "
        f"{alive} of {len(members)} members alive"
    )


def remarks(facts: dict[str, Any]) -> list[tables.Remark]:
    """What the rows cannot say."""
    lines = [f"{name}: {count}" for name, count in facts["hints_for"].items()]
    said = [f"hints that wait, by whom they are for: {one_line(', '.join(lines))}"] if lines else []
    said += [mended(name, repairs) for name, repairs in facts["repairs"].items()]
    remarks = [tables.Remark(text) for text in said]
    aside = [f"{name}: {repairs['aside']}" for name, repairs in facts["repairs"].items() if repairs["aside"]]
    if aside:
        text = f"records set aside, which dyno repair --quarantine merges: {one_line(', '.join(aside))}"
        remarks.append(tables.Remark(text, "yellow"))
    return remarks


def mended(name: str, repairs: dict[str, Any]) -> str:
    """What a node repaired since it started, and why, and when it compared its copies with whom."""
    counts = (
        f"{repairs['read_repairs']} by reads, {repairs['handed_over']} by hints, "
        f"{repairs['sent'] + repairs['received']} by exchanges, {repairs['healed']} corrupt"
    )
    compared = [
        f"{peer} {'never' if seconds is None else ago(seconds)}"
        for peer, seconds in repairs["compared_s"].items()
    ]
    state = "" if repairs["state"] == "ready" else f" ({repairs['state']})"
    return one_line(f"{name}{state} repaired {counts}; compared with {', '.join(compared) or 'nobody'}")


def cells(member: dict[str, Any], unheard: Sequence[str] = ()) -> tuple[str, ...]:
    """A member's row. unheard: the members that did not say which hints they keep."""
    return (
        one_line(member["name"]),
        one_line(member["address"]),
        one_line(member["zone"]) or "-",
        f"{member['weight']:g}",
        member["state"],
        member["liveness"],
        str(member["incarnation"]),
        f"{member['share']:.1%}",
        "?" if member["name"] in unheard else str(member["hints"]),
    )
