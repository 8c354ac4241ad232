"""User values to bytes and back. Nodes never look inside; only clients come here.

A value is bytes, str, int of any size, float, bool, None, a finite Decimal, Fraction, UUID, date or aware
datetime, or a list, dict or set of such; dict keys and set members are no containers. It comes back equal
and of the same type. bytearray and memoryview come back as bytes, tuple as list, frozenset as set, an
instance of a subclass as its base. `encode` refuses all else with `InvalidRequest`, before it becomes large.

The bytes are CBOR (RFC 8949) in definite lengths, with the tags below; sets are in an order of their own, so
that the bytes do not depend on hash seeds. `decode` makes only what `encode` takes, whatever it is given: no
other tags, no shared references. All else is `Malformed`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import NoneType
from typing import IO, Any, Final, NoReturn, TypeAlias, cast
from uuid import UUID

from cbor2 import CBORDecoder, CBOREncoder, CBORError, dumps

from dyno.errors import InvalidRequest
from dyno.wire.flat import READ_BYTES, Stream

NESTING_MAX: Final = 100
VALUE_BYTES_MAX: Final = 1 << 20

_TAG_DATETIME = 0  # ISO 8601 text with an offset
# 2 and 3, ints of over 64 bits, are cbor2's own
_TAG_FRACTION = 30  # [numerator, denominator]
_TAG_UUID = 37  # 16 bytes
_TAG_SET = 258  # array
_TAG_DATE = 1004  # ISO 8601 text
# Decimal as text. The registered tag 4 knows no negative zero, and its integers would cost quadratic time.
_TAG_DECIMAL = int.from_bytes(b"dyno", "big")

_SCALARS = frozenset((bytes, str, int, float, bool, NoneType, Decimal, Fraction, UUID, date, datetime))
_SCALAR_NAMES = "bytes, str, int, float, bool, None, Decimal, Fraction, UUID, date or datetime"


class Malformed(ValueError):
    """The bytes are not an encoded value."""


def encode(value: object, *, bytes_max: int = VALUE_BYTES_MAX) -> bytes:
    """The bytes of a value; their `content_size` is at most bytes_max. InvalidRequest, saying where in the
    value, for what cannot be stored."""
    if type(value) in _QUICK:
        try:
            data = dumps(value)
        except UnicodeEncodeError:
            raise InvalidRequest(f"value: {_SURROGATE}") from None
    else:
        data = _Walk(bytes_max).encode(value)
    if len(data) > bytes_max and content_size(data) > bytes_max:
        raise InvalidRequest(f"value: it takes {content_size(data)} bytes, more than {bytes_max}")
    return data


def content_size(data: bytes) -> int:
    """How many bytes count against the limit on values: the contents of encoded bytes or str, so that 1 MiB
    of them fits into 1 MiB, and all of any other encoding. Looks at the header alone; any bytes will do."""
    if data and data[0] >> 5 in (2, 3) and data[0] & 31 < 28:
        return max(0, len(data) - _header_size(data))
    return len(data)


_QUICK = frozenset((bytes, str, int, float, bool, NoneType))  # what `dumps` takes as it is
_FIXED = frozenset((float, bool, NoneType))  # and of at most 9 bytes
_SURROGATE = "the str holds half of a surrogate pair, which UTF-8 cannot say"
_STEPS_SHOWN = 8


class _Refused(Exception):
    """A part of a value that cannot be stored and the steps to it: ints, or str in dicts; innermost first."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.steps: list[str | int] = []


