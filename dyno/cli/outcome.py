"""How a command ended: the exit code of the contract and one line on stderr.

    0 done · 1 not found · 2 usage, configuration, invalid request, port in use, locked directory · 3 siblings
    4 quorum not met or timed out · 5 cannot connect · 6 overloaded or storage refused · 130 Ctrl-C

In: whatever a command raised. Out: code and line; never a traceback, not even for a bug of ours, unless
$DYNO_TRACEBACK asks for one.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any, NamedTuple

import typer

from dyno.cli.output import ReaderGone
from dyno.errors import (
    ConflictError,
    ConnectFailed,
    DynoError,
    Overloaded,
    QuorumNotMet,
    RequestTimeout,
    StorageFailed,
)

LINE_CHARS_MAX = 1000

# How Click and Typer guess at a misspelt command or option.
_MEANT = re.compile(r"(?:\.? Did you mean | \(Possible options: )(.*?)\??\)?$")

NOT_FOUND, INVALID, SIBLINGS, QUORUM, UNREACHABLE, REFUSED, INTERRUPTED = 1, 2, 3, 4, 5, 6, 130

# Typer carries a copy of Click's errors or uses the package, as its version likes; both derive alike:
# BadParameter from UsageError from ClickException.
UsageError: Any = typer.BadParameter.__mro__[1]
_ClickException: Any = typer.BadParameter.__mro__[2]


class Outcome(NamedTuple):
    """line: None where silence is right."""

    code: int
    line: str | None


def report(error: BaseException) -> int:
    """Say on stderr what happened, if anything is to be said, and return the exit code."""
    outcome = outcome_of(error)
    if outcome.line is not None:
        say(outcome.line)
        if os.environ.get("DYNO_TRACEBACK"):
            import traceback

            traceback.print_exception(error)
    return outcome.code


def say(text: str) -> None:
    """One line on stderr; a stderr that is closed is no reason to fail."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def outcome_of(error: BaseException) -> Outcome:
    error = _sole(error)
    match error:
        case KeyboardInterrupt() | typer.Abort():
            return Outcome(INTERRUPTED, None)
        case ReaderGone():
            return Outcome(0, None)
        case typer.Exit():
            return Outcome(error.exit_code, None)
        case DynoError():
            return Outcome(_code(error), f"dyno: {one_line(str(error) + _advice(error))}")
        case OSError():
            where = f"{error.filename}: " if error.filename is not None else ""
            return Outcome(INVALID, f"dyno: {one_line(f'{where}{error.strerror or error}')}")
    if isinstance(error, _ClickException):
        return Outcome(INVALID, _usage(error))
    return Outcome(
        INVALID,
        f"dyno: {one_line(f'internal error: {type(error).__name__}: {error}')}"
        f" (a bug; DYNO_TRACEBACK=1 shows where)",
    )


def _code(error: DynoError) -> int:
    match error:
        case ConflictError():
            return SIBLINGS
        case QuorumNotMet() | RequestTimeout():
            return QUORUM
        case ConnectFailed():
            return UNREACHABLE
        case Overloaded() | StorageFailed():
            return REFUSED
    return INVALID


def _advice(error: DynoError) -> str:
    """What to do, where the message alone does not say it."""
    match error:
        case ConnectFailed():
            return "; start a node with `dyno node` or `dyno cluster`, or name a running one with --node"
        case QuorumNotMet(indeterminate=True) | RequestTimeout(indeterminate=True):
            return "; some replica may have kept the write, so read before you repeat it"
        case Overloaded():
            return f"; try again in {error.retry_after:g} s"
    return ""


def _usage(error: Any) -> str:
    text = _MEANT.sub(r" (did you mean \1?)", error.format_message().rstrip("."))
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "dyno"
    return one_line(f"{path}: {text[:1].lower()}{text[1:]}; see {path} --help")


def one_line(text: str) -> str:
    """Text that cannot break the line, drive the terminal or fill the screen."""
    text = " ".join(text.split())
    if len(text) > LINE_CHARS_MAX:
        text = f"{text[:LINE_CHARS_MAX]}…"
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def _sole(error: BaseException) -> BaseException:
    """The one exception that a group of Trio's nurseries carries; Ctrl-C wins over its company."""
    while isinstance(error, BaseExceptionGroup):
        interrupted = error.subgroup(KeyboardInterrupt)
        error = (interrupted or error).exceptions[0]
    return error
