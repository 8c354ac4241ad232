"""The context as users hold it: an opaque token, bound to the key that it was read from.

A context that is given back with another key would cover writes there that nobody has read. So a token
carries a short keyed hash of its context, its bucket and its key, and is refused anywhere else.

In: a context, or a token, with the cluster id, the bucket's name and the key. Out: the token, or the context;
`InvalidRequest` with one clear sentence for whatever `encode` did not make with the same arguments. The empty
context is the empty token. On a command line a token is unpadded base64url.
The hash finds mistakes; it keeps no secret, for the cluster id is none.

Layout: version byte, 8 bytes of BLAKE2b (RFC 7693, keyed with the cluster id), the packed context.
"""

from __future__ import annotations

import base64
import struct
from hashlib import blake2b

from dyno.causality.context import Context, Malformed
from dyno.errors import InvalidRequest

VERSION = 1

_VERSION_BYTE = bytes([VERSION])
_TAG_BYTES = 8
_CONTEXT_AT = 1 + _TAG_BYTES
_LENGTHS = struct.Struct(">II")


def encode(context: Context, *, cluster: bytes, bucket: str, key: bytes) -> bytes:
    """The token of a context read from (bucket, key). cluster: the cluster's id, 16 bytes."""
    if not context:
        return b""
    packed = context.pack()
    return _VERSION_BYTE + _tag(packed, cluster, bucket, key) + packed


def decode(token: bytes, *, cluster: bytes, bucket: str, key: bytes) -> Context:
    """The context of a token. Raises InvalidRequest for one that `encode` did not make for this key."""
    if not token:
        return Context.EMPTY
    if token[0] != VERSION:
        raise InvalidRequest(f"the context token has the unknown version {token[0]}")
    packed = token[_CONTEXT_AT:]
    if not packed:
        raise InvalidRequest("the context token was cut short")
    if token[1:_CONTEXT_AT] != _tag(packed, cluster, bucket, key):
        raise InvalidRequest(
            "the context token belongs to another key, bucket or cluster, or was cut short or altered"
        )
    try:
        context = Context.unpack(packed)
    except Malformed as error:
        raise InvalidRequest(f"the context token is malformed: {error}") from error
    if not context:
        raise InvalidRequest("the context token is malformed: an empty context has an empty token")
    return context


def to_text(token: bytes) -> str:
    """A token as unpadded base64url (RFC 4648, §5)."""
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode("ascii")


def from_text(text: str) -> bytes:
    """The token whose `to_text` is exactly this text. Raises InvalidRequest if there is none."""
    try:
        token = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        token = b""
    # The decoder skips foreign characters and stray bits; going back shows whether it did.
    if to_text(token) != text:
        raise InvalidRequest("the context token is not unpadded base64url")
    return token


def _tag(packed: bytes, cluster: bytes, bucket: str, key: bytes) -> bytes:
    name = bucket.encode()
    # The lengths in front tell ("ab", "c") from ("a", "bc").
    framed = _LENGTHS.pack(len(name), len(key)) + name + key + packed
    return blake2b(framed, digest_size=_TAG_BYTES, key=cluster).digest()
