from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyno.cli.arguments import Words
from dyno.errors import InvalidRequest

FLAGS = {"--json": True, "--overwrite": True, "--help": True, "--node": False, "-r": False, "-w": False}


def sorted_words(*words: str, places: int = 3) -> Words:
    return Words(flags=FLAGS, places=places).sort(words)


def test_an_argument_may_begin_with_a_dash_wherever_it_stands() -> None:
    assert sorted_words("b", "k", "-5").arguments == ["b", "k", "-5"]
    assert sorted_words("-b", "-k-", "-").arguments == ["-b", "-k-", "-"]
    assert sorted_words("b", "k", "-rest").arguments == ["b", "k", "-rest"]
    assert sorted_words("b", "k", "-n=3").arguments == ["b", "k", "-n=3"]


def test_options_stand_anywhere() -> None:
    words = sorted_words("--json", "b", "-r", "2", "k", "-w", "all", "-5", "--node", "a:1", "--node=b:2")
    assert words.arguments == ["b", "k", "-5"]
    assert words.options == [
        ("--json", None),
        ("-r", "2"),
        ("-w", "all"),
        ("--node", "a:1"),
        ("--node", "b:2"),
    ]
    assert words.are_complete()


@pytest.mark.parametrize("word", ["-r2", "-r=2"])
def test_a_quorum_may_be_attached(word: str) -> None:
    assert sorted_words("b", "k", word, places=2).options == [("-r", "2")]


def test_an_attached_word_is_a_quorum_only_if_it_is_one() -> None:
    assert sorted_words("b", "k", "-wquorum", places=2).options == [("-w", "quorum")]
    assert sorted_words("b", "k", "-wq").arguments == ["b", "k", "-wq"]
    assert sorted_words("b", "k", "-r٣").arguments == ["b", "k", "-r٣"]


def test_after_two_dashes_nothing_is_an_option() -> None:
    words = sorted_words("--json", "b", "--", "-r", "--", places=3)
    assert words.options == [("--json", None)]
    assert words.arguments == ["b", "-r", "--"]


def test_a_value_of_an_option_may_look_like_one() -> None:
    assert sorted_words("b", "k", "v", "--node", "--json").options == [("--node", "--json")]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("b", "k", "--jsno"), "--jsno (did you mean --json?)"),
        (("b", "k", "v", "--jsno=1"), "did you mean --json"),
        (("b", "k", "--xyz"), "put -- before an argument that begins with dashes"),
        (("b", "k", "v", "-x"), "no option -x"),
        (("b", "-x", "k", "v"), "no option -x"),
        (("b", "k", "v", "--node"), "--node needs a value"),
        (("b", "k", "v", "--json=1"), "--json takes no value"),
        (("b", "k", "milk", "and", "bread"), "too many arguments: 'and', 'bread' (one that has spaces goes"),
    ],
)
def test_what_is_no_option_is_refused(words: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        sorted_words(*words)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("words", [("b", "k"), ("b", "k", "v", "w", "--help"), ("b", "k", "v", "--help"), ()])
def test_help_and_missing_arguments_are_left_to_click(words: tuple[str, ...]) -> None:
    assert not sorted_words(*words).are_complete()


def test_in_order_options_come_first() -> None:
    words = sorted_words("b", "-r", "2", "-5", "--help")
    assert words.in_order() == ["-r", "2", "--help", "--", "b", "-5"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=6) | st.sampled_from(["--", "-", *FLAGS]), max_size=8))
def test_no_word_is_lost_and_order_changes_nothing(words: list[str]) -> None:
    try:
        once = sorted_words(*words, places=8)
    except InvalidRequest:
        return
    again = sorted_words(*once.in_order(), places=8)
    assert (again.options, again.arguments) == (once.options, once.arguments)
