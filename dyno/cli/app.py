"""The command `dyno`: which commands there are, and one way in and out for all of them.

In: the arguments after the program's name. Out: the exit code of the contract (see `outcome`). Whatever
goes wrong ends as one line on stderr: usage errors, our own errors and even bugs are reported here and
nowhere else.

Importing this module loads typer and nothing of the client, the server or Trio. A command line that names a
command loads that command alone, and a command what it needs when it runs: `dyno get` as a whole is a process
that somebody waits for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import typer
from typer.main import get_command

from dyno.cli import output
from dyno.cli.arguments import CommandGroup, TextCommand
from dyno.cli.options import Version
from dyno.cli.outcome import report

COMMANDS = {
    "node": "dyno.cli.node",
    "cluster": "dyno.cli.cluster",
    "put": "dyno.cli.data",
    "get": "dyno.cli.data",
    "delete": "dyno.cli.data",
    "keys": "dyno.cli.keys",
    "status": "dyno.cli.status",
    "bench": "dyno.cli.bench.command",
}

_HELP = """A Dynamo-style, eventually consistent key-value store that stays writable.

To try it, run `dyno cluster` in one shell, and in another:
`dyno put fruit apple red`, `dyno get fruit apple`, `dyno status`."""

_COMPLETING = "_DYNO_COMPLETE"  # the shell's completion sets it


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    try:
        try:
            code = _run(list(arguments))
        finally:
            output.flush()
    except SystemExit:
        raise  # shell completion ends so
    except BaseException as error:  # noqa: BLE001 - the last stop of every error
        return report(error)
    return code if isinstance(code, int) else 0


def _run(arguments: list[str]) -> object:
    if arguments and arguments[0] in COMMANDS and _COMPLETING not in os.environ:
        name, *rest = arguments
        return _alone(name).main(args=rest, prog_name=f"dyno {name}", standalone_mode=False)
    return _whole().main(args=arguments, prog_name="dyno", standalone_mode=False)


def _alone(name: str) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    app.command(name, cls=TextCommand)(_function(name))
    return get_command(app)


def _whole() -> Any:
    app = typer.Typer(help=_HELP, rich_markup_mode="markdown", pretty_exceptions_enable=False)
    app.callback(cls=CommandGroup, invoke_without_command=True)(_top)
    for name in COMMANDS:
        app.command(name, cls=TextCommand)(_function(name))
    return get_command(app)


def _function(name: str) -> Callable[..., None]:
    function: Callable[..., None] = getattr(import_module(COMMANDS[name]), name)
    return function


def _top(context: typer.Context, version: Version = False) -> None:
    if context.invoked_subcommand is None and not context.resilient_parsing:
        typer.echo(context.get_help())
