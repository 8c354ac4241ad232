"""Entries for tests."""

from __future__ import annotations

from dyno.ringlog.entry import Entry, Row
from dyno.wire.members import NORMAL


def an_id(name: str) -> bytes:
    return name.encode().ljust(16, b".")


def a_row(name: str, state: int = NORMAL, *, since: int = 1, directory: str = "", replaces: str = "") -> Row:
    return Row(name, an_id(directory or name), an_id("seat " + name), "z", 1.0, state, since, replaces)


def an_entry(*rows: Row, number: int = 1) -> Entry:
    return Entry(number, b"", False, tuple(sorted(rows)) or tuple(a_row(name) for name in "abc"))
