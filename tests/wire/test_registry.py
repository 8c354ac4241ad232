"""A row of fields is a row of messages, or it is refused."""

from typing import NamedTuple

import cbor2
import pytest

from dyno.wire.flat import ProtocolError
from dyno.wire.registry import Registry


class Everything(NamedTuple):
    id: int
    flag: bool
    data: bytes
    text: str
    share: float
    second: int


class Number(NamedTuple):
    only: int


class Text(NamedTuple):
    only: str


REGISTRY = Registry({1: Everything, 2: Number, 3: Text})

EVERYTHING = Everything(id=5, flag=True, data=b"d", text="t", share=0.5, second=2**64 - 1)


def test_what_is_appended_is_decoded_in_order():
    fields = []
    for message in (EVERYTHING, Number(0), Text("x"), EVERYTHING):
        REGISTRY.append(message, fields)
    assert fields[:9] == [1, *EVERYTHING, 2, 0]
    decoded = REGISTRY.decode(fields)
    assert decoded == [EVERYTHING, Number(0), Text("x"), EVERYTHING]
    assert list(map(type, decoded)) == [Everything, Number, Text, Everything]


def test_no_fields_are_no_messages():
    assert REGISTRY.decode([]) == []


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ([4, 1], "unknown message code 4"),
        ([-1], "unknown message code -1"),
        (["x" * 1000], "unknown message code 'xxxx"),
        ([[]], r"unknown message code \[\]"),
        ([True, *EVERYTHING], "unknown message code True"),
        ([2.0, 7], "unknown message code 2.0"),
        ([2, 7, 5, 5], "unknown message code 5"),
        ([1], "Everything is cut short"),
        ([1, *EVERYTHING[:-1]], "Everything is cut short"),
        ([2, 7, 2], "Number is cut short"),
        ([2, True], "Number.only must be int, not bool"),
        ([2, 7.0], "Number.only must be int, not float"),
        ([2, None], "Number.only must be int, not NoneType"),
        ([3, b"x"], "Text.only must be str, not bytes"),
        ([1, *EVERYTHING._replace(flag=1)], "Everything.flag must be bool, not int"),
        ([1, *EVERYTHING._replace(data="d")], "Everything.data must be bytes, not str"),
        ([1, *EVERYTHING._replace(data=[])], "Everything.data must be bytes, not list"),
        ([1, *EVERYTHING._replace(share=1)], "Everything.share must be float, not int"),
        ([2, -1], r"Number.only must lie in 0..2\*\*64-1"),
        ([2, 2**64], r"Number.only must lie in 0..2\*\*64-1"),
        ([1, *EVERYTHING._replace(id=-5)], r"Everything.id must lie in 0..2\*\*64-1"),
        ([1, *EVERYTHING._replace(second=-1)], r"Everything.second must lie in 0..2\*\*64-1"),
    ],
)
def test_what_is_no_row_of_messages_is_refused(fields, complaint):
    with pytest.raises(ProtocolError, match=f"^{complaint}"):
        REGISTRY.decode(fields)


@pytest.mark.parametrize(
    "message",
    [
        EVERYTHING,
        EVERYTHING._replace(data=b"d" * 70_000, text="\U0001f600" * 70_000),
        Number(2**64 - 1),
        Text("ä" * 100),
        Text(""),
    ],
)
def test_a_size_estimate_is_never_too_small(message):
    code, size = REGISTRY.encoders[type(message)]
    fields = [code, *message]
    assert size(message) >= len(cbor2.dumps(fields)) - 1
    assert size(message) >= 5 * len(fields)
