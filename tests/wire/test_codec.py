"""Every message makes its way through a frame, and only messages do."""

from contextlib import suppress
from struct import pack
from typing import get_args, get_type_hints

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.wire import codec, messages
from dyno.wire.codec import CHUNKS, DATAGRAMS, LINK, ProtocolError, append, decode_frame_body, encode_frame
from dyno.wire.messages import Chunk, Get, Stored

FIELDS = {
    int: st.integers(0, 2**64 - 1),
    bool: st.booleans(),
    bytes: st.binary(max_size=40),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
}


def any_of(classes):
    """A strategy of messages."""
    types = {cls: get_type_hints(cls).values() for cls in classes}
    return st.one_of(st.builds(cls, *(FIELDS[kind] for kind in kinds)) for cls, kinds in types.items())


MESSAGES = any_of(LINK.encoders)


def frame(*sent):
    fields = []
    for message in sent:
        append(message, fields)
    return encode_frame(fields)


@given(st.lists(MESSAGES, min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_messages_come_through_a_frame_equal_and_in_order(sent):
    whole = frame(*sent)
    assert whole[:4] == pack(">I", len(whole) - 4)
    decoded = decode_frame_body(whole[4:])
    assert decoded == sent
    assert list(map(type, decoded)) == list(map(type, sent))


def test_a_message_on_the_wire():
    assert frame(Stored(id=7, status=1)) == b"\0\0\0\x05" + b"\x84\x0f\x07\x01\0"


def test_every_message_has_one_number_and_none_is_forgotten():
    codes = [code for registry in (LINK, CHUNKS, DATAGRAMS) for code, _ in registry.encoders.values()]
    assert len(set(codes)) == len(codes)
    assert set(LINK.encoders) == set(get_args(messages.Message))
    assert set(DATAGRAMS.encoders) == set(get_args(messages.Datagram))


def test_a_link_carries_no_datagrams():
    fields = []
    DATAGRAMS.append(messages.Gossip(sender="a", gossip=b""), fields)
    with pytest.raises(ProtocolError, match="unknown message code 67"):
        decode_frame_body(cbor2.dumps(fields))


def test_a_piece_is_no_message():
    fields = []
    CHUNKS.append(Chunk(part=b"part", last=True), fields)
    with pytest.raises(ProtocolError, match="unknown message code 3"):
        codec.decode_fields(fields)


def test_a_float_where_an_int_belongs_is_refused():
    with pytest.raises(ProtocolError, match=r"Stored.status must be int, not float"):
        decode_frame_body(cbor2.dumps([15, 1, 1.0, 0]))


@pytest.mark.parametrize(
    "field", [b"\x80", b"\xa0", b"\xf6", b"\xf7", b"\xe0", b"\xff", b"\xf9\x3c\0", b"\x20", b"\xf5"]
)
def test_what_is_no_field_is_refused(field):
    """Empty containers, null, undefined, a simple value, a lone break, a float, a negative int, a bool."""
    with pytest.raises(ProtocolError):
        decode_frame_body(b"\x84\x0f\x01\0" + field)


@given(st.binary(max_size=100))
@settings(deadline=None, max_examples=200)
def test_random_bytes_give_messages_or_a_protocol_error(body):
    with suppress(ProtocolError):
        decode_frame_body(body)


@given(st.lists(MESSAGES, min_size=1, max_size=3), st.data())
@settings(deadline=None, max_examples=200)
def test_mutations_give_messages_of_the_right_types_or_a_protocol_error(sent, data):
    body = bytearray(frame(*sent)[4:])
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decoded = decode_frame_body(bytes(body))
    except ProtocolError:
        return
    for message in decoded:
        assert tuple(map(type, message)) == tuple(get_type_hints(type(message)).values())
        assert all(0 <= field < 2**64 for field in message if type(field) is int)


@given(MESSAGES, st.data())
@settings(deadline=None, max_examples=100)
def test_a_body_cut_short_is_refused(sent, data):
    body = frame(sent)[4:]
    with pytest.raises(ProtocolError):
        decode_frame_body(body[: data.draw(st.integers(0, len(body) - 1))])


def test_the_largest_integers_come_through():
    most = Get(id=2**64 - 1, bucket="b", key=b"k", r=2**64 - 1, pr=0, budget_ms=0, forwarded=False)
    assert decode_frame_body(frame(most)[4:]) == [most]
