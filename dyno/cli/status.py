"""`dyno status`: the cluster's members, as one node sees them.

Three forms of the same facts: a table with colours on a terminal, aligned plain text in a pipe, and with
--json the object of the contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dyno.cli import output, tables
from dyno.cli.options import AsJson, Nodes, Version
from dyno.cli.outcome import one_line
from dyno.cli.session import converse

if TYPE_CHECKING:
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


def status(as_json: AsJson = False, node: Nodes = None, version: Version = False) -> None:
    """Show the members of the cluster, their share of the copies, and waiting hints."""

    async def ask(client: Client) -> dict[str, Any]:
        return await client.status()

    facts = converse(node, ask)
    if as_json:
        output.document(facts)
    else:
        rows = [cells(member) for member in facts["members"]]
        tables.show(COLUMNS, rows, above=[tables.Remark(summary(facts))])


def summary(facts: dict[str, Any]) -> str:
    """The cluster in one line."""
    members = facts["members"]
    alive = sum(member["liveness"] == "alive" for member in members)
    return (
        f"cluster {one_line(str(facts['cluster']))}: {facts['partitions']} partitions, "
        f"{alive} of {len(members)} members alive"
    )


def cells(member: dict[str, Any]) -> tuple[str, ...]:
    """A member's row."""
    return (
        one_line(member["name"]),
        one_line(member["address"]),
        one_line(member["zone"]) or "-",
        f"{member['weight']:g}",
        member["state"],
        member["liveness"],
        str(member["incarnation"]),
        f"{member['share']:.1%}",
        str(member["hints"]),
    )
