"""One question to many nodes."""

from __future__ import annotations

from dyno.protocol.outbox import Outbox
from dyno.protocol.peers import Peers
from dyno.protocol.survey import Survey
from dyno.wire.messages import AskHints


def surveyed(*up: str) -> tuple[Survey[int], Outbox]:
    """n2, n3 and n4 are asked; only those that are up can be."""
    peers, out = Peers(), Outbox()
    peers.place({name: f"{name}:1" for name in ("n2", "n3", "n4")})
    for name in up:
        peers.up(name, f"{name}:1")
    survey: Survey[int] = Survey(7, deadline=1.0)
    survey.ask(["n2", "n3", "n4"], AskHints(7), peers, out)
    return survey, out


def test_all_are_asked_that_can_be():
    survey, out = surveyed("n2", "n4")
    assert out.sends == [("n2:1", AskHints(7)), ("n4:1", AskHints(7))]
    assert (list(survey.owing), list(survey.lost)) == (["n2", "n4"], ["n3"])
    assert not survey.is_over(0.9)


def test_it_is_over_when_all_have_answered():
    survey, _ = surveyed("n2", "n4")
    survey.take("n2", 1)
    survey.take("n2", 2)  # a doubled answer, and one of somebody who was not asked
    survey.take("n3", 3)
    assert not survey.is_over(0.5)
    survey.take("n4", 4)
    assert survey.is_over(0.5)
    assert survey.answers == {"n2": 1, "n4": 4}


def test_who_is_lost_is_not_waited_for():
    survey, _ = surveyed("n2", "n4")
    survey.take("n2", 1)
    survey.link_down("n2")  # its answer is here
    survey.link_down("n4")
    survey.take("n4", 4)  # of a link that is gone
    assert survey.is_over(0.0)
    assert (survey.answers, list(survey.lost)) == ({"n2": 1}, ["n3", "n4"])


def test_it_is_over_when_its_time_is():
    survey, _ = surveyed("n2")
    assert survey.is_over(1.0)
    assert list(survey.owing) == ["n2"]


def test_nobody_to_ask():
    survey, _ = surveyed()
    assert survey.is_over(0.0)
