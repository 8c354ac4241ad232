"""Tokens: a context goes back only where it came from."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.causality import token
from dyno.causality.context import Context
from dyno.causality.dots import Dot, actor
from dyno.errors import InvalidRequest

CLUSTER = b"cluster.cluster."
A = actor(b"aaaaaaaa", 0)
CONTEXT = Context.EMPTY.add(Dot(A, 1)).add(Dot(A, 3))


def encode(
    context: Context, *, cluster: bytes = CLUSTER, bucket: str = "carts", key: bytes = b"alice"
) -> bytes:
    return token.encode(context, cluster=cluster, bucket=bucket, key=key)


def decode(data: bytes, *, cluster: bytes = CLUSTER, bucket: str = "carts", key: bytes = b"alice") -> Context:
    return token.decode(data, cluster=cluster, bucket=bucket, key=key)


def forged(packed: bytes) -> bytes:
    """A token whose hash is right, of a context that no node ever packed."""
    return bytes([token.VERSION]) + token._tag(packed, CLUSTER, "carts", b"alice") + packed


def test_a_token_gives_its_context_back():
    assert decode(encode(CONTEXT)) == CONTEXT


def test_the_empty_context_is_the_empty_token():
    assert encode(Context.EMPTY) == b""
    assert decode(b"") is Context.EMPTY


def test_vector_9_a_context_taken_from_one_key_and_given_with_another_is_refused():
    taken = encode(CONTEXT)
    with pytest.raises(InvalidRequest, match="another key"):
        decode(taken, key=b"clara")
    with pytest.raises(InvalidRequest, match="another key, bucket"):
        decode(taken, bucket="karts")
    with pytest.raises(InvalidRequest, match="another key, bucket or cluster"):
        decode(taken, cluster=b"another.cluster.")


def test_bucket_and_key_do_not_run_into_each_other():
    with pytest.raises(InvalidRequest):
        decode(encode(CONTEXT, bucket="cart", key=b"salice"))


def test_a_token_cut_short_is_refused():
    whole = encode(CONTEXT)
    for length in range(1, len(whole)):
        with pytest.raises(InvalidRequest, match="cut short"):
            decode(whole[:length])


def test_a_token_with_one_bit_changed_is_refused():
    whole = encode(CONTEXT)
    for at in range(len(whole)):
        for bit in range(8):
            altered = whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :]
            with pytest.raises(InvalidRequest):
                decode(altered)
    with pytest.raises(InvalidRequest, match="altered"):
        decode(whole + b"\0")


def test_a_token_of_an_unknown_version_is_refused_by_name():
    with pytest.raises(InvalidRequest, match="unknown version 2"):
        decode(b"\2" + encode(CONTEXT)[1:])


@pytest.mark.parametrize("packed", [b"\0\0", b"\0\0\0\0", b"\0\0\0\0" + A + bytes(8)])
def test_a_forged_token_whose_hash_is_right_is_still_malformed(packed: bytes):
    with pytest.raises(InvalidRequest, match="malformed"):
        decode(forged(packed))


@given(st.binary(max_size=80))
@settings(deadline=None)
def test_random_bytes_are_refused(data: bytes):
    if data:
        with pytest.raises(InvalidRequest):
            decode(data)


# ── as text ────────────────────────────────────────────────────────────────────────────────────────────


def test_as_text_a_token_has_no_padding_and_needs_no_quoting():
    assert token.to_text(b"\xfb\xff\xfe\x01") == "-__-AQ"
    assert token.from_text("-__-AQ") == b"\xfb\xff\xfe\x01"
    assert token.to_text(b"") == ""
    assert token.from_text("") == b""


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_text_gives_its_token_back(data: bytes):
    assert token.from_text(token.to_text(data)) == data


@pytest.mark.parametrize(
    "bad", ["A", "AQ==", "AQ\n", " AQ", "A Q", "AR", "+_-A", "/_-A", "AQ=", "AQ.A", "äöüß", "AAAAA"]
)
def test_text_that_no_token_has_is_refused(bad: str):
    with pytest.raises(InvalidRequest, match="base64url"):
        token.from_text(bad)
