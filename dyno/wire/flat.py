"""Flat CBOR arrays out of a stranger's bytes: the one door through which all of the protocol comes in.

In go bytes from a link, a datagram or a file; out comes a list of the items of one CBOR array (RFC 8949)
that takes up exactly those bytes. Its items are scalars: no tag, no indefinite length, no container with
anything in it gets through. Their types are still to be checked by whoever knows what they should be.

Whatever else arrives ends in `ProtocolError`, soon and without allocating what it merely claims to hold:
the number of items is bounded, so what a small body of tiny items grows to in memory is bounded too.
"""

from __future__ import annotations

from typing import IO, Final, cast

from cbor2 import CBORDecoder, CBORError

# What a CBOR array header of at most two length bytes can say; no frame or datagram holds more fields.
FIELDS_MAX: Final = 0xFFFF


class ProtocolError(ValueError):
    """The other side sent what no correct node or client sends. A link is to be closed, a packet dropped."""


class FlatDecoder:
    """Decodes one body after another. A link keeps its own: making one costs as much as using it. After an
    error it is not to be used again."""

    __slots__ = ("_decoder", "_stream")

    def __init__(self) -> None:
        self._stream = Stream()
        # A tag opens a level as an array does, so one level admits the array and nothing in it. (Empty
        # arrays and maps slip through, and fail the check of types.)
        self._decoder = CBORDecoder(
            cast("IO[bytes]", self._stream), max_depth=1, allow_indefinite=False, read_size=READ_BYTES
        )

    def decode(self, body: bytes, *, fields_max: int = FIELDS_MAX) -> list[object]:
        """The 1..fields_max items of the array that `body` is. ProtocolError if it is anything else."""
        head = body[0] if body else 0
        if not 0x81 <= head <= 0x99:  # an array whose header says 1..65535
            _check_long_header(body, fields_max)
        stream = self._stream
        stream.rest = body
        try:
            fields: list[object] = self._decoder.decode()
        except CBORError as error:
            raise ProtocolError(f"malformed: {error}") from None
        if stream.overrun or stream.rest:
            raise ProtocolError("there are bytes behind the end of the array")
        if len(fields) > fields_max:
            raise ProtocolError(f"{len(fields)} fields are more than {fields_max}")
        return fields


class Stream:
    """Bytes in the form in which a CBORDecoder takes them, with the answer to whether it took them all.

    `cbor2.loads` is quiet about unused bytes. A CBORDecoder reads ahead all that there is, once, and seeks
    back over what it did not need.
    """

    __slots__ = ("overrun", "rest")

    def __init__(self, rest: bytes = b"") -> None:
        self.rest = rest
        self.overrun = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, _size: int) -> bytes:
        data = self.rest
        self.rest = b""
        return data

    def seek(self, _offset: int, _whence: int) -> None:
        self.overrun = True


READ_BYTES: Final = 1 << 30  # more than any body has: all of it is handed over in one read


def _check_long_header(body: bytes, fields_max: int) -> None:
    """Refuse all but an array whose header has four length bytes, as long as the caller admits so many."""
    if len(body) < 5 or body[0] != 0x9A:
        raise ProtocolError("not an array of fields")
    count = int.from_bytes(body[1:5], "big")
    if count > fields_max:
        raise ProtocolError(f"{count} fields are more than {fields_max}")
