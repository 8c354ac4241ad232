"""`dyno repair`: compare all copies now, and bring them up to date.

In: a bucket or none. Out: a line for each node with the keys it compared and the records it sent, received
and healed, and one for all of them; on a terminal's stderr, until then, how far it is. A node that could not
be reached is named on stderr, and the exit code says so. Ctrl-C ends it at any time; whatever was repaired
stays repaired, and another run goes on from there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dyno.cli import options, output, tables
from dyno.cli.options import AsJson, Nodes, Version
from dyno.cli.outcome import QUORUM, one_line, say
from dyno.cli.session import converse

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from dyno import Client

COLUMNS = (
    tables.Column("node"),
    tables.Column("keys compared", right=True),
    tables.Column("sent", right=True),
    tables.Column("received", right=True),
    tables.Column("healed", right=True),
    tables.Column("state", colours={"ready": "green", "not heard": "red"}),
)

_Bucket = Annotated[
    str | None,
    typer.Argument(metavar="[BUCKET]", help="Compare no more than what has its number of copies."),
]
_Quarantine = Annotated[
    bool,
    typer.Option("--quarantine", help="First merge back what nodes have set aside: old values may return."),
]


def repair(
    bucket: _Bucket = None,
    quarantine: _Quarantine = False,
    as_json: AsJson = False,
    node: Nodes = None,
    version: Version = False,
) -> None:
    """Compare all copies of all nodes now, and repair what differs.

    Nodes do this by themselves all the time; this does it at once.
    """
    if bucket is not None:
        options.utf8(bucket, "BUCKET")

    async def ask(client: Client) -> dict[str, Any]:
        with Bar() as bar:
            return await client.repair(bucket, quarantine=quarantine, told=bar.show)

    facts = converse(node, ask)
    if as_json:
        output.document(facts)
    else:
        tables.show(COLUMNS, rows(facts), below=remarks(facts), total=True)
    if not facts["done"]:
        output.flush()
        say(f"dyno: {one_line(unfinished(facts))}")
        raise typer.Exit(QUORUM)


class Bar:
    """How far it is, on a terminal's stderr, gone at the end; nothing elsewhere."""

    def __init__(self) -> None:
        self._progress: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._progress = Progress(
                BarColumn(bar_width=None),
                TextColumn("{task.fields[text]}", markup=False),
                console=Console(stderr=True),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                expand=True,
            )
            self._task = self._progress.add_task("", total=None, text="asking …")
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def show(self, progress: dict[str, Any]) -> None:
        if self._progress is not None:
            from dyno.session.repairing import shown

            self._progress.update(
                self._task,
                total=progress["pairs"] or None,
                completed=progress["compared"],
                text=one_line(shown(progress)),
                refresh=True,
            )


def rows(facts: dict[str, Any]) -> list[tuple[str, ...]]:
    """The last one is of all together."""
    found = [(*_cells(one_line(node["name"]), node), node["state"]) for node in facts["nodes"]]
    return [*found, (*_cells("all", facts), "")]


def remarks(facts: dict[str, Any]) -> list[tables.Remark]:
    """What the rows cannot say."""
    lines = []
    if facts["merged"]:
        lines.append(tables.Remark(f"records merged back that were set aside: {facts['merged']}"))
    aside = [f"{one_line(node['name'])}: {node['aside']}" for node in facts["nodes"] if node["aside"]]
    if aside:
        lines.append(tables.Remark(f"records that are set aside: {', '.join(aside)}", "yellow"))
    return lines


def unfinished(facts: dict[str, Any]) -> str:
    """Who is missing."""
    missing = "; ".join(f"{name}: {why}" for name, why in facts["unreached"].items())
    return (
        f"not all copies could be compared ({missing}); what could be is repaired: "
        f"run dyno repair again when the nodes are back"
    )


def _cells(name: str, counts: dict[str, Any]) -> tuple[str, ...]:
    return name, *(str(counts[field]) for field in ("keys", "sent", "received", "healed"))
