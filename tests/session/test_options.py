"""What callers pass, checked before anything is sent."""

from __future__ import annotations

import math

import pytest

from dyno.config import RECORD_BYTES_MAX
from dyno.errors import InvalidRequest
from dyno.placement.hashing import bucket_id
from dyno.session import options
from dyno.session.options import BucketOptions
from dyno.wire.messages import ALL, DEFAULT, QUORUM, STRICT


def test_a_str_key_is_its_utf8_bytes():
    assert options.key_bytes("a") == options.key_bytes(b"a") == b"a"
    assert options.key_bytes("ü") == "ü".encode()


@pytest.mark.parametrize("key", ["x" * 1024, "ü" * 512, b"\x00", b"\xff" * 1024])
def test_keys_have_1_to_1024_bytes(key):
    assert 1 <= len(options.key_bytes(key)) <= 1024


@pytest.mark.parametrize("key", ["", b"", "x" * 1025, "ü" * 513, None, 7, bytearray(b"a"), ["a"], "\ud800"])
def test_what_can_be_no_key_is_refused(key):
    with pytest.raises(InvalidRequest, match="a key"):
        options.key_bytes(key)


def test_a_subclass_of_str_or_bytes_becomes_plain_bytes():
    class Name(str):
        pass

    class Raw(bytes):
        pass

    assert type(options.key_bytes(Name("a"))) is bytes
    assert type(options.key_bytes(Raw(b"a"))) is bytes


@pytest.mark.parametrize("name", ["carts", "x" * 64, "ü" * 32, "a/b c"])
def test_bucket_names_are_up_to_64_bytes_of_utf8(name):
    bucket = BucketOptions(name)
    assert (bucket.name, bucket.id) == (name, bucket_id(name))


@pytest.mark.parametrize("name", ["", "x" * 65, "ü" * 33, b"carts", None, "\udfff"])
def test_what_can_be_no_bucket_is_refused(name):
    with pytest.raises(InvalidRequest, match="a bucket's name"):
        BucketOptions(name)


def test_a_handle_that_says_nothing_leaves_quorums_to_the_bucket():
    bucket = BucketOptions("carts")
    assert (bucket.r, bucket.w, bucket.pr, bucket.pw) == (DEFAULT,) * 4


def test_quorums_are_counts_or_words():
    bucket = BucketOptions("carts", r=2, w="quorum", pr=0, pw="all")
    assert (bucket.r, bucket.w, bucket.pr, bucket.pw) == (2, QUORUM, 0, ALL)
    assert options.quorum("one", "r", DEFAULT) == 1
    assert options.quorum(None, "w", DEFAULT) == DEFAULT


@pytest.mark.parametrize(
    ("what", "given"),
    [
        ("r", 0), ("w", 0), ("r", -1), ("pr", -1), ("w", 10), ("pw", 10), ("r", True), ("w", False),
        ("r", 2.0), ("r", "two"), ("w", ""), ("pr", b"all"), ("pw", [1]), ("r", 1 << 16),
    ],
)  # fmt: skip
def test_what_can_be_no_quorum_is_refused_by_name(what, given):
    with pytest.raises(InvalidRequest, match=f"^{what}="):
        options.quorum(given, what, DEFAULT)


@pytest.mark.parametrize("given", [1, 0.01, 86_400])
def test_a_timeout_is_seconds(given):
    assert options.timeout_s(given) == given


@pytest.mark.parametrize("given", [0, -1, math.inf, math.nan, 86_401, True, "5", None])
def test_what_can_be_no_timeout_is_refused(given):
    with pytest.raises(InvalidRequest, match="a timeout is"):
        options.timeout_s(given)


def test_what_a_call_names_goes_before_its_bucket_and_that_before_the_client():
    carts, slow = BucketOptions("carts"), BucketOptions("slow", timeout=60)
    assert carts.seconds(None, 5.0) == 5.0
    assert slow.seconds(None, 5.0) == 60.0
    assert slow.seconds(1, 5.0) == 1.0
    with pytest.raises(InvalidRequest, match="a timeout is"):
        slow.seconds(0, 5.0)


@pytest.mark.parametrize(
    ("seconds", "budget_ms"), [(5.0, 5000), (0.0019, 1), (0.001, 1), (0.0001, 1), (0.0, 1), (-3.0, 1)]
)
def test_a_timeout_travels_as_whole_milliseconds_and_never_as_none(seconds, budget_ms):
    assert options.budget_ms(seconds) == budget_ms


def test_a_context_is_bytes():
    assert options.context_token(b"token", "context") == b"token"


@pytest.mark.parametrize("given", ["dG9rZW4", 5, bytearray(b"token"), object()])
def test_another_context_is_refused_by_name(given):
    with pytest.raises(InvalidRequest, match=r"if_context is the bytes of .*\.context"):
        options.context_token(given, "if_context")


def test_a_context_that_no_message_holds_is_refused():
    options.context_token(bytes(RECORD_BYTES_MAX), "context")
    with pytest.raises(InvalidRequest, match="context of 8388609 bytes"):
        options.context_token(bytes(RECORD_BYTES_MAX + 1), "context")


def test_without_sloppy_all_that_answer_are_primaries():
    strict = BucketOptions("b", r=2, sloppy=False)
    assert (strict.r, strict.w, strict.pr, strict.pw) == (2, DEFAULT, STRICT, STRICT)
    assert BucketOptions("b", pr=1, sloppy=False).pr == STRICT


@pytest.mark.parametrize(
    ("given", "handle", "sloppy", "travels"),
    [
        (None, DEFAULT, None, DEFAULT),
        (None, STRICT, None, STRICT),
        (1, STRICT, None, 1),
        (None, DEFAULT, True, DEFAULT),
        (None, 2, True, 2),
        (None, STRICT, True, DEFAULT),
        (1, STRICT, True, 1),
        (None, DEFAULT, False, STRICT),
        ("all", 2, False, STRICT),
    ],
)
def test_what_a_call_says_of_sloppiness_goes_before_its_handle(given, handle, sloppy, travels):
    assert options.primaries(given, "pr", handle, sloppy) == travels


def test_sloppy_is_true_or_false():
    for wrong in (1, "no", 0.0):
        with pytest.raises(InvalidRequest, match="sloppy is True or False"):
            options.primaries(None, "pr", DEFAULT, wrong)
        with pytest.raises(InvalidRequest, match="sloppy is True or False"):
            BucketOptions("b", sloppy=wrong)
    with pytest.raises(InvalidRequest, match="pr="):
        options.primaries("some", "pr", DEFAULT, False)
