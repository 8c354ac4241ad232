"""However the bytes are cut, the same messages come out, and nobody makes a link hold more than it may."""

import tracemalloc
from contextlib import suppress
from itertools import pairwise
from struct import pack

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.config import CHUNK_BYTES, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX
from dyno.wire.codec import CHUNKS, ProtocolError, encode_frame
from dyno.wire.link import LinkCodec
from dyno.wire.messages import AskMembers, Chunk, Found, Members, Put, Store, Stored

SMALL = Store(id=1, ring=2, slot=b"s" * 27, key=b"key", record=b"r" * 1000)


def large(number, size=CHUNK_BYTES + 1):
    return Found(id=number, record=bytes([number]) * size, answered="a", fallbacks="")


def sent(*messages):
    codec = LinkCodec()
    for message in messages:
        codec.send(message)
    return codec.drain()


def frames(stream):
    """The bodies of the frames in a stream, decoded."""
    bodies = []
    while stream:
        length = int.from_bytes(stream[:4], "big")
        bodies.append(cbor2.loads(stream[4 : 4 + length]))
        stream = stream[4 + length :]
    return bodies


def chunk(part, *, last):
    fields = []
    CHUNKS.append(Chunk(part, last), fields)
    return encode_frame(fields)


# ── small messages ──


def test_a_turn_makes_one_frame_of_all_that_was_sent():
    codec = LinkCodec()
    assert codec.drain() == b""
    for number in range(100):
        codec.send(Stored(number, 0))
    stream = codec.drain()
    assert len(frames(stream)) == 1
    assert LinkCodec().feed(stream) == [Stored(number, 0) for number in range(100)]
    assert codec.drain() == b""
    assert not codec.pending


def test_a_frame_holds_about_a_chunk_at_most():
    records = [SMALL._replace(id=number, record=b"r" * 100_000) for number in range(10)]
    stream = sent(*records)
    assert [len(fields) for fields in frames(stream)] == [12] * 5
    assert LinkCodec().feed(stream) == records


def test_no_number_of_tiny_messages_makes_a_frame_that_is_refused():
    messages = [AskMembers(number) for number in range(60_000)]
    stream = sent(*messages)
    assert len(frames(stream)) > 1
    assert LinkCodec().feed(stream) == messages


def test_messages_come_in_a_buffer_that_is_reused():
    buffer = bytearray(sent(SMALL))
    codec = LinkCodec()
    messages = codec.feed(memoryview(buffer))
    assert codec.feed(memoryview(buffer)[:100]) == []
    rest = bytes(buffer[100:])
    buffer[:] = bytes(len(buffer))
    assert messages == [SMALL]
    assert codec.feed(rest) == [SMALL]


def test_a_stream_byte_by_byte():
    stream = sent(SMALL) + sent(Stored(1, 0), AskMembers(2))
    codec = LinkCodec()
    messages = [message for byte in stream for message in codec.feed(bytes([byte]))]
    assert messages == [SMALL, Stored(1, 0), AskMembers(2)]


@given(st.lists(st.integers(0, 4000), max_size=30), st.lists(st.integers(1, 300), max_size=12))
@settings(deadline=None, max_examples=100)
def test_any_split_of_the_stream_gives_the_same_messages(cuts, sizes):
    messages = [SMALL._replace(id=index, record=b"r" * size) for index, size in enumerate(sizes)]
    stream = b"".join(sent(message) for message in messages)
    codec = LinkCodec()
    received = []
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    for begin, end in pairwise(edges):
        received += codec.feed(memoryview(stream)[begin:end])
    assert received == messages


def test_a_long_frame_comes_in_many_reads():
    stream = sent(SMALL._replace(record=b"r" * (CHUNK_BYTES - 200)))
    codec = LinkCodec()
    received = []
    for begin in range(0, len(stream), 64):
        received += codec.feed(stream[begin : begin + 64])
    assert [len(message.record) for message in received] == [CHUNK_BYTES - 200]


# ── large messages ──


