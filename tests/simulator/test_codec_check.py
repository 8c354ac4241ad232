"""What crosses as a value has to be what the codec would carry."""

from __future__ import annotations

import pytest

from dyno.config import CHUNK_BYTES
from dyno.simulator.codec_check import check_datagram, check_frame
from dyno.wire.codec import ProtocolError
from dyno.wire.messages import STATUS_OK, Ack, ReadAnswer, Stored

CLUSTER = b"c" * 16


def test_what_the_codec_carries_passes_be_it_large_or_small() -> None:
    large = ReadAnswer(2, STATUS_OK, bytes(3 * CHUNK_BYTES))
    check_frame([large])
    check_frame([Stored(1, STATUS_OK, 7), Stored(3, STATUS_OK, 0)])
    check_datagram(CLUSTER, Ack(1, "a", b"start 01", b""))


def test_what_it_would_not_carry_does_not() -> None:
    with pytest.raises(ProtocolError, match="must be int, not bool"):
        check_frame([Stored(1, STATUS_OK, 7), Stored(1, True)])
    with pytest.raises(ProtocolError, match="must be int, not bool"):
        check_datagram(CLUSTER, Ack(True, "a", b"start 01", b""))
