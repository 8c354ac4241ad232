"""What a cluster tells of one key, and of its hints, with nodes down, cut off and damaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dyno.causality.record import Record
from dyno.protocol.explain import EXPLAIN_S
from dyno.protocol.overview import ROUND_S
from dyno.simulator.disk import Disk
from dyno.simulator.simulation import Simulation
from dyno.storage.cell import record_of
from dyno.wire.explanations import CORRUPT, HEARD, HELD, SILENT, UNREACHABLE, Explanation, unpack_explanation
from dyno.wire.hints import Held, unpack_hints
from dyno.wire.messages import AskStatus, Explain, Explained, Members
from tests.protocol.stories.cluster_harness import User, slot_of

Simulate = Callable[..., Simulation]
KEY = b"key"


def explain(user: User, key: bytes = KEY) -> Explanation:
    answer = user.ask(Explain(user._next_id(), user.bucket, key, 5000, False))
    assert isinstance(answer, Explained), answer
    return unpack_explanation(answer.report)


def hints(user: User) -> list[Held]:
    answer = user.ask(AskStatus(user._next_id()))
    assert isinstance(answer, Members), answer
    return unpack_hints(answer.hints)


def unaged(explanation: Explanation) -> Explanation:
    """Without what changes from second to second."""
    reports = tuple(report._replace(compared_ms=0) for report in explanation.reports)
    return explanation._replace(reports=reports)


def states(explanation: Explanation) -> dict[str, Any]:
    return {
        report.node: report.views[0].state if report.reach == HEARD else -report.reach
        for report in explanation.reports
    }


def test_every_node_tells_the_same(simulate: Simulate) -> None:
    sim = simulate(5)
    User(sim, "n1").put(KEY, b"\x01")
    sim.run_for(1.0)
    told = [unaged(explain(User(sim, name))) for name in sim.machines]
    assert all(each == told[0] for each in told)
    _, owners = slot_of(sim, KEY)
    assert sorted(told[0].owners) == sorted(owners)
    assert sorted((*told[0].owners, *told[0].fallbacks)) == sorted(sim.machines)
    assert states(told[0]) == dict.fromkeys(told[0].owners, HELD)
    assert len({report.views for report in told[0].reports}) == 1


def test_a_key_that_was_never_written(simulate: Simulate) -> None:
    sim = simulate(5)
    explanation = explain(User(sim, "n1"))
    assert all(report.views[0].state == 0 for report in explanation.reports)
    assert [report.node for report in explanation.reports] == list(explanation.owners)


def test_a_replica_that_missed_a_delete_is_told_from_the_others(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    context = user.put(KEY, b"\x01", w=3)
    slot, _ = slot_of(sim, KEY)
    sim.machines["n3"].kill()
    user.delete(KEY, context)
    explanation = explain(user)
    assert states(explanation)["n3"] in (-UNREACHABLE, -SILENT)
    views = {report.node: report.views for report in explanation.reports if report.views}
    assert [views[name][0].values for name in ("n1", "n2")] == [0, 0]
    record = Record.unpack(_record_on(sim, "n3", slot))
    assert record.live


def test_a_node_that_is_cut_off_is_waited_for_no_longer_than_stated(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"\x01", w=3)
    sim.cut("n1", "n3")
    before = sim.now
    assert states(explain(user))["n3"] == -SILENT
    assert sim.now - before < EXPLAIN_S + 0.2
    before = sim.now
    assert hints(user) == [Held("n1", "", 0), Held("n2", "", 0)]
    assert sim.now - before < ROUND_S + 0.2
    sim.heal_all()
    sim.run_for(5.0)
    assert [row.holder for row in hints(user)] == ["n1", "n2", "n3"]


def test_a_hint_is_shown_until_it_is_handed_over(simulate: Simulate) -> None:
    sim = simulate(5)
    _, owners = slot_of(sim, KEY)
    gone, asked = owners[0], User(sim, owners[1])
    sim.machines[gone].kill()
    asked.put(KEY, b"\x01")
    explanation = explain(asked)
    keepers = {r.node: r.views[1:] for r in explanation.reports if len(r.views) > 1}
    assert list(keepers) == list(explanation.fallbacks[:1])
    ((hint,),) = keepers.values()
    assert (hint.target, hint.values) == (gone, 1)
    assert [row for row in hints(asked) if row.target] == [Held(explanation.fallbacks[0], gone, 1)]
    sim.restart(gone)
    sim.run_until(lambda: not any(row.target for row in hints(asked)), limit_s=30.0)
    assert [row for row in hints(asked) if row.target] == []
    assert states(explain(asked)) == dict.fromkeys(explanation.owners, HELD)


def test_when_copies_were_compared_last_is_told(simulate: Simulate) -> None:
    sim = simulate(3, partitions=4)
    user = User(sim, "n1")
    user.put(KEY, b"\x01", w=3)
    sim.run_for(10.0)
    for report in explain(user).reports:
        assert 0 < report.compared_ms < 10_000
        assert not report.weak


def test_a_node_that_lost_its_disk_is_weak_until_it_has_compared(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"\x01", w=3)
    sim.kill("n3")
    sim.machines["n3"].engine = Disk()
    sim.cut("n2", "n3")
    sim.restart("n3")
    sim.run_for(5.0)
    weak = {report.node: report.weak for report in explain(user).reports}
    assert weak == {"n1": False, "n2": False, "n3": True}
    sim.heal_all()
    sim.run_for(20.0)
    weak = {report.node: report.weak for report in explain(user).reports}
    assert weak == {"n1": False, "n2": False, "n3": False}
    assert states(explain(user))["n3"] == HELD


def test_a_damaged_copy_is_said_to_be_so(simulate: Simulate) -> None:
    sim = simulate(3)
    user = User(sim, "n1")
    user.put(KEY, b"\x01", w=3)
    slot, _ = slot_of(sim, KEY)
    sim.machines["n2"].engine.corrupt(slot)
    assert states(explain(user))["n2"] == CORRUPT


def _record_on(sim: Simulation, name: str, slot: bytes) -> bytes:
    cell = sim.machines[name].engine.get(slot)
    assert cell is not None
    return record_of(cell)