def test_a_large_message_comes_in_pieces_one_per_drain():
    codec, other = LinkCodec(), LinkCodec()
    codec.send(large(1, 3 * CHUNK_BYTES))
    assert codec.pending
    received, turns = [], 0
    while codec.pending:
        stream = codec.drain()
        assert len(stream) < CHUNK_BYTES + 100
        received += other.feed(stream)
        turns += 1
    assert received == [large(1, 3 * CHUNK_BYTES)]
    assert turns == 4
    assert codec.drain() == b""


def test_a_large_message_holds_up_no_small_one():
    codec, other = LinkCodec(), LinkCodec()
    codec.send(large(1))
    codec.send(Stored(1, 0))
    codec.send(large(2))
    codec.send(Stored(2, 0))
    assert other.feed(codec.drain()) == [Stored(1, 0), Stored(2, 0)]
    codec.send(Stored(3, 0))
    assert other.feed(codec.drain()) == [Stored(3, 0), large(1)]
    assert other.feed(codec.drain()) == []
    assert other.feed(codec.drain()) == [large(2)]
    assert not codec.pending


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 2)), max_size=12), st.integers(1000, 300_000))
@settings(deadline=None, max_examples=25)
def test_small_and_large_messages_each_keep_their_order(plan, read_bytes):
    """plan: for each message whether it is large, and how many drains follow."""
    codec, other, received = LinkCodec(), LinkCodec(), []

    def deliver():
        stream = codec.drain()
        for begin in range(0, len(stream), read_bytes):
            received.extend(other.feed(stream[begin : begin + read_bytes]))

    messages = [large(index) if is_large else Stored(index, 0) for index, (is_large, _) in enumerate(plan)]
    for message, (_, drains) in zip(messages, plan, strict=True):
        codec.send(message)
        for _ in range(drains):
            deliver()
    deliver()
    while codec.pending:
        deliver()
    for kind in (Stored, Found):
        assert [m for m in received if type(m) is kind] == [m for m in messages if type(m) is kind]


def test_what_waits_is_counted():
    codec = LinkCodec()
    assert codec.queued_bytes == 0
    for number in range(5):
        codec.send(SMALL._replace(record=b"r" * 100_000))
        codec.send(large(number))
    whole = sum(len(sent(SMALL._replace(record=b"r" * 100_000))) + CHUNK_BYTES for _ in range(5))
    assert whole < codec.queued_bytes < whole + 2000
    first = codec.drain()
    left = codec.queued_bytes
    assert whole - len(first) < left < whole - len(first) + 2000
    while codec.pending:
        codec.drain()
        assert codec.queued_bytes < left
        left = codec.queued_bytes
    assert left == 0


def test_a_message_that_nobody_would_take_is_not_queued():
    codec = LinkCodec()
    with pytest.raises(ValueError, match=r"a Members of .* bytes, over 67108864"):
        codec.send(Members(id=1, cluster=b"", partitions=1, ring=1, members=bytes(MESSAGE_BYTES_MAX)))
    assert codec.queued_bytes == 0
    assert codec.drain() == b""


# ── strangers ──


