"""What a bucket may be."""

from __future__ import annotations

import pytest

from dyno.buckets.properties import DEFAULTS, KINDS, Properties, check, kind_number
from dyno.errors import InvalidRequest
from dyno.wire.messages import ALL, DEFAULT, QUORUM


def test_the_defaults_are_those_of_the_contract() -> None:
    assert DEFAULTS.shown() == {"n": 3, "r": "quorum", "w": "quorum", "kind": "siblings"}
    check("bucket", DEFAULTS)


def test_properties_are_shown_as_users_give_them() -> None:
    assert Properties(5, 1, ALL, 0).shown() == {"n": 5, "r": 1, "w": "all", "kind": "siblings"}
    assert str(Properties(5, 1, ALL, 0)) == "n=5, r=1, w=all, kind=siblings"


@pytest.mark.parametrize("n", range(1, 10))
def test_quorums_go_up_to_n(n: int) -> None:
    check("bucket", Properties(n, n, 1, 0))
    check("bucket", Properties(n, QUORUM, ALL, 0))
    with pytest.raises(InvalidRequest, match=f"r={n + 1} is more than the bucket's n={n}"):
        check("bucket", Properties(n, n + 1, 1, 0))
    with pytest.raises(InvalidRequest, match=f"w={n + 1} is more than the bucket's n={n}"):
        check("bucket", Properties(n, 1, n + 1, 0))


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        (Properties(0, 1, 1, 0), "n=0 is not possible; a bucket keeps 1 to 9 copies"),
        (Properties(10, 1, 1, 0), "n=10 is not possible"),
        (Properties(3, 0, 1, 0), "r=0 is less than 1"),
        (Properties(3, 1, 0, 0), "w=0 is less than 1"),
        (Properties(3, DEFAULT, 1, 0), "r=65536 is more than"),
        (Properties(3, 1, 1, 7), "there is no bucket kind number 7 on this node"),
    ],
)
def test_what_no_bucket_can_be_is_refused(properties: Properties, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        check("bucket", properties)


@pytest.mark.parametrize("name", ["", "x" * 65, "é" * 33])
def test_a_name_has_1_to_64_bytes(name: str) -> None:
    with pytest.raises(InvalidRequest, match="a bucket's name has 1 to 64 bytes"):
        check(name, DEFAULTS)


def test_kinds_are_known_by_name() -> None:
    assert [kind_number(name) for name in KINDS] == [0]
    for wrong in ("lww", "Siblings", "", None, 0):
        with pytest.raises(InvalidRequest, match=r"there is no bucket kind .*; known: siblings"):
            kind_number(wrong)
