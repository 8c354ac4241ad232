"""The sans-I/O half of a TCP link: bytes that arrived in, messages out; messages in, bytes to send out.

`feed` takes whatever a read brought, however the stream was cut, and gives the messages that are complete.
`send` queues, `drain` gives the frames for all that was queued, so that one turn of the loop costs one frame
and one write per link, however many messages it holds.

A message of more than CHUNK_BYTES travels in pieces (`Chunk`), one per `drain`, behind the small messages:
it holds nobody up. So small messages keep their order, large ones keep theirs, and a small one may overtake
a large one. One large message is under way per direction.

What the other side may make us hold is bounded: one frame of `frame_bytes_max` and one message of
`message_bytes_max` in pieces. Whatever breaks the rules is a `ProtocolError`; then the link is to be closed.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import TYPE_CHECKING

from cbor2 import dumps

from dyno.config import CHUNK_BYTES, FRAME_BYTES_MAX, MESSAGE_BYTES_MAX
from dyno.wire.codec import (
    CHUNK_CODE,
    CHUNKS,
    LENGTH_BYTES,
    LINK,
    ProtocolError,
    decode_fields,
    encode_frame,
)
from dyno.wire.flat import FlatDecoder
from dyno.wire.messages import Chunk

if TYPE_CHECKING:
    from dyno.wire.messages import Message

_ENCODERS = LINK.encoders
_length_at = Struct(">I").unpack_from


class LinkCodec:
    """One end of one link.

    frame_bytes_max, message_bytes_max: the longest frame and the longest message in pieces that are taken
    from the other side. Both may be set anew at any time: small until the handshake is done, then as
    configured. While a frame may not even hold CHUNK_BYTES, no message in pieces is taken at all.
    """

    __slots__ = (
        "_awaited",
        "_decoder",
        "_fields",
        "_fields_bytes",
        "_full",
        "_full_bytes",
        "_large",
        "_large_bytes",
        "_partial",
        "_pieces",
        "_rest",
        "frame_bytes_max",
        "message_bytes_max",
    )

    def __init__(
        self, *, frame_bytes_max: int = FRAME_BYTES_MAX, message_bytes_max: int = MESSAGE_BYTES_MAX
    ) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.message_bytes_max = message_bytes_max
        # Arriving: the beginning of a frame, how many bytes of it are worth another look, and the pieces of
        # a large message.
        self._partial = bytearray()
        self._awaited = LENGTH_BYTES
        self._pieces = bytearray()
        self._decoder = FlatDecoder()
        # Leaving: the frame being filled, the full ones before it, the large messages, and what is not sent
        # yet of the one under way. Sizes are upper estimates.
        self._fields: list[object] = []
        self._fields_bytes = 0
        self._full: list[list[object]] = []
        self._full_bytes = 0
        self._large: deque[tuple[Message, int]] = deque()
        self._large_bytes = 0
        self._rest = memoryview(b"")

    def feed(self, data: bytes | memoryview) -> list[Message]:
        """The messages that `data`, the next bytes of the stream, completes. `data` is not kept."""
        partial = self._partial
        if not partial:
            messages, used = self._take(data)
            if used < len(data):
                partial += data[used:]
            return messages
        partial += data
        if len(partial) < self._awaited:
            return []
        with memoryview(partial) as view:
            messages, used = self._take(view)
        del partial[:used]
        return messages

    def _take(self, data: bytes | memoryview) -> tuple[list[Message], int]:
        """The messages of the whole frames at the beginning of `data`, and how many bytes those take."""
        messages: list[Message] = []
        at = 0
        end = len(data)
        self._awaited = LENGTH_BYTES
        while end - at >= LENGTH_BYTES:
            length = _length_at(data, at)[0]
            if length > self.frame_bytes_max:
                raise ProtocolError(f"a frame of {length} bytes, over {self.frame_bytes_max}")
            begin = at + LENGTH_BYTES
            stop = begin + length
            if stop > end:
                self._awaited = stop - at
                break
            fields = self._decoder.decode(bytes(data[begin:stop]))
            if fields[0] == CHUNK_CODE:
                messages += self._reassemble(fields)
            else:
                messages += decode_fields(fields)
            at = stop
        return messages, at

    def _reassemble(self, fields: list[object]) -> list[Message]:
        """The large message that a frame with a Chunk completes, if it does."""
        if self.frame_bytes_max < CHUNK_BYTES:
            raise ProtocolError("a message in pieces before the handshake is done")
        chunks = CHUNKS.decode(fields)
        part, last = chunks[0]
        if len(chunks) > 1 or not part:
            raise ProtocolError("one frame holds one piece, and never an empty one")
        pieces = self._pieces
        if len(pieces) + len(part) > self.message_bytes_max:
            raise ProtocolError(f"a message in pieces over {self.message_bytes_max} bytes")
        pieces += part
        if not last:
            return []
        self._pieces = bytearray()
        messages = decode_fields(self._decoder.decode(bytes(pieces)))
        if len(messages) > 1:
            raise ProtocolError("more than one message in one set of pieces")
        return messages

    def send(self, message: Message) -> None:
        """Queue a message. ValueError if it is over MESSAGE_BYTES_MAX, which nobody would take."""
        code, size_of = _ENCODERS[type(message)]
        size = size_of(message)
        self._fields_bytes += size
        if self._fields_bytes > CHUNK_BYTES:
            self._fields_bytes -= size
            if size > CHUNK_BYTES:
                self._send_large(message, size)
                return
            self._full.append(self._fields)
            self._full_bytes += self._fields_bytes
            self._fields = []
            self._fields_bytes = size
        fields = self._fields
        fields.append(code)
        fields.extend(message)

    def _send_large(self, message: Message, size: int) -> None:
        if size > MESSAGE_BYTES_MAX:
            raise ValueError(f"a {type(message).__name__} of {size} bytes, over {MESSAGE_BYTES_MAX}")
        self._large.append((message, size))
        self._large_bytes += size

    @property
    def arriving_bytes(self) -> int:
        """How many bytes are kept of a frame, and of a large message, that are not here as a whole."""
        return len(self._partial) + len(self._pieces)

    @property
    def queued_bytes(self) -> int:
        """About how many bytes wait for `drain`; rather more than fewer."""
        return self._fields_bytes + self._full_bytes + self._large_bytes + len(self._rest)

    @property
    def pending(self) -> bool:
        """Whether pieces of a large message wait for the next `drain`."""
        return bool(self._rest or self._large)

    def drain(self) -> bytes:
        """Frames for every small message queued, then at most one piece of a large one; b"" for nothing.
        Each frame has about CHUNK_BYTES at most."""
        frames: list[bytes] = []
        if self._full:
            frames.extend(map(encode_frame, self._full))
            self._full.clear()
            self._full_bytes = 0
        if self._fields:
            frames.append(encode_frame(self._fields))
            self._fields = []
            self._fields_bytes = 0
        if self._rest or self._large:
            frames.append(self._next_piece())
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def _next_piece(self) -> bytes:
        if not self._rest:
            message, size = self._large.popleft()
            self._large_bytes -= size
            alone: list[object] = []
            LINK.append(message, alone)
            self._rest = memoryview(dumps(alone))
        part = bytes(self._rest[:CHUNK_BYTES])
        self._rest = self._rest[CHUNK_BYTES:] if len(self._rest) > CHUNK_BYTES else memoryview(b"")
        fields: list[object] = []
        CHUNKS.append(Chunk(part, not self._rest), fields)
        return encode_frame(fields)