@pytest.mark.parametrize("claimed", [FRAME_BYTES_MAX + 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("first", [b"", sent(SMALL)])
def test_a_frame_that_claims_too_much_is_refused_at_its_header(claimed, first):
    codec = LinkCodec()
    with pytest.raises(ProtocolError, match=f"a frame of {claimed} bytes"):
        codec.feed(first + pack(">I", claimed))


def test_a_header_in_two_reads_is_refused_too():
    codec = LinkCodec()
    assert codec.feed(b"\xff\xff") == []
    with pytest.raises(ProtocolError, match="a frame of 4294967295 bytes"):
        codec.feed(b"\xff\xff")


def test_until_the_handshake_is_done_frames_are_small():
    codec = LinkCodec(frame_bytes_max=4096)
    put = Put(1, "b", b"k", b"v" * 5000, b"", False, 2, 0, b"q" * 16, 5000, False)
    assert codec.feed(sent(SMALL)) == [SMALL]
    with pytest.raises(ProtocolError):
        codec.feed(sent(put))
    welcome = LinkCodec(frame_bytes_max=4096)
    assert welcome.feed(sent(SMALL)) == [SMALL]
    welcome.frame_bytes_max = FRAME_BYTES_MAX
    assert welcome.feed(sent(put)) == [put]


def test_until_the_handshake_is_done_nothing_comes_in_pieces():
    codec = LinkCodec(frame_bytes_max=4096)
    with pytest.raises(ProtocolError, match="before the handshake"):
        codec.feed(chunk(b"part", last=False))


@pytest.mark.parametrize(
    "stream",
    [
        pack(">I", 0),
        pack(">I", 1) + b"\x80",
        pack(">I", 3) + b"\x83\x0f\x01",
        pack(">I", 5) + b"\x83\x0f\x01\x00\x00",
        pack(">I", 1) + b"\x01",
    ],
)
def test_a_frame_without_messages_is_refused(stream):
    with pytest.raises(ProtocolError):
        LinkCodec().feed(stream)


def body(*messages):
    return sent(*messages)[4:]


@pytest.mark.parametrize(
    "stream",
    [
        chunk(b"", last=False),
        chunk(b"", last=True),
        encode_frame([3, b"part", False, 3, b"part", False]),
        encode_frame([3, b"part", False, 15, 1, 0]),
        encode_frame([15, 1, 0, 3, b"part", False]),
        encode_frame([3, "part", False]),
        encode_frame([3, b"part", 0]),
        encode_frame([3, b"part"]),
        chunk(b"garbage", last=True),
        chunk(body(SMALL)[:-1], last=True),
        chunk(body(SMALL) + b"\0", last=True),
        chunk(body(Stored(1, 0), Stored(2, 0)), last=True),
        chunk(chunk(body(SMALL), last=True)[4:], last=True),
    ],
)
def test_pieces_that_make_no_message_are_refused(stream):
    with pytest.raises(ProtocolError):
        LinkCodec().feed(stream)


def test_a_message_in_pieces_is_bounded():
    codec = LinkCodec(message_bytes_max=1000)
    assert codec.feed(chunk(b"p" * 600, last=False)) == []
    with pytest.raises(ProtocolError, match="over 1000 bytes"):
        codec.feed(chunk(b"p" * 401, last=False))


def test_tiny_pieces_cost_no_more_memory_than_their_bytes():
    stream = chunk(b"p", last=False) * 1000
    codec = LinkCodec()
    codec.feed(stream)
    tracemalloc.start()
    try:
        for _ in range(20):
            codec.feed(stream)
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()


def test_what_is_kept_of_what_is_not_here_as_a_whole_is_told():
    codec = LinkCodec()
    whole = body(SMALL)
    assert codec.arriving_bytes == 0
    codec.feed(chunk(whole[:500], last=False) + b"\0\0")
    assert codec.arriving_bytes == 502
    assert codec.feed(chunk(whole[500:], last=True)[2:]) == [SMALL]
    assert codec.arriving_bytes == 0


def test_the_next_message_in_pieces_begins_anew():
    codec = LinkCodec()
    whole = body(SMALL)
    for _ in range(2):
        assert codec.feed(chunk(whole[:500], last=False)) == []
        assert codec.feed(chunk(whole[500:], last=True)) == [SMALL]


@given(st.lists(st.binary(max_size=100), max_size=5))
@settings(deadline=None, max_examples=200)
def test_random_bytes_give_messages_or_a_protocol_error(reads):
    codec = LinkCodec()
    with suppress(ProtocolError):
        for data in reads:
            codec.feed(data)


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_a_mutated_stream_gives_messages_or_a_protocol_error(data):
    stream = bytearray(sent(SMALL, Stored(1, 0)) + chunk(body(SMALL)[:100], last=False) + sent(AskMembers(1)))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    codec = LinkCodec()
    with suppress(ProtocolError):
        for begin in range(0, len(stream), 100):
            codec.feed(memoryview(stream)[begin : begin + 100])
