"""`dyno status`: the cluster's members, as one node sees them.

Three forms of the same facts: a table with colours on a terminal, aligned plain text in a pipe, and with
--json the object of the contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from dyno.cli import output
from dyno.cli.options import AsJson, Nodes, Version
from dyno.cli.outcome import one_line
from dyno.cli.session import converse

if TYPE_CHECKING:
    from dyno import Client

_COLOURS = {"alive": "green", "suspect": "yellow", "dead": "red"}


class _Column(NamedTuple):
    title: str
    right: bool = False


_COLUMNS = (
    _Column("name"),
    _Column("address"),
    _Column("zone"),
    _Column("weight", right=True),
    _Column("state"),
    _Column("liveness"),
    _Column("incarnation", right=True),
    _Column("share", right=True),
    _Column("hints", right=True),
)
_LIVENESS = 5


def status(as_json: AsJson = False, node: Nodes = None, version: Version = False) -> None:
    """Show the members of the cluster, their share of the copies, and waiting hints."""

    async def ask(client: Client) -> dict[str, Any]:
        return await client.status()

    facts = converse(node, ask)
    if as_json:
        output.document(facts)
    elif output.is_terminal():
        _show_table(facts)
    else:
        for line in plain(facts):
            output.line(line)


def plain(facts: dict[str, Any]) -> list[str]:
    """The status as aligned text, one member a line."""
    rows = [tuple(column.title for column in _COLUMNS), *(_cells(member) for member in facts["members"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [_summary(facts), *(_aligned(row, widths) for row in rows)]


def _aligned(row: tuple[str, ...], widths: list[int]) -> str:
    cells = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, width, column in zip(row, widths, _COLUMNS, strict=True)
    )
    return "  ".join(cells).rstrip()


def _show_table(facts: dict[str, Any]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in _COLUMNS:
        table.add_column(column.title, justify="right" if column.right else "left")
    for member in facts["members"]:
        cells = [Text(cell) for cell in _cells(member)]
        cells[_LIVENESS].stylize(_COLOURS.get(member["liveness"], ""))
        table.add_row(*cells)
    console = Console(highlight=False)
    # A terminal that is too narrow wraps the lines; Rich would cut the addresses short.
    console.width = max(console.width, *map(cell_len, plain(facts)))
    console.print(Text(_summary(facts), style="dim"))
    console.print(table)


def _summary(facts: dict[str, Any]) -> str:
    members = facts["members"]
    alive = sum(member["liveness"] == "alive" for member in members)
    return (
        f"cluster {one_line(str(facts['cluster']))}: {facts['partitions']} partitions, "
        f"{alive} of {len(members)} members alive"
    )


def _cells(member: dict[str, Any]) -> tuple[str, ...]:
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
