"""What users store comes back as it was, and what cannot is refused before it is sent."""

import subprocess
import sys
from collections import Counter, OrderedDict, UserDict, defaultdict, deque, namedtuple
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Context, Decimal, localcontext
from enum import Enum, IntEnum, StrEnum
from fractions import Fraction
from ipaddress import ip_address
from struct import pack
from uuid import UUID

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.errors import InvalidRequest
from dyno.wire.values import NESTING_MAX, Malformed, content_size, decode, encode

OFFSETS = st.builds(
    timezone, st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(allow_nan=False),
    st.binary(max_size=300),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.datetimes(timezones=OFFSETS),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(SCALARS, inner, max_size=5),
        st.sets(SCALARS, max_size=5),
    ),
    max_leaves=20,
)


def exactly(value):
    """The value with its types and the details that == overlooks, in an order of its own."""
    if type(value) is list:
        return [exactly(item) for item in value]
    if type(value) is dict:
        return ["dict", *([exactly(key), exactly(item)] for key, item in value.items())]
    if type(value) is set:
        return ["set", *sorted(map(str, map(exactly, value)))]
    if type(value) is datetime:
        return [datetime, value.isoformat(), value.utcoffset()]
    return [type(value), repr(value)]


def back(value):
    return decode(encode(value))


# ── there and back ──


@given(VALUES)
@settings(deadline=None, max_examples=120)
def test_a_value_comes_back_as_it_was(value):
    again = back(value)
    assert again == value
    assert exactly(again) == exactly(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"x" * 23,
        b"x" * 24,
        b"x" * 256,
        b"x" * 65_536,
        "",
        "é" * 1000,
        "\0",
        "\U0010ffff",
        True,
        False,
        0,
        1,
        -1,
        2**64,
        -(2**64) - 1,
        1.0,
        -0.0,
        float("inf"),
        5e-324,
        Decimal("1.10"),
        Decimal("-0"),
        Decimal("-0.00"),
        Decimal("0E+7"),
        Decimal("1E-400"),
        Decimal("9" * 5000),
        Fraction(-1, 3),
        Fraction(10**30, 7),
        Fraction(4),
        UUID(int=0),
        date.min,
        date.max,
        datetime.min.replace(tzinfo=UTC),
        datetime(2026, 2, 28, 23, 59, 59, 999_999, timezone(timedelta(hours=5, minutes=45))),
        datetime(1890, 1, 1, tzinfo=timezone(timedelta(minutes=53, seconds=28, microseconds=1))),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=1))),
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(microseconds=-1))),
        datetime(2026, 1, 1, tzinfo=timezone(-timedelta(hours=23, minutes=59, seconds=59))),
        [],
        {},
        set(),
        [[], {}, set()],
        {"$type": "set", "value": [1]},
        {1: "int", "1": "str", b"1": "bytes", None: "none", 1.5: "float", date(2026, 1, 1): "date"},
        {Decimal("1.5"): 1, Fraction(1, 3): 2, UUID(int=1): 3, datetime(2026, 1, 1, tzinfo=UTC): 4, 2**70: 5},
        {
            Decimal("1.5"),
            Fraction(1, 3),
            UUID(int=1),
            datetime(2026, 1, 1, tzinfo=UTC),
            2**70,
            None,
            "a",
            b"a",
        },
        [True, 1, 1.0, False, 0, 0.0],
    ],
)
def test_the_odd_ones_come_back_as_they_were(value):
    assert exactly(back(value)) == exactly(value)
    assert exactly(back([value])) == exactly([value])


def test_ints_of_any_size_come_back():
    for number in (1 << 100_000, -(1 << 100_000)):
        assert back(number) == number
        assert back({"n": [number]}) == {"n": [number]}


def test_not_a_number_comes_back():
    assert repr(back([float("nan"), {float("nan"): 1}])) == "[nan, {nan: 1}]"


class Colour(IntEnum):
    RED = 1


class Word(StrEnum):
    YES = "yes"


class Loud(str):
    def __str__(self):
        return "LOUD"


class Blob(bytes):
    pass


class Ratio(float):
    pass


class Money(Decimal):
    def __str__(self):
        return "money"


class Part(Fraction):
    pass


class Serial(UUID):
    pass


class Day(date):
    pass


