"""Rows of fields to messages and back, checked by code that is written for each message class.

A registry is a set of message classes under their codes. In a flat list a message is its code and then its
fields; `append` writes that, `decode` reads a list full of them and refuses, with `ProtocolError`, all that
is not exactly a row of known messages: unknown codes, missing fields, a field of another type (True is no
int), an integer outside 0..2**64-1.

The types come from the annotations of the NamedTuples, which use int, bool, bytes, str and float alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_type_hints

from dyno.wire.flat import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_M = TypeVar("_M", bound=tuple[Any, ...])


class Registry(Generic[_M]):
    """A set of message classes under their codes, and their compiled encoders and decoders.

    encoders: class → (code, function that tells the most bytes a message can take, code included).
    """

    __slots__ = ("_classes", "_decoders", "encoders")

    def __init__(self, classes: Mapping[int, type[_M]]) -> None:
        self._classes = dict(classes)
        self._decoders: dict[object, tuple[Callable[[list[object], int], _M], int]] = {}
        self.encoders: dict[type[_M], tuple[int, Callable[[_M], int]]] = {}
        for code, cls in classes.items():
            decode, size = _compile(cls)
            self._decoders[code] = (decode, 1 + len(_field_types(cls)))
            self.encoders[cls] = (code, size)

    def append(self, message: _M, fields: list[object]) -> None:
        """Extend a flat list with a message's code and fields."""
        fields.append(self.encoders[type(message)][0])
        fields.extend(message)

    def decode(self, fields: list[object]) -> list[_M]:
        """Every message in a flat list, in order. ProtocolError unless all of it is messages."""
        decoders = self._decoders
        decoded: list[_M] = []
        at = 0
        end = len(fields)
        try:
            while at < end:
                decode, width = decoders[fields[at]]
                decoded.append(decode(fields, at))
                at += width
        except (KeyError, TypeError, ValueError):
            raise ProtocolError(self._complaint(fields, at)) from None
        return decoded

    def _complaint(self, fields: list[object], at: int) -> str:
        """What is wrong with the message that begins at fields[at]."""
        code = fields[at]
        cls = self._classes.get(code) if type(code) is int else None
        if cls is None:
            return f"unknown message code {code!r:.40}"
        values = fields[at + 1 :]
        for (name, wanted), value in zip(_field_types(cls).items(), values, strict=False):
            if type(value) is not wanted:
                return f"{cls.__name__}.{name} must be {wanted.__name__}, not {type(value).__name__}"
            if type(value) is int and not 0 <= value < 1 << 64:
                return f"{cls.__name__}.{name} must lie in 0..2**64-1"
        return f"{cls.__name__} is cut short"


def _field_types(cls: type[tuple[Any, ...]]) -> dict[str, type]:
    return get_type_hints(cls)


# The most bytes that a field can take, without the contents of bytes and str. No field counts less than 5,
# so what is estimated at 5 * flat.FIELDS_MAX bytes or less never holds more than FIELDS_MAX fields.
_BYTES_MAX = {int: 9, float: 9, bool: 5, bytes: 9, str: 9}

_TEMPLATE = """
def decode(_fields, _at):
    _code, {unpacked} = _fields[_at:_at + {width}]
    if {checks}:
        return new_tuple(cls, ({unpacked}))
    raise ValueError

def size(_message):
    return {fixed}{variable}
"""


def _compile(cls: type[_M]) -> tuple[Callable[[list[object], int], _M], Callable[[_M], int]]:
    """Functions that decode one message out of a flat list (ValueError if it is not there) and that tell how
    many bytes one can take. For Store:

        _code, id, ring, slot, key, record, = _fields[_at:_at + 6]
        if type(_code) is type(id) is … is int and type(slot) is … is bytes and not (id | ring) >> 64:
            return new_tuple(cls, (id, ring, slot, key, record,))

    Written out for each class, as typing.NamedTuple itself does, because it takes 0.4 µs a message where a
    general loop takes 0.8. The source is made of this package's field names alone.
    """
    types = _field_types(cls)
    checks = []
    for wanted in (int, bool, bytes, str, float):
        names = ["_code"] * (wanted is int) + [name for name, kind in types.items() if kind is wanted]
        if names:
            checks.append(" is ".join(f"type({name})" for name in names) + f" is {wanted.__name__}")
    integers = [name for name, kind in types.items() if kind is int]
    if integers:  # one shift finds both a negative one and one of more than 64 bits
        checks.append(f"not ({' | '.join(integers)}) >> 64")
    # A character takes up to four bytes.
    variable = [
        f" + len(_message[{index}])" + " * 4" * (kind is str)
        for index, kind in enumerate(types.values())
        if kind in (bytes, str)
    ]
    source = _TEMPLATE.format(
        unpacked="".join(f"{name}, " for name in types),
        width=1 + len(types),
        checks=" and ".join(checks),
        fixed=_BYTES_MAX[int] + sum(_BYTES_MAX[kind] for kind in types.values()),
        variable="".join(variable),
    )
    namespace: dict[str, Any] = {"cls": cls, "new_tuple": tuple.__new__}
    exec(source, namespace)  # noqa: S102
    return namespace["decode"], namespace["size"]
