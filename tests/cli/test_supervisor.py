"""The two phases of `dyno cluster`, with processes of which only the lines are real."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import trio

from dyno.cli.cluster import Seat
from dyno.cli.supervisor import Child, _until_ready


class AProcess:
    pid = 4711
    returncode = None


def seat(number: int) -> Seat:
    return Seat(f"n{number}", f"127.0.0.1:{7100 + number}", Path("data") / f"n{number}")


def ready(child: Child) -> None:
    child._printed(f"dyno: {child.seat.name} ready on {child.seat.address}")


async def test_nodes_that_are_ready_at_once_are_no_news_afterwards(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sending, receiving = trio.open_memory_channel[Child](math.inf)
    children = [Child(seat(number), [], sending) for number in (1, 2, 3)]
    for child in children:
        child.process = AProcess()  # type: ignore[assignment]
        ready(child)
        ready(child)  # whatever it says again
    founded = []
    await _until_ready(children, receiving, lambda: founded.append(True))
    assert founded == [True]
    assert capsys.readouterr().out.startswith("dyno: cluster of 3 ready\n")
    with pytest.raises(trio.WouldBlock):
        receiving.receive_nowait()  # nobody has ended
