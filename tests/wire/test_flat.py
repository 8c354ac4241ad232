"""Only flat arrays of scalars come in, whatever is thrown at the door."""

import tracemalloc
from contextlib import suppress
from decimal import Decimal
from struct import pack

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.wire.flat import FIELDS_MAX, FlatDecoder, ProtocolError

SCALARS = (
    st.integers(-(2**64), 2**64 - 1)
    | st.booleans()
    | st.binary(max_size=40)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
    | st.floats(allow_nan=False)
)

REFUSED = {
    "nothing": b"",
    "an empty array": b"\x80",
    "an int": cbor2.dumps(7),
    "bytes": cbor2.dumps(b"bytes"),
    "a map": cbor2.dumps({1: 2}),
    "a tagged array": b"\xd9\xd9\xf7\x81\x01",
    "an array in it": cbor2.dumps([1, [2]]),
    "a map in it": cbor2.dumps([1, {2: 3}]),
    "deep nesting": b"\x81" * 100_000,
    "deep tags": b"\x81" + b"\xc2" * 100_000,
    "deep shared references": b"\x81" + b"\xd8\x1c" * 100_000,
    "an indefinite array": b"\x9f\x01\xff",
    "indefinite bytes": b"\x81\x5f\x41a\xff",
    "an indefinite str": b"\x81\x7f\x61a\xff",
    "an indefinite map": b"\x81\xbf\xff",
    "a reserved length": b"\x81\x1c",
    "a str of no UTF-8": b"\x81\x62\xc3\x28",
    "an encoded surrogate": b"\x81\x63\xed\xa0\x80",
    "an array cut short": b"\x83\x01\x02",
    "a header cut short": b"\x9a\0\0",
    "one byte too many": b"\x81\x01\x00",
    "another array behind": b"\x81\x01\x81\x01",
    "a count of 2**31": b"\x9a\x80\0\0\0",
    "a count of 2**64 - 1": b"\x9b" + b"\xff" * 8,
    "bytes of 4 GiB": b"\x81\x5a\xff\xff\xff\xff",
    "bytes of 2**64 - 1": b"\x81\x5b" + b"\xff" * 8,
    "a str of 4 GiB": b"\x81\x7a\xff\xff\xff\xff",
    "a map of 4 GiB": b"\x81\xba\xff\xff\xff\xff",
}


@given(st.lists(SCALARS, min_size=1, max_size=300))
@settings(deadline=None, max_examples=50)
def test_scalars_come_through_as_they_were(fields):
    decoded = FlatDecoder().decode(cbor2.dumps(fields))
    assert decoded == fields
    assert list(map(type, decoded)) == list(map(type, fields))


def test_one_decoder_serves_one_body_after_another():
    decoder = FlatDecoder()
    for fields in ([1], [2, b"x" * 100_000], ["three"] * 1000):
        assert decoder.decode(cbor2.dumps(fields)) == fields


@pytest.mark.parametrize("body", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_refused_without_allocating_what_it_claims(body):
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            FlatDecoder().decode(body)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"\0", b"\x41\x01", b"\x61a", b"\x80", b"\xa0", b"\xf6"])
def test_no_tag_comes_through(content):
    """Bignums, dates, decimals, sets, references, patterns and all that later versions of cbor2 may know."""
    for tag in (*range(1100), 43000, 55799, 55800, 2**32 - 1, 2**64 - 1):
        with pytest.raises(ProtocolError):
            FlatDecoder().decode(b"\x82\x01" + b"\xdb" + pack(">Q", tag) + content)


@pytest.mark.parametrize("value", [1 << 64, -(1 << 64) - 1, Decimal("1.1"), {1}, 1j])
def test_a_value_that_needs_a_tag_is_refused(value):
    with pytest.raises(ProtocolError):
        FlatDecoder().decode(cbor2.dumps([value]))


def test_the_number_of_fields_is_bounded():
    most = cbor2.dumps([0] * FIELDS_MAX)
    assert len(FlatDecoder().decode(most)) == FIELDS_MAX
    with pytest.raises(ProtocolError, match="65536 fields are more than 65535"):
        FlatDecoder().decode(cbor2.dumps([0] * (FIELDS_MAX + 1)))
    with pytest.raises(ProtocolError, match="3 fields are more than 2"):
        FlatDecoder().decode(b"\x83\0\0\0", fields_max=2)


def test_a_caller_may_admit_more_fields():
    body = cbor2.dumps([0] * 70_000)
    assert len(FlatDecoder().decode(body, fields_max=70_000)) == 70_000
    with pytest.raises(ProtocolError, match="70000 fields are more than 69999"):
        FlatDecoder().decode(body, fields_max=69_999)


@given(st.binary(max_size=200))
@settings(deadline=None, max_examples=300)
def test_random_bytes_give_fields_or_a_protocol_error(body):
    with suppress(ProtocolError):
        assert 0 < len(FlatDecoder().decode(body)) <= len(body)


@given(st.lists(SCALARS, min_size=1, max_size=10), st.data())
@settings(deadline=None, max_examples=300)
def test_mutations_and_truncations_give_fields_or_a_protocol_error(fields, data):
    body = bytearray(cbor2.dumps(fields))
    del body[data.draw(st.integers(0, len(body))) :]
    if body:
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        assert 0 < len(FlatDecoder().decode(bytes(body))) <= len(body)
