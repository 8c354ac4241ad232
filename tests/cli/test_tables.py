from __future__ import annotations

from dyno.cli.tables import Column, plain, show

COLUMNS = (Column("name"), Column("n", right=True))


def test_a_pipe_gets_aligned_text() -> None:
    assert plain(COLUMNS, [("wide", "5"), ("a", "12")]) == ["name   n", "wide   5", "a     12"]


def test_no_rows_are_a_head_alone() -> None:
    assert plain(COLUMNS, []) == ["name  n"]


def test_what_is_shown_in_a_pipe_is_plain(capfdbinary) -> None:  # type: ignore[no-untyped-def]
    show(COLUMNS, [("é", "5")])
    assert capfdbinary.readouterr().out.decode() == "name  n\né     5\n"
