"""Messages stay flat: that is what makes them cheap to encode and strict to decode."""

from typing import get_args, get_type_hints

import pytest

from dyno.wire import messages

UNIONS = (messages.ClientRequest, messages.ClientAnswer, messages.PeerMessage, messages.Datagram)
CLASSES = [cls for union in UNIONS for cls in get_args(union)] + [
    messages.Hello,
    messages.Refuse,
    messages.Chunk,
]


@pytest.mark.parametrize("cls", CLASSES)
def test_every_field_is_a_scalar(cls):
    assert set(get_type_hints(cls).values()) <= {int, bool, bytes, str, float}


def test_no_count_can_be_mistaken_for_a_named_quorum():
    assert len({messages.DEFAULT, messages.QUORUM, messages.ALL}) == 3
    assert min(messages.DEFAULT, messages.QUORUM, messages.ALL) > 9
