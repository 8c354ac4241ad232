"""A packet is one message of this cluster, or it is dropped."""

from contextlib import suppress
from struct import pack

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.config import DATAGRAM_BYTES_MAX
from dyno.wire.codec import ProtocolError
from dyno.wire.datagram import MAGIC, ForeignCluster, decode, encode
from dyno.wire.messages import Ack, Doubts, Gossip, Nack, Ping, PingRequest

CLUSTER = bytes(range(16))
PING = Ping(seq=1, target="n2", target_start=b"s" * 8, sender="n1", gossip=b"")

NUMBERS = st.integers(0, 2**64 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DATA = st.binary(max_size=100)
DATAGRAMS = st.one_of(
    st.builds(Ping, NUMBERS, TEXTS, DATA, TEXTS, DATA),
    st.builds(Ack, NUMBERS, TEXTS, DATA, DATA),
    st.builds(PingRequest, NUMBERS, TEXTS, DATA, TEXTS, TEXTS, DATA),
    st.builds(Gossip, TEXTS, DATA),
    st.builds(Nack, NUMBERS, TEXTS),
    st.builds(Doubts, TEXTS, DATA, DATA),
)


@given(DATAGRAMS)
@settings(deadline=None, max_examples=100)
def test_a_message_comes_through(message):
    packet = encode(CLUSTER, message)
    assert packet.startswith(MAGIC + CLUSTER)
    decoded = decode(CLUSTER, packet)
    assert decoded == message
    assert type(decoded) is type(message)


def test_another_cluster_is_told_apart():
    with pytest.raises(ForeignCluster):
        decode(b"another cluster!", encode(CLUSTER, PING))


def test_a_packet_too_large_is_our_own_mistake():
    room = DATAGRAM_BYTES_MAX - len(encode(CLUSTER, PING))
    fits = PING._replace(gossip=bytes(room - 2))  # its header grows by two
    assert len(encode(CLUSTER, fits)) == DATAGRAM_BYTES_MAX
    assert decode(CLUSTER, encode(CLUSTER, fits)) == fits
    with pytest.raises(AssertionError, match="a Ping of 1401 bytes"):
        encode(CLUSTER, PING._replace(gossip=bytes(room - 1)))


def test_a_node_without_a_cluster_sends_nothing():
    with pytest.raises(AssertionError):
        encode(b"", PING)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        MAGIC,
        MAGIC + CLUSTER,
        MAGIC + CLUSTER[:-1],
        b"dyn\x02" + encode(CLUSTER, PING)[4:],
        b"GET / HTTP/1.1\r\n\r\n",
        encode(CLUSTER, PING)[:-1],
        encode(CLUSTER, PING) + b"\0",
        MAGIC + CLUSTER + b"\x80",
        MAGIC + CLUSTER + cbor2.dumps([67, "n1", b""] * 2),
        MAGIC + CLUSTER + cbor2.dumps([15, 1, 0]),
        MAGIC + CLUSTER + cbor2.dumps([67, "n1", [b""]]),
        MAGIC + CLUSTER + cbor2.dumps([64, -1, "n2", b"", "n1", b""]),
        MAGIC + CLUSTER + b"\x9f\x18\x43\x62n1\x40\xff",
        MAGIC + CLUSTER + b"\x83\x18\x43\x62n1\x5b" + pack(">Q", 1 << 40),
        MAGIC + CLUSTER + b"\x81" * 1000,
        encode(CLUSTER, PING) + bytes(DATAGRAM_BYTES_MAX),
    ],
)
def test_anything_else_is_dropped(packet):
    with pytest.raises(ProtocolError):
        decode(CLUSTER, packet)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=200)
def test_random_bytes_are_dropped(data):
    for packet in (data, MAGIC + CLUSTER + data):
        with suppress(ProtocolError):
            decode(CLUSTER, packet)


@given(DATAGRAMS, st.data())
@settings(deadline=None, max_examples=200)
def test_mutations_are_messages_or_dropped(message, data):
    packet = bytearray(encode(CLUSTER, message))
    for _ in range(data.draw(st.integers(1, 3))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        decode(CLUSTER, bytes(packet))
