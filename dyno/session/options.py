"""What callers pass, checked before anything is sent.

In: keys, bucket names, quorums and timeouts as users write them. Out: the fields of wire messages. Whatever
cannot be right is refused with `InvalidRequest` and a sentence that says what would be; what only a node can
judge (a count above the bucket's own n) is left to it.
"""

from __future__ import annotations

import math
from typing import Final

from dyno.config import BUCKET_NAME_BYTES_MAX, COPIES_MAX, KEY_BYTES_MAX, RECORD_BYTES_MAX
from dyno.errors import InvalidRequest
from dyno.placement.hashing import bucket_id
from dyno.wire.messages import ALL, DEFAULT, QUORUM, STRICT

TIMEOUT_MAX_S = 86_400.0

_WORDS: Final = {"one": 1, "quorum": QUORUM, "all": ALL}


class BucketOptions:
    """A bucket as a handle knows it: name, id (8 bytes), and the wire quorums and the timeout (None: the
    client's) that its calls default to. Without `sloppy` all that answer must be primaries."""

    __slots__ = ("id", "name", "pr", "pw", "r", "timeout", "w")

    def __init__(
        self,
        name: str,
        *,
        r: int | str | None = None,
        w: int | str | None = None,
        pr: int | str | None = None,
        pw: int | str | None = None,
        timeout: float | None = None,
        sloppy: bool = True,
    ) -> None:
        self.name = bucket_name(name)
        self.id = bucket_id(name)
        self.r = quorum(r, "r", DEFAULT)
        self.w = quorum(w, "w", DEFAULT)
        self.pr = primaries(pr, "pr", DEFAULT, sloppy)
        self.pw = primaries(pw, "pw", DEFAULT, sloppy)
        self.timeout = None if timeout is None else timeout_s(timeout)

    def seconds(self, timeout: float | None, otherwise: float) -> float:
        """What a call may take. timeout: its own, as the caller gives it; otherwise: the client's."""
        return (self.timeout or otherwise) if timeout is None else timeout_s(timeout)


def bucket_name(name: str) -> str:
    if not isinstance(name, str):
        raise InvalidRequest(f"a bucket's name is a str, not {type(name).__name__}")
    size = len(_utf8(name, "a bucket's name"))
    if not 1 <= size <= BUCKET_NAME_BYTES_MAX:
        raise InvalidRequest(f"a bucket's name has 1 to {BUCKET_NAME_BYTES_MAX} bytes, not {size}")
    return str(name)


def key_bytes(key: str | bytes) -> bytes:
    """The bytes of a key; a str is its UTF-8."""
    data: bytes
    if isinstance(key, str):
        data = _utf8(key, "a key")
    elif isinstance(key, bytes):
        data = bytes(key)
    else:
        raise InvalidRequest(f"a key is str or bytes, not {type(key).__name__}")
    if not 0 < len(data) <= KEY_BYTES_MAX:
        raise InvalidRequest(f"a key has 1 to {KEY_BYTES_MAX} bytes, not {len(data)}")
    return data


def quorum(given: int | str | None, what: str, default: int) -> int:
    """A quorum as it travels. what: "r", "w", "pr" or "pw"; default: what None stands for."""
    if given is None:
        return default
    if isinstance(given, str) and given in _WORDS:
        return _WORDS[given]
    least = 0 if what.startswith("p") else 1
    if isinstance(given, bool) or not isinstance(given, int):
        raise InvalidRequest(
            f"{what}={given!r} is not a quorum; give a number of nodes, 'one', 'quorum' or 'all'"
        )
    if not least <= given <= COPIES_MAX:
        raise InvalidRequest(f"{what}={given} is not possible; it is a number from {least} to {COPIES_MAX}")
    return int(given)


def primaries(given: int | str | None, what: str, default: int, sloppy: bool | None) -> int:
    """PR or PW as it travels. what: "pr" or "pw"; default: the handle's. sloppy: the call's own, which beats
    the handle's; None where it says nothing of that."""
    if sloppy is None:
        return default if given is None else quorum(given, what, 0)
    if not isinstance(sloppy, bool):
        raise InvalidRequest(f"sloppy is True or False, not {sloppy!r}")
    if sloppy:
        return (DEFAULT if default == STRICT else default) if given is None else quorum(given, what, 0)
    if given is not None:
        quorum(given, what, 0)
    return STRICT


def timeout_s(given: float) -> float:
    """Seconds a caller will wait."""
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise InvalidRequest(f"a timeout is a number of seconds, not {type(given).__name__}")
    if not math.isfinite(given) or not 0 < given <= TIMEOUT_MAX_S:
        raise InvalidRequest(f"a timeout is above 0 and at most {TIMEOUT_MAX_S:.0f} seconds, not {given}")
    return float(given)


def budget_ms(seconds: float) -> int:
    """A timeout as it travels: whole milliseconds, and never none at all."""
    return int(seconds * 1000) if seconds >= 0.001 else 1


def context_token(given: object, what: str) -> bytes:
    """A context as it travels; whether it belongs to this key, the node judges."""
    if not isinstance(given, bytes):
        hint = "; dyno.causality.token.from_text makes one of text" if isinstance(given, str) else ""
        raise InvalidRequest(
            f"{what} is the bytes of a Record's or PutResult's .context, not {type(given).__name__}{hint}"
        )
    if len(given) > RECORD_BYTES_MAX:
        raise InvalidRequest(f"{what} of {len(given)} bytes is longer than any that was ever given out")
    return given


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{what} cannot be written as UTF-8: {error.reason}") from error
