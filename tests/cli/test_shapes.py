from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest

from dyno.cli.shapes import alone, among_siblings, shape, text_of


@pytest.mark.parametrize(
    ("value", "shaped"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (1.5, 1.5),
        ("é", "é"),
        (b"\x00\xff", {"base64": "AP8="}),
        (Decimal("1.50"), "1.50"),
        (Fraction(1, 3), "1/3"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05+00:00"),
        ([1, [b"x"]], [1, [{"base64": "eA=="}]]),
        ({"b", "a"}, ["a", "b"]),
        ({"a": {1}}, {"a": [1]}),
        ({1: "one", "1": "text"}, {"pairs": [[1, "one"], ["1", "text"]]}),
        (float("nan"), "NaN"),
        (float("inf"), "Infinity"),
        (float("-inf"), "-Infinity"),
    ],
)
def test_every_value_has_a_json_shape(value: Any, shaped: Any) -> None:
    assert shape(value) == shaped
    assert json.loads(text_of(shape(value))) == shaped


def test_a_set_of_many_types_has_one_order() -> None:
    assert shape({1, "a", b"a", None}) == ["a", 1, None, {"base64": "YQ=="}]


def test_what_cannot_be_stored_has_no_shape() -> None:
    with pytest.raises(TypeError, match="object has no JSON shape"):
        shape([object()])


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"raw\xff", b"raw\xff"),
        ("é", b"\xc3\xa9\n"),
        ("two\nlines", b"two\nlines\n"),
        (None, b"null\n"),
        ([1, "é"], b'[1, "\xc3\xa9"]\n'),
        (Decimal("1.5"), b'"1.5"\n'),
    ],
)
def test_an_only_value_is_printed_as_it_is(value: Any, written: bytes) -> None:
    assert alone(value) == written


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("plain", "plain"),
        ("two\nlines", '"two\\nlines"'),
        ("a\rb", '"a\\rb"'),
        (b"x", '{"base64": "eA=="}'),
        (1, "1"),
    ],
)
def test_a_sibling_takes_one_line(value: Any, line: str) -> None:
    assert among_siblings(value) == line
