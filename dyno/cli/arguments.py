"""The words of a command line, read so that arguments may begin with a dash: `dyno put scores alice -5`.

A word is an option only if the command has it: `--json`, `--node=…`, `-r`, `-r2`, `-wquorum`. Everything else
that begins with one dash is an argument, wherever it stands; a word with two dashes that is no option is
refused, because it is a misspelt one far more often than a value. After `--` nothing is an option, so
`dyno put b k -- --json` stores "--json".

In: the command's words. Out: the values of its parameters, which are texts, lists of texts and flags. A
complete line is settled here, because Typer's own conversion of values costs a short command a third of its
time; for all others (--help, something missing) Click's parser gets the words, sorted so that it cannot
misread them. An unknown option is a usage error that says what was probably meant.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from dyno.cli.examples import EXAMPLES
from dyno.cli.outcome import UsageError
from dyno.errors import InvalidRequest

_ATTACHED = re.compile(r"=?(\d+|one|quorum|all)", re.ASCII)
_EAGER = ("--help", "--version")


class _Terse:
    """Shows in the help no "<bool>" beside flags, which would look like a value to type."""

    def get_params(self, ctx: Any) -> list[Any]:
        parameters: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for parameter in parameters:
            if getattr(parameter, "is_flag", False) and parameter.metavar is None:
                parameter.metavar = ""
        return parameters


class CommandGroup(_Terse, TyperGroup):
    """What `dyno` alone is, and `dyno bucket`."""


class TextCommand(_Terse, TyperCommand):
    """A command whose parameters are texts, lists of texts and flags. All arguments are required."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """BUCKET KEY, without what some versions of Typer put around them."""
        places = [p.metavar for p in self.get_params(ctx) if p.param_type_name == "argument"]
        return [self.options_metavar or "", *places]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        for parameter in self.get_params(ctx):
            if parameter.param_type_name == "argument":
                # All are required texts, which needs no lines and columns of its own.
                parameter.required = False
                parameter.display_type_rich = lambda **_: None
        super().format_help(ctx, formatter)
        lines = EXAMPLES.get(ctx.command_path.removeprefix("dyno "), ())
        if lines:
            typer.echo(" Examples:")
            for line in lines:
                typer.echo(f"   {line}")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # completing a word in the shell
            return super().parse_args(ctx, args)
        parameters = self.get_params(ctx)
        options: dict[str, Any] = {}
        places: list[Any] = []
        for parameter in parameters:
            if parameter.param_type_name == "argument":
                places.append(parameter)
            else:
                options |= dict.fromkeys(parameter.opts, parameter)
        flags = {name: bool(option.is_flag) for name, option in options.items()}
        try:
            words = Words(flags=flags, places=len(places)).sort(args)
        except InvalidRequest as error:
            raise UsageError(str(error), ctx) from None
        if not words.are_complete():
            return super().parse_args(ctx, words.in_order())
        for parameter in parameters:
            if parameter.expose_value:
                ctx.params[parameter.name] = _default(parameter)
        for name, value in words.options:
            option = options[name]
            if option.multiple:
                ctx.params[option.name] = (*ctx.params[option.name], value)
            else:
                ctx.params[option.name] = True if value is None else value
        for place, value in zip(places, words.arguments, strict=True):
            ctx.params[place.name] = value
        return []


class Words:
    """Words sorted into options, (name, value) with None for flags, and arguments, as typed."""

    def __init__(self, *, flags: dict[str, bool], places: int) -> None:
        """flags: every option's name, and whether it stands alone. places: how many arguments there are."""
        self.options: list[tuple[str, str | None]] = []
        self.arguments: list[str] = []
        self._flags = flags
        self._places = places

    def sort(self, words: Sequence[str]) -> Words:
        """Raises InvalidRequest for an option that is unknown, lacks its value or takes none, and for
        arguments that have no place."""
        rest = deque(words)
        dashed = ""  # the last argument that looks like an option
        while rest:
            word = rest.popleft()
            if word == "--":
                self.arguments.extend(rest)
                break
            if not self._is_option(word, rest):
                self.arguments.append(word)
                if word.startswith("-") and word != "-":
                    dashed = word
        if len(self.arguments) > self._places and not self._is_asked():
            raise InvalidRequest(self._unknown(dashed) if dashed else self._excess())
        return self

    def are_complete(self) -> bool:
        """Whether nothing is missing or too much, and nothing but running the command is asked for."""
        return not self._is_asked() and len(self.arguments) == self._places

    def in_order(self) -> list[str]:
        """The words again, options first."""
        words = []
        for name, value in self.options:
            words += [name] if value is None else [name, value]
        return [*words, "--", *self.arguments]

    def _is_asked(self) -> bool:
        """Whether help or the version is."""
        return any(name in _EAGER for name, _ in self.options)

    def _is_option(self, word: str, rest: deque[str]) -> bool:
        """Whether it is one; then it is sorted in, with the next word if that is its value."""
        name, equals, value = word.partition("=")
        if word in self._flags:
            if self._flags[word]:
                self.options.append((word, None))
            elif rest:
                self.options.append((word, rest.popleft()))
            else:
                raise InvalidRequest(f"the option {word} needs a value")
        elif equals and name.startswith("--") and name in self._flags:
            if self._flags[name]:
                raise InvalidRequest(f"the option {name} takes no value")
            self.options.append((name, value))
        elif self._flags.get(word[:2]) is False and (attached := _ATTACHED.fullmatch(word, 2)):
            self.options.append((word[:2], attached[1]))
        elif word.startswith("--"):
            raise InvalidRequest(self._unknown(word))
        else:
            return False
        return True

    def _excess(self) -> str:
        if not self._places:
            return f"there is no argument to give, so what is {self.arguments[0]!r}?"
        extra = ", ".join(map(repr, self.arguments[self._places :]))
        return f"too many arguments: {extra} (one that has spaces goes into quotes)"

    def _unknown(self, word: str) -> str:
        similar = get_close_matches(word.partition("=")[0], self._flags, n=1, cutoff=0.65)
        if similar:
            return f"there is no option {word} (did you mean {similar[0]}?)"
        return f"there is no option {word} (put -- before an argument that begins with dashes)"


def _default(parameter: Any) -> Any:
    if parameter.multiple:
        return ()
    # Click marks "none" in ways that differ by version.
    return parameter.default if isinstance(parameter.default, str | bool) else None
