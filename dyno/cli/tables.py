"""Rows as people read them: aligned text in a pipe, a table with a bold head and colours on a terminal.

In: a title for each column, rows of cells that cannot drive the terminal any more (`outcome.one_line`), and
remarks for the lines above and below them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dyno.cli import output


class Column(NamedTuple):
    """right: whether its cells stand at the right edge, as numbers do. colours: of cells, by their text."""

    title: str
    right: bool = False
    colours: Mapping[str, str] = {}


class Remark(NamedTuple):
    """A line beside the table. style: Rich's, for terminals."""

    text: str
    style: str = "dim"


def show(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    above: Sequence[Remark] = (),
    below: Sequence[Remark] = (),
    total: bool = False,
) -> None:
    """On standard output, in the form that suits whoever reads it. total: the last row sums the others up."""
    if output.is_terminal():
        _show_table(columns, rows, above, below, total)
    else:
        for line in plain(columns, rows, above=above, below=below):
            output.line(line)


def plain(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    above: Sequence[Remark] = (),
    below: Sequence[Remark] = (),
) -> list[str]:
    """Lines of aligned text, the titles before the rows."""
    everything = [[column.title for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*everything, strict=True)]
    lines = [_aligned(row, widths, columns) for row in everything]
    return [*(remark.text for remark in above), *lines, *(remark.text for remark in below)]


def ago(seconds: float) -> str:
    """A time in the past, in the unit that suits it."""
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name} ago"
    return f"{seconds / 86_400:.0f} days ago"


def _aligned(row: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    cells = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, width, column in zip(row, widths, columns, strict=True)
    )
    return "  ".join(cells).rstrip()


def _show_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    above: Sequence[Remark],
    below: Sequence[Remark],
    total: bool,
) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left")
    for number, row in enumerate(rows, 1):
        cells = [Text(cell) for cell in row]
        for cell, column in zip(cells, columns, strict=True):
            cell.stylize(column.colours.get(cell.plain, ""))
        table.add_row(*cells, style="bold" if total and number == len(rows) else None)
    console = Console(highlight=False)
    # A terminal that is too narrow wraps the lines; Rich would cut names and figures short.
    console.width = max(console.width, *map(cell_len, plain(columns, rows, above=above, below=below)))
    for remark in above:
        console.print(Text(remark.text, remark.style))
    console.print(table)
    for remark in below:
        console.print(Text(remark.text, remark.style))
