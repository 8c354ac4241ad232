from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import pytest

from dyno.cli.app import COMMANDS, command_of
from dyno.cli.examples import EXAMPLES

if TYPE_CHECKING:
    from tests.cli.conftest import Dyno

LINES = [
    (name, line)
    for name, lines in EXAMPLES.items()
    for line in "\n".join(lines).replace("\\\n", "").splitlines()
]


def test_every_command_has_an_example_in_its_help(command: Dyno) -> None:
    assert sorted(EXAMPLES) == sorted(COMMANDS)
    for name, lines in EXAMPLES.items():
        shown = command(*name.split(), "--help").out.decode().rstrip().splitlines()
        assert [f"   {line}" for line in lines] == shown[-len(lines) :]


@pytest.mark.parametrize(("name", "line"), LINES)
def test_an_example_is_right_as_it_stands(name: str, line: str) -> None:
    program, *words = shlex.split(re.split("[|<>]", line, maxsplit=1)[0])
    given = name.split()
    assert [program, *words[: len(given)]] == ["dyno", *given]
    context = command_of(name).make_context(name, words[len(given) :])
    assert not context.args


def test_an_example_fits_a_narrow_terminal() -> None:
    assert max(len(line) for lines in EXAMPLES.values() for line in lines) <= 57