class _Walk:
    """Copies one value into exact types, so that `dumps` meets nothing that it would take otherwise.

    It counts the bytes as it goes, rather too few than too many: a value may hold one part many times, and
    so be far larger in bytes than in memory, or without end.
    """

    __slots__ = ("_bytes_max", "_room", "_special")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._room = bytes_max
        self._special = False  # whether it met what _ENCODERS are for; looking them up takes time

    def encode(self, value: object) -> bytes:
        try:
            plain = self.plain(value, 0)
        except _Refused as refused:
            steps = refused.steps[::-1]
            where = "".join(f"[{step}]" for step in steps[:_STEPS_SHOWN]) + "…" * (len(steps) > _STEPS_SHOWN)
            raise InvalidRequest(f"value{where}: {refused}") from None
        return dumps(plain, encoders=_ENCODERS) if self._special else dumps(plain)

    def plain(self, value: object, depth: int) -> object:
        """depth: how many containers are around the value."""
        base = _base(type(value))
        if base is None:
            raise _Refused(
                f"{type(value).__name__} cannot be stored; a value is {_SCALAR_NAMES}, a list, dict or set"
            )
        return _PLAIN[base](self, value, depth)

    def items(self, items: Iterable[object], depth: int) -> list[object]:
        """Each of `items` in plain. The common ones are seen to right here."""
        plain: list[object] = []
        spent = 0
        try:
            for item in items:
                if type(item) is str and item.isascii():
                    spent += len(item)
                elif type(item) is int:
                    spent += item.bit_length() >> 3
                elif type(item) not in _FIXED:
                    item = self.plain(item, depth)  # noqa: PLW2901
                plain.append(item)
        except _Refused as refused:
            refused.steps.append(len(plain))
            raise
        self._spend(spent + len(plain))
        return plain

    def list_(self, value: Iterable[object], depth: int) -> list[object]:
        _check_depth(depth)
        return self.items(value, depth + 1)

    def dict_(self, value: dict[object, object], depth: int) -> dict[object, object]:
        _check_depth(depth)
        if type(value) is not dict:
            value = dict(value.items())
        given = list(value)
        keys = self._scalars(given, "dict keys")
        try:
            items = self.items(value.values(), depth + 1)
        except _Refused as refused:
            refused.steps[-1] = _shown(given[cast("int", refused.steps[-1])])
            raise
        entries = dict(zip(keys, items, strict=True))
        if len(entries) != len(given):
            raise _Refused("two of the dict's keys are the same once they are taken as their base types")
        return entries

    def set_(self, value: Iterable[object], depth: int) -> set[object]:
        _check_depth(depth)
        self._special = True
        given = list(value)
        members = set(self._scalars(given, "set members"))
        if len(members) != len(given):
            raise _Refused("two of the set's members are the same once they are taken as their base types")
        return members

    def _scalars(self, given: list[object], what: str) -> list[object]:
        if not _SCALARS.issuperset(map(type, given)):
            for item in given:
                if _base(type(item)) not in _SCALAR_BASES:
                    raise _Refused(f"{what} must be {_SCALAR_NAMES}, not {type(item).__name__}")
        try:
            return self.items(given, 0)
        except _Refused as refused:
            refused.steps.clear()  # the place is the container
            raise

    def str_(self, value: str, _depth: int) -> str:
        text = str.__str__(value)
        try:
            self._spend(len(text.encode()))
        except UnicodeEncodeError:
            raise _Refused(_SURROGATE) from None
        return text

    def bytes_(self, value: bytes | bytearray | memoryview, _depth: int) -> bytes:
        if type(value) is bytes:
            self._spend(len(value))
            return value
        with memoryview(value) as view:
            self._spend(view.nbytes)
            return view.tobytes()

    def int_(self, value: int, _depth: int) -> int:
        number = int.__int__(value)
        self._spend(number.bit_length() >> 3)
        return number

    def float_(self, value: float, _depth: int) -> float:
        return float.__float__(value)

    def decimal(self, value: Decimal, _depth: int) -> Decimal:
        if not value.is_finite():
            raise _Refused(f"the Decimal is not finite, but {Decimal.__str__(value):.16}")
        self._special = True
        self._spend(len(Decimal.__str__(value)))
        return Decimal(value)

    def fraction(self, value: Fraction, depth: int) -> Fraction:
        parts = self.int_(value.numerator, depth), self.int_(value.denominator, depth)
        return value if type(value) is Fraction else Fraction(*parts)

    def uuid(self, value: UUID, _depth: int) -> UUID:
        self._spend(16)
        return value if type(value) is UUID else UUID(bytes=value.bytes)

    def datetime_(self, value: datetime, _depth: int) -> datetime:
        if value.utcoffset() is None:
            raise _Refused("the datetime has no time zone; only one with an offset from UTC can be stored")
        self._special = True
        return value if type(value) is datetime else _datetime_of(datetime.isoformat(value), True)

    def date_(self, value: date, _depth: int) -> date:
        return value if type(value) is date else date(value.year, value.month, value.day)

    def _spend(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise InvalidRequest(f"value: it takes more than {self._bytes_max} bytes")


def _base(kind: type) -> type | None:
    """The storable type that `kind` is or derives from."""
    if kind in _PLAIN:
        return kind
    return next((base for base in kind.__mro__ if base in _PLAIN), None)


def _check_depth(depth: int) -> None:
    if depth >= NESTING_MAX:
        raise _Refused(f"it is nested deeper than {NESTING_MAX}, or contains itself")


def _shown(key: object) -> str:
    """A key in an error message: short, and without the code of any subclass."""
    if isinstance(key, str):
        return repr(str.__str__(key)[:40])
    if type(key) is int and key.bit_length() <= 64:
        return str(key)
    return f"<{type(key).__name__}>"


# What a value of each type, or of a type derived from it, becomes.
_PLAIN: Final[dict[type, Callable[[_Walk, Any, int], object]]] = {
    str: _Walk.str_,
    bytes: _Walk.bytes_,
    bytearray: _Walk.bytes_,
    memoryview: _Walk.bytes_,
    bool: lambda _walk, value, _depth: value,
    int: _Walk.int_,
    float: _Walk.float_,
    NoneType: lambda _walk, value, _depth: value,
    Decimal: _Walk.decimal,
    Fraction: _Walk.fraction,
    UUID: _Walk.uuid,
    datetime: _Walk.datetime_,
    date: _Walk.date_,
    list: _Walk.list_,
    tuple: _Walk.list_,
    dict: _Walk.dict_,
    set: _Walk.set_,
    frozenset: _Walk.set_,
}

_SCALAR_BASES = _SCALARS | {memoryview}  # which has a hash too, and becomes bytes


def _encode_set(encoder: CBOREncoder, members: set[object]) -> None:
    encoder.encode_semantic(_TAG_SET, sorted(members, key=lambda member: dumps(member, encoders=_ENCODERS)))


# Where `dumps` itself would do otherwise.
_ENCODERS: Final[dict[type, Callable[[CBOREncoder, Any], None]]] = {
    Decimal: lambda encoder, value: encoder.encode_semantic(_TAG_DECIMAL, str(value)),
    datetime: lambda encoder, value: encoder.encode_semantic(_TAG_DATETIME, value.isoformat()),
    set: _encode_set,
}


def decode(data: bytes) -> Any:
    """The value that was encoded. Malformed for bytes that are no encoding of one."""
    major = data[0] >> 5 if data else 7
    if major in (2, 3) and data[0] & 31 < 27:  # bytes, str: the commonest, and quickly done
        begin = _header_size(data)
        size = int.from_bytes(data[1:begin], "big") if begin > 1 else data[0] & 31
        if len(data) != begin + size:
            raise Malformed("the value is not as long as it says")
        return data[begin:] if major == 2 else _text(data[begin:])
    stream = Stream(data)
    try:
        value = CBORDecoder(
            cast("IO[bytes]", stream),
            allow_duplicate_keys=False,
            allow_indefinite=False,
            max_depth=_CBOR_NESTING_MAX,
            read_size=READ_BYTES,
            semantic_decoders=_DECODERS,
            tag_hook=_refuse,
        ).decode()
    except (CBORError, ValueError, TypeError) as error:
        raise Malformed(f"not a value: {error.__cause__ or error}") from None
    if stream.overrun or stream.rest:
        raise Malformed("there are bytes behind the end of the value")
    if type(value) not in _SCALARS:
        _check(value, 0)
    return value


def _header_size(data: bytes) -> int:
    """Of bytes or str: one byte, and up to eight for a longer length."""
    length = data[0] & 31
    return 1 if length < 24 else 1 + (1 << length - 24)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(f"the str is no UTF-8: {error.reason}") from None


def _check(value: object, depth: int) -> None:
    """Refuse what is no value, anywhere in what was decoded. Sets were checked on the way."""
    if type(value) is set:
        return
    items: Iterable[object]
    if type(value) is list:
        items = value
    elif type(value) is dict:
        if not _SCALARS.issuperset(map(type, value)):
            raise Malformed("dict keys that are no scalars")
        items = value.values()
    else:
        raise Malformed(f"{type(value).__name__} is no value")
    if depth == NESTING_MAX:
        raise Malformed(f"nested deeper than {NESTING_MAX}")
    if not _SCALARS.issuperset(map(type, items)):
        for item in items:
            if type(item) not in _SCALARS:
                _check(item, depth + 1)


# A set around a fraction of a large int: three tags and two arrays, of which the set's counts above.
_CBOR_NESTING_MAX = NESTING_MAX + 4


def _set_of(members: object, _immutable: bool) -> set[object]:
    if type(members) is not list or not _SCALARS.issuperset(map(type, members)):
        raise Malformed("a set that is no array of scalars")
    distinct = set(members)
    if len(distinct) != len(members):
        raise Malformed("a set with one member twice")
    return distinct


def _fraction_of(parts: object, _immutable: bool) -> Fraction:
    if type(parts) not in (list, tuple) or tuple(map(type, cast("list[object]", parts))) != (int, int):
        raise Malformed("a fraction that is no pair of ints")
    numerator, denominator = cast("list[int]", parts)
    if denominator <= 0:
        raise Malformed("a fraction with a denominator that is not positive")
    return Fraction(numerator, denominator)


def _uuid_of(data: object, _immutable: bool) -> UUID:
    if type(data) is not bytes or len(data) != 16:
        raise Malformed("a UUID that is no 16 bytes")
    return UUID(bytes=data)


def _decimal_of(text: object, _immutable: bool) -> Decimal:
    if type(text) is not str or not _DECIMAL.fullmatch(text):
        raise Malformed("a Decimal that is no number")
    try:
        return Decimal(text)
    except ArithmeticError:
        raise Malformed("a Decimal with an exponent out of range") from None


_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?([Ee][+-]?[0-9]+)?")


def _datetime_of(text: object, _immutable: bool) -> datetime:
    parsed = _DATETIME.fullmatch(text) if type(text) is str else None
    if parsed is None:
        raise Malformed("a datetime that is no ISO 8601 text with an offset")
    # datetime.fromisoformat alone would take an offset of less than a second for none.
    local, sign, hours, minutes, seconds, micros = parsed.groups(default="0")
    offset = timedelta(hours=int(hours), minutes=int(minutes), seconds=int(seconds), microseconds=int(micros))
    return datetime.fromisoformat(local).replace(tzinfo=timezone(-offset if sign == "-" else offset))


# As datetime.isoformat writes it, down to the microseconds of both time and offset.
_DATETIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{6})?)"
    r"([+-])([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{6}))?)?"
)


def _date_of(text: object, _immutable: bool) -> date:
    if type(text) is not str:
        raise Malformed("a date that is no text")
    return date.fromisoformat(text)


def _refuse(_content: object, _immutable: bool) -> NoReturn:
    raise Malformed("a tag that no value has")


_Decoder: TypeAlias = Callable[[Any, bool], object]

# cbor2 decodes these by itself unless it is told otherwise: times and dates as numbers, decimal fraction and
# bigfloat, string and shared references, regular expression, MIME, IP addresses in four forms, complex, and
# the mark of self-described CBOR. Tags that it does not know go to `tag_hook`.
_REFUSED_TAGS = (1, 4, 5, 25, 28, 29, 35, 36, 52, 54, 100, 256, 260, 261, 43000, 55799)

_DECODERS: Final[dict[int, _Decoder]] = {
    **dict.fromkeys(_REFUSED_TAGS, cast("_Decoder", _refuse)),
    _TAG_DATETIME: _datetime_of,
    _TAG_FRACTION: _fraction_of,
    _TAG_UUID: _uuid_of,
    _TAG_SET: _set_of,
    _TAG_DATE: _date_of,
    _TAG_DECIMAL: _decimal_of,
}
