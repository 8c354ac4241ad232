"""A repair from its first question to its end, by what nodes report."""

from __future__ import annotations

from typing import Any

import pytest

from dyno.errors import ConnectFailed, InvalidRequest, Overloaded, RequestTimeout
from dyno.session.repairing import ANSWERLESS_S, PATIENCE_S, PAUSE_S, Repairing, shown, told
from dyno.wire.messages import AskRepair, Failed, RepairTold
from dyno.wire.repairs import (
    BUSY,
    COUNTING,
    CUT_OFF,
    DONE,
    HEARD,
    MERGING,
    OTHER_RING,
    READY,
    RUN_BYTES,
    RUNS,
    SILENT,
    UNREACHABLE,
    WAITS,
    Mends,
    Peer,
    Report,
    pack_reports,
)

NOTHING = Mends()


def a_report(name: str, *open_with: str, state: int = WAITS, mends: Mends = NOTHING) -> Report:
    peers = tuple(Peer(other, state, 0) for other in open_with)
    return Report(name, HEARD, READY, mends, peers)


class Run:
    """A repair in a world whose nodes report what a test says."""

    def __init__(
        self,
        world: Any,
        *,
        bucket: str | None = None,
        quarantine: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.world = world
        self.repairing = Repairing(
            world.session, bucket=bucket, quarantine=quarantine, timeout=timeout, now=world.now
        )
        self.call: Any = self.repairing.start(world.now, world.out)
        self.asked: list[AskRepair] = []

    def answer(self, *reports: Report) -> bool:
        """Whether it goes on."""
        self.world.advance(PAUSE_S * 1.1)
        ((address, message),) = self.world.requests()
        self.asked.append(message)
        self.world.hear(address, RepairTold(message.id, pack_reports(reports)))
        return self.step()

    def step(self) -> bool:
        assert self.world.finished() == [self.call]
        self.call = self.repairing.step(self.call, self.world.now, self.world.out)
        return self.call is not None

    @property
    def progress(self) -> dict[str, Any]:
        return self.repairing.progress


def test_it_is_done_when_all_pairs_are_compared(world: Any) -> None:
    run = Run(world, bucket="carts", quarantine=True)
    assert run.answer(a_report("n1", "n2", "n3"), a_report("n2", "n1", "n3"), a_report("n3", "n1", "n2"))
    assert (run.progress["pairs"], run.progress["compared"], run.progress["done"]) == (3, 0, False)
    assert run.progress["waiting"] == [["n1", "n2"], ["n1", "n3"], ["n2", "n3"]]
    assert run.answer(a_report("n1"), a_report("n2", "n1", "n3", state=RUNS), a_report("n3", "n1", "n2"))
    assert (run.progress["compared"], run.progress["waiting"]) == (2, [["n2", "n3"]])
    some = Mends(received=3, sent=4, healed=5, compared=60, merged=1, aside=2)
    assert not run.answer(a_report("n1", mends=some), a_report("n2", "n1", "n3"), a_report("n3", mends=some))
    assert run.progress["done"]
    assert (run.progress["compared"], run.progress["unreached"]) == (3, {})
    counts = {"keys": 60, "sent": 4, "received": 3, "healed": 5, "merged": 1, "aside": 2}
    assert run.progress["nodes"][0] == {"name": "n1", "state": "ready", **counts}
    assert {name: run.progress[name] for name in counts} == {n: 2 * number for n, number in counts.items()}
    assert {(ask.bucket, ask.merge, ask.run) for ask in run.asked} == {("carts", True, run.asked[0].run)}
    assert len(run.asked[0].run) == RUN_BYTES


@pytest.mark.parametrize(
    ("reach", "why"),
    [
        (SILENT, "it does not answer"),
        (UNREACHABLE, "it cannot be reached"),
        (OTHER_RING, "it knows other members than the others do"),
        (BUSY, "too many repairs are under way there"),
    ],
)
def test_one_that_stays_away_is_named_after_a_while(world: Any, reach: int, why: str) -> None:
    run = Run(world)
    began = world.now
    while run.answer(a_report("n1", "n3", state=CUT_OFF), a_report("n2", "n3"), Report("n3", reach)):
        assert world.now - began < 2 * PATIENCE_S
    assert world.now - began >= PATIENCE_S
    assert not run.progress["done"]
    assert run.progress["unreached"] == {"n3": why}
    assert run.progress["nodes"][2]["state"] == "not heard"


def test_the_others_are_waited_for_however_long_it_takes(world: Any) -> None:
    run = Run(world)
    for _ in range(100):
        assert run.answer(a_report("n1", "n2", state=RUNS), a_report("n2", "n1"), Report("n3", UNREACHABLE))
    assert run.progress["waiting"] == [["n1", "n2"]]


def test_two_that_cannot_reach_each_other_are_named(world: Any) -> None:
    run = Run(world)
    while run.answer(a_report("n1", "n2", state=CUT_OFF), a_report("n2", "n1", state=CUT_OFF)):
        pass
    assert run.progress["unreached"] == {"n2": "n1 cannot reach it"}


def test_a_link_in_one_direction_is_enough_to_go_on(world: Any) -> None:
    run = Run(world)
    for _ in range(50):
        assert run.answer(a_report("n1", "n2", state=CUT_OFF), a_report("n2", "n1", state=WAITS))


def test_while_rows_are_merged_nothing_is_over(world: Any) -> None:
    run = Run(world)
    merging = Report("n1", HEARD, MERGING)
    for _ in range(50):
        assert run.answer(merging, a_report("n2"))
    assert shown(run.progress) == "0 of 0 pairs compared, 0 records sent, 0 received, merging"
    assert not run.answer(a_report("n1"), a_report("n2"))


def test_a_node_that_was_started_anew_counts_from_the_beginning(world: Any) -> None:
    run = Run(world)
    assert run.answer(a_report("n1", "n2", mends=Mends(sent=5, aside=3)), a_report("n2", "n1"))
    assert run.answer(a_report("n1", "n2", mends=Mends(sent=2, aside=1)), a_report("n2", "n1"))
    assert (run.progress["sent"], run.progress["aside"]) == (7, 1)
    assert run.answer(Report("n1", UNREACHABLE), a_report("n2", "n1"))
    assert run.progress["sent"] == 7


def test_a_timeout_counts_all_of_it(world: Any) -> None:
    run = Run(world, timeout=1.0)
    with pytest.raises(RequestTimeout, match="0 of 1 pairs"):
        for _ in range(5):
            run.answer(a_report("n1", "n2"), a_report("n2", "n1"))


def test_a_question_that_nobody_answers_is_asked_again_for_a_while(world: Any) -> None:
    run = Run(world)
    began = world.now
    with pytest.raises(Overloaded):
        while world.now < began + 2 * ANSWERLESS_S:
            world.advance(0.1)
            for address, message in world.requests():
                refused = Failed(message.id, "overloaded", "too much to do", 0, "", False, 100, b"")
                world.hear(address, refused)
            if world.out.finished:
                run.step()
    assert world.now >= began + ANSWERLESS_S
    assert shown(run.progress) == "no node has answered"


def test_nobody_to_ask_ends_it(world: Any) -> None:
    run = Run(world)
    for node in ("n1", "n2", "n3"):
        world.down(f"{node}:7101")
    world.advance(6)
    with pytest.raises(ConnectFailed):
        run.step()


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"timeout": "soon"}, {"bucket": ""}, {"bucket": 5}])
def test_wrong_words_are_refused_before_anything_is_asked(world: Any, wrong: dict[str, Any]) -> None:
    options: dict[str, Any] = {"bucket": None, "quarantine": False, "timeout": None} | wrong
    with pytest.raises(InvalidRequest):
        Repairing(world.session, now=world.now, **options)
    assert world.sent() == []


def test_what_nodes_mended_is_told_by_name() -> None:
    peers = (Peer("n2", DONE, 1501), Peer("n3", CUT_OFF, 0))
    shown = told([Report("n1", HEARD, COUNTING, Mends(1, aside=2), peers), Report("n2", SILENT)])
    assert shown == {
        "n1": {
            "state": "counting",
            "read_repairs": 1, "handed_over": 0, "received": 0, "sent": 0, "healed": 0, "compared": 0,
            "merged": 0, "aside": 2, "compared_s": {"n2": 1.5, "n3": None},
        }
    }  # fmt: skip