class Moment(datetime):
    pass


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "base"),
    [
        (bytearray(b"x"), b"x"),
        (memoryview(b"xyz")[::2], b"xz"),
        ((1, (2,)), [1, [2]]),
        (Point(1, 2), [1, 2]),
        (frozenset([1]), {1}),
        (Colour.RED, 1),
        (Word.YES, "yes"),
        (Loud("quiet"), "quiet"),
        (Blob(b"x"), b"x"),
        (Ratio(1.5), 1.5),
        (Money("1.10"), Decimal("1.10")),
        (Part(1, 3), Fraction(1, 3)),
        (Serial(int=5), UUID(int=5)),
        (Day(2026, 1, 2), date(2026, 1, 2)),
        (Moment(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        (Counter("aab"), {"a": 2, "b": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        ({Loud("quiet"): Colour.RED, Colour.RED: 1, memoryview(b"m"): 2}, {"quiet": 1, 1: 1, b"m": 2}),
        ({Loud("quiet"), Colour.RED, memoryview(b"m")}, {"quiet", 1, b"m"}),
    ],
)
def test_a_subclass_comes_back_as_its_base(value, base):
    assert exactly(back(value)) == exactly(base)
    assert exactly(back({"in": [value]})) == exactly({"in": [base]})


def test_a_dict_keeps_its_order():
    ordered = OrderedDict.fromkeys("abc", 1)
    ordered.move_to_end("a")
    assert list(back({"z": 1, "a": 2, "m": 3})) == ["z", "a", "m"]
    assert list(back(ordered)) == ["b", "c", "a"]


def test_a_part_that_is_held_twice_comes_back_twice():
    part = [1]
    first, second = back([part, part])
    assert first == second == [1]
    assert first is not second


def test_a_set_has_the_same_bytes_under_every_hash_seed():
    program = (
        "from dyno.wire.values import encode; print(encode({str(i) for i in range(50)} | {1.5, None}).hex())"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]


def test_the_decimal_context_of_the_caller_does_not_matter():
    with localcontext(Context(prec=3, capitals=0, traps=[])):
        assert exactly(back(Decimal("1.23456E+99"))) == [Decimal, repr(Decimal("1.23456E+99"))]


# ── what cannot be stored ──


class Opaque:
    pass


class Plain(Enum):
    A = "a"


CYCLE: list = []
CYCLE.append(CYCLE)

REFUSED = [
    (Opaque(), "value: Opaque cannot be stored; a value is bytes, str, int, .*, a list, dict or set"),
    (Opaque, "value: type cannot be stored"),
    (1j, "value: complex cannot be stored"),
    (range(3), "value: range cannot be stored"),
    (deque(), "value: deque cannot be stored"),
    (UserDict(), "value: UserDict cannot be stored"),
    (time(12), "value: time cannot be stored"),
    (timedelta(1), "value: timedelta cannot be stored"),
    (ip_address("::1"), "value: IPv6Address cannot be stored"),
    (Plain.A, "value: Plain cannot be stored"),
    (iter([]), "value: list_iterator cannot be stored"),
    (cbor2.CBORTag(5, 1), "value: CBORTag cannot be stored"),
    (cbor2.undefined, "value: .* cannot be stored"),
    (datetime(2026, 1, 1), "value: the datetime has no time zone"),  # noqa: DTZ001
    (Decimal("NaN"), "value: the Decimal is not finite, but NaN"),
    (Decimal("sNaN"), "value: the Decimal is not finite, but sNaN"),
    (Decimal("-Infinity"), "value: the Decimal is not finite, but -Infinity"),
    ("\ud800", "value: the str holds half of a surrogate pair"),
    (["ok", "\udfff"], r"value\[1\]: the str holds half of a surrogate pair"),
    ({"\ud800": 1}, "value: the str holds half of a surrogate pair"),
    ({"items": [0, 1, 2, {(1, 2)}]}, r"value\['items'\]\[3\]: set members must be bytes, .*, not tuple"),
    ({"a": {frozenset(): 1}}, r"value\['a'\]: dict keys must be bytes, .*, not frozenset"),
    ({Opaque(): 1}, "value: dict keys must be bytes, .*, not Opaque"),
    ({Decimal("inf")}, "value: the Decimal is not finite"),
    ({1: [Opaque()]}, r"value\[1\]\[0\]: Opaque cannot"),
    ({b"k": [Opaque()]}, r"value\[<bytes>\]\[0\]: Opaque cannot"),
    ({1 << 70: Opaque()}, r"value\[<int>\]: Opaque cannot"),
    ({Loud("quiet"): Opaque()}, r"value\['quiet'\]: Opaque cannot"),
    ({"k" * 1000: Opaque()}, r"value\['k{40}'\]: Opaque cannot"),
    (CYCLE, r"value(\[0\]){8}…: it is nested deeper than 100, or contains itself"),
]


@pytest.mark.parametrize(("value", "complaint"), REFUSED)
def test_what_cannot_be_stored_is_refused_with_its_place(value, complaint):
    with pytest.raises(InvalidRequest, match=f"^{complaint}"):
        encode(value)


class Unlike(str):
    """A str that equals no other."""

    __slots__ = ()

    def __eq__(self, other):
        return self is other

    def __hash__(self):
        return id(self)


@pytest.mark.parametrize("value", [{Unlike("a"): 1, Unlike("a"): 2}, {Unlike("a"), Unlike("a")}])
def test_entries_are_never_lost_silently(value):
    with pytest.raises(InvalidRequest, match="are the same once they are taken as their base types"):
        encode(value)


def nested(levels, inmost):
    value = inmost
    for level in range(levels):
        value = [value] if level % 2 else {"k": value}
    return value


@pytest.mark.parametrize(
    "inmost", [[], {}, set(), {Fraction(2**70, 3)}, [Fraction(2**70, 3)], {2**70: 2**70}]
)
def test_nesting_has_an_end(inmost):
    deepest = nested(NESTING_MAX - 1, inmost)
    assert back(deepest) == deepest
    with pytest.raises(InvalidRequest, match="nested deeper than 100"):
        encode([deepest])


def test_a_value_of_exactly_the_limit_is_stored():
    for value in (
        b"x" * 1000,
        "x" * 1000,
        "é" * 500,
        bytearray(1000),
        memoryview(bytes(1000)),
        Loud("x" * 1000),
    ):
        assert content_size(encode(value, bytes_max=1000)) == 1000
    for size in (1, 23, 24, 255, 256, 65_535, 65_536, 1 << 20):
        assert back(b"x" * size) == b"x" * size
        encode(b"x" * size, bytes_max=size)
        with pytest.raises(InvalidRequest, match=f"it takes {size + 1} bytes, more than {size}"):
            encode(b"x" * (size + 1), bytes_max=size)
    whole = encode([1, 2, 3])
    assert encode([1, 2, 3], bytes_max=len(whole)) == whole
    with pytest.raises(InvalidRequest, match="it takes 4 bytes, more than 3"):
        encode([1, 2, 3], bytes_max=3)


@pytest.mark.parametrize("data", [b"", b"\x40", b"\x5a", b"\x5f\xff", b"\x7f" * 200, b"\xff" * 9])
def test_the_size_of_a_strangers_bytes_is_never_far_off(data):
    assert max(0, len(data) - 9) <= content_size(data) <= len(data)


@pytest.mark.parametrize(
    "value",
    [
        b"x" * 1001,
        "x" * 1001,
        "é" * 501,
        bytearray(1001),
        memoryview(bytes(1001)),
        [b"x" * 1000],
        ["x" * 1000],
        {"x" * 1000: 1},
        {"x" * 1000},
        ["é" * 500],
        2 ** (8 * 1001),
        [2 ** (8 * 1001)],
        [Colour.RED] * 1001,
        [Fraction(2 ** (8 * 1001), 3)],
        Decimal("1" * 1001),
        [UUID(int=5)] * 62,
        [None] * 1001,
        [date(2026, 1, 1)] * 200,
        [1.5] * 200,
    ],
)
def test_a_value_over_the_limit_is_refused(value):
    with pytest.raises(InvalidRequest, match="more than 1000"):
        encode(value, bytes_max=1000)


def test_a_value_that_grows_without_bound_is_refused_at_once():
    """It holds one part many times: small in memory, 2**90 bytes written out."""
    value = ["part"]
    for _ in range(90):
        value = [value, value]
    with pytest.raises(InvalidRequest, match="more than"):
        encode(value, bytes_max=1 << 12)
    with pytest.raises(InvalidRequest, match="more than"):
        encode([bytes(1 << 20)] * 1_000_000)
    with pytest.raises(InvalidRequest, match="more than"):
        encode([bytearray(1 << 20)] * 1_000_000)


# ── what strangers stored ──


def malformed(data):
    with pytest.raises(Malformed) as caught:
        decode(data)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x41",
        b"\x41ab",
        b"\x58",
        b"\x58\x05ab",
        b"\x5a\xff\xff\xff\xff",
        b"\x5b" + b"\xff" * 8,
        b"\x5b\0\0\0\0\0\0\0\x01ab",
        b"\x5f\x41a\xff",
        b"\x61\xff",
        b"\x63\xed\xa0\x80",
        b"\x7a\xff\xff\xff\xff",
        b"\x7f\x61a\xff",
        b"\x01\x01",
        b"\x81\x01\x01",
        b"\x81",
        b"\x9f\x01\xff",
        b"\x9a\xff\xff\xff\xff",
        b"\x9b" + b"\xff" * 8,
        b"\xbf\xff",
        b"\xa2\x01\x01\x01\x02",
        b"\xa2\x01\x01\xf5\x02",
        b"\xa1\x80\x01",
        b"\xa1\xa0\x01",
        b"\xa1\xd9\x01\x02\x80\x01",
        b"\xa1\xf7\x01",
        b"\xf7",
        b"\x81\xf7",
        b"\xe0",
        b"\x81\xf8\x20",
        b"\xff",
        b"\x81" * 100_000,
        b"\xc2" * 100_000,
        b"\xd8\x1c\x81\xd8\x1d\0",
        cbor2.dumps(nested(NESTING_MAX, [])),
    ],
)
def test_bytes_that_are_no_value_are_told_apart(data):
    malformed(data)


T = cbor2.CBORTag
DECIMAL = int.from_bytes(b"dyno", "big")


@pytest.mark.parametrize(
    ("tagged", "complaint"),
    [
        (T(0, 1), "a datetime that is no ISO 8601 text"),
        (T(0, "tomorrow"), "a datetime that is no ISO 8601 text with an offset"),
        (T(0, "2026-01-01"), "a datetime that is no ISO 8601 text"),
        (T(0, "2026-01-01T00:00:00"), "a datetime that is no ISO 8601 text"),
        (T(0, "2026-02-30T00:00:00+00:00"), "not a value"),
        (T(0, "2026-01-01T00:00:00+24:00"), "not a value"),
        (T(0, "2026-01-01T00:00:00Z\n"), "a datetime that is no ISO 8601 text"),
        (T(2, 1), "not a value"),
        (T(30, 1), "a fraction that is no pair"),
        (T(30, [1]), "a fraction that is no pair"),
        (T(30, [1, 1.5]), "a fraction that is no pair"),
        (T(30, ["1", 2]), "a fraction that is no pair"),
        (T(30, [True, 2]), "a fraction that is no pair"),
        (T(30, [1, 0]), "a denominator that is not positive"),
        (T(30, [1, -2]), "a denominator that is not positive"),
        (T(37, b"short"), "a UUID that is no 16 bytes"),
        (T(37, "x" * 16), "a UUID that is no 16 bytes"),
        (T(258, 1), "a set that is no array of scalars"),
        (T(258, [[1]]), "a set that is no array of scalars"),
        (T(258, [1, 1]), "a set with one member twice"),
        (T(258, [1, True]), "a set with one member twice"),
        (T(1004, 1), "a date that is no text"),
        (T(1004, "2026-02-30"), "not a value"),
        (T(DECIMAL, 1), "a Decimal that is no number"),
        (T(DECIMAL, "NaN"), "a Decimal that is no number"),
        (T(DECIMAL, "Infinity"), "a Decimal that is no number"),
        (T(DECIMAL, " 1"), "a Decimal that is no number"),
        (T(DECIMAL, "1_0"), "a Decimal that is no number"),
        (T(DECIMAL, "١"), "a Decimal that is no number"),
        (T(DECIMAL, "1E+99999999999999999999"), "an exponent out of range"),
    ],
)
def test_a_tag_around_the_wrong_thing_is_refused(tagged, complaint):
    assert complaint in malformed(cbor2.dumps(tagged))
    assert complaint in malformed(cbor2.dumps(["in", tagged]))


OURS = (0, 2, 3, 30, 37, 258, 1004, DECIMAL)


@pytest.mark.parametrize("tag", [tag for tag in (*range(270), 43000, 55799, 2**64 - 1) if tag not in OURS])
def test_no_other_tag_is_taken(tag):
    """Patterns, MIME, IP addresses, references, times as numbers, and all that cbor2 may learn yet."""
    contents = (b"\0", b"\x61a", b"\x44\x01\x02\x03\x04", b"\x80", b"\x82\0\x01", b"\xa0", b"\x6a2026-01-01")
    for content in contents:
        tagged = b"\xdb" + pack(">Q", tag) + content
        for data in (tagged, b"\x81" + tagged, b"\xa1\x01" + tagged, b"\xa1" + tagged + b"\x01"):
            malformed(data)


@given(VALUES, st.data())
@settings(deadline=None, max_examples=120)
def test_mutations_give_values_that_could_be_stored_or_malformed(value, data):
    mutated = bytearray(encode(value))
    for _ in range(data.draw(st.integers(1, 3))):
        mutated[data.draw(st.integers(0, len(mutated) - 1))] = data.draw(st.integers(0, 255))
    del mutated[data.draw(st.integers(0, len(mutated))) or len(mutated) :]
    try:
        again = decode(bytes(mutated))
    except Malformed:
        return
    assert repr(back(again)) == repr(again) or type(again) in (dict, list, set)


@given(st.binary(max_size=60))
@settings(deadline=None, max_examples=120)
def test_random_bytes_give_values_that_could_be_stored_or_malformed(data):
    with suppress(Malformed):
        encode(decode(data))
