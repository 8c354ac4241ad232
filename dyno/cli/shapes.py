"""Values as `dyno get` prints them: the text form, and the JSON shapes that programs read.

In: any value that the store can hold. Out: something that `json` can write. JSON's own types stay as they
are; bytes become {"base64": …}, Decimal, Fraction, UUID, dates and times their text, sets sorted lists, and a
number that JSON lacks the text NaN, Infinity or -Infinity. A dict whose keys are not all texts becomes
{"pairs": [[key, value], …]}, because making texts of them could let two keys fall together.
"""

from __future__ import annotations

import base64
import datetime
import json
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID


def shape(value: Any) -> Any:
    """The JSON shape of a stored value."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else _unlimited(value)
        case bytes():
            return {"base64": base64.b64encode(value).decode("ascii")}
        case datetime.date():  # and its subclass datetime
            return value.isoformat()
        case Decimal() | Fraction() | UUID():
            return str(value)
        case list() | tuple():
            return [shape(item) for item in value]
        case set() | frozenset():
            return sorted((shape(item) for item in value), key=text_of)
        case dict():
            if all(isinstance(key, str) for key in value):
                return {key: shape(item) for key, item in value.items()}
            return {"pairs": [[shape(key), shape(item)] for key, item in value.items()]}
    raise TypeError(f"{type(value).__name__} has no JSON shape")


def text_of(shaped: Any) -> str:
    """A JSON shape as text on one line."""
    return json.dumps(shaped, ensure_ascii=False, allow_nan=False)


def alone(value: Any) -> bytes:
    """What `dyno get` writes for an only value: bytes raw, a str or JSON with a newline."""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else text_of(shape(value))
    return text.encode() + b"\n"


def among_siblings(value: Any) -> str:
    """A sibling on a line of its own: a str as it is if it is one line, all else as JSON."""
    if isinstance(value, str) and "\n" not in value and "\r" not in value:
        return value
    return text_of(shape(value))


def _unlimited(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
