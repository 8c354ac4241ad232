"""`dyno bucket create`, `dyno bucket list`: buckets with properties of their own.

create is silent unless --json asks for what the bucket is. list shows all that were created: as a table on a
terminal, as aligned plain text in a pipe, and with --json as one object from names to properties.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from dyno.cli import options, output, tables
from dyno.cli.options import AsJson, Nodes, Version
from dyno.cli.outcome import one_line
from dyno.cli.session import converse
from dyno.errors import InvalidRequest

if TYPE_CHECKING:
    from dyno import Client

    _Properties: TypeAlias = dict[str, int | str]

_NUMBER = re.compile(r"-?[0-9]{1,9}")
_COLUMNS = (
    tables.Column("name"),
    tables.Column("n", right=True),
    tables.Column("r", right=True),
    tables.Column("w", right=True),
    tables.Column("kind"),
)

_Name = Annotated[str, typer.Argument(metavar="NAME", help="What the bucket is called.")]
_Copies = Annotated[
    str | None, typer.Option("-n", metavar="N", help="Copies of each key; 3 if not given. Never changes.")
]
_Reads = Annotated[
    str | None,
    typer.Option(
        "-r",
        metavar="R",
        help="What reads use that say nothing else: a number, one, quorum or all.",
        autocompletion=options.complete_quorum,
    ),
]
_Writes = Annotated[
    str | None,
    typer.Option("-w", metavar="W", help="The same for writes.", autocompletion=options.complete_quorum),
]
_Kind = Annotated[
    str,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="What its records are: siblings. Never changes.",
        autocompletion=options.completion({"siblings": "concurrent values are kept side by side"}),
    ),
]


def create(
    name: _Name,
    n: _Copies = None,
    r: _Reads = None,
    w: _Writes = None,
    kind: _Kind = "siblings",
    as_json: AsJson = False,
    node: Nodes = None,
    version: Version = False,
) -> None:
    """Create a bucket with properties of its own.

    Buckets that nobody creates have n=3 and quorums. Every member of the cluster has to be up and to agree.
    Creating a bucket again with the same properties succeeds; with others, or one that holds data, does not.
    """
    options.utf8(name, "NAME")
    copies = _copies(n)
    reads, writes = options.quorum(r, "-r"), options.quorum(w, "-w")
    _check(name, n=copies, r=reads, w=writes, kind=kind)

    async def ask(client: Client) -> _Properties:
        return await client.create_bucket(name, n=copies, r=reads, w=writes, kind=kind)

    properties = converse(node, ask)
    if as_json:
        output.document({"name": name, **properties})


def list_(as_json: AsJson = False, node: Nodes = None, version: Version = False) -> None:
    """Show the buckets that were created, and what they are."""

    async def ask(client: Client) -> dict[str, _Properties]:
        return await client.buckets()

    buckets = converse(node, ask)
    if as_json:
        output.document(buckets)
    else:
        rows = [_cells(name, properties) for name, properties in buckets.items()]
        tables.show(_COLUMNS, rows)


def _cells(name: str, properties: _Properties) -> tuple[str, ...]:
    return (one_line(name), *(str(properties[column.title]) for column in _COLUMNS[1:]))


def _check(name: str, **properties: Any) -> None:
    """What can be no bucket is refused before a node is looked for."""
    from dyno.session.buckets import creation

    creation(0, name, budget_ms=1, **properties)


def _copies(text: str | None) -> int | None:
    """Which numbers are possible the client knows best."""
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"-n: {text[:40]!r} is no number of copies")
    return int(text)
