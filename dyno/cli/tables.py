"""Rows as people read them: aligned text in a pipe, a table with a bold head on a terminal.

In: a title for each column, and rows of cells that cannot drive the terminal any more (`outcome.one_line`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dyno.cli import output


class Column(NamedTuple):
    """right: whether its cells stand at the right edge, as numbers do."""

    title: str
    right: bool = False


def show(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """On standard output, in the form that suits whoever reads it."""
    if output.is_terminal():
        _show_table(columns, rows)
    else:
        for line in plain(columns, rows):
            output.line(line)


def plain(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned text, the titles first."""
    everything = [[column.title for column in columns], *rows]
    widths = [max(map(len, cells)) for cells in zip(*everything, strict=True)]
    return [_aligned(row, widths, columns) for row in everything]


def _aligned(row: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    cells = (
        cell.rjust(width) if column.right else cell.ljust(width)
        for cell, width, column in zip(row, widths, columns, strict=True)
    )
    return "  ".join(cells).rstrip()


def _show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column.title, justify="right" if column.right else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console(highlight=False)
    # A terminal that is too narrow wraps the lines; Rich would cut names short.
    console.width = max(console.width, *map(cell_len, plain(columns, rows)))
    console.print(table)
