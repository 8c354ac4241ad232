"""The words that start dyno again: for child processes, and for people to paste into another shell.

A pasted command must work there without this shell's virtual environment, search path or directory, so it
names this very program by its full path, unless plain `dyno` finds it everywhere.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path


def own_command() -> list[str]:
    """The words that run this program, for a child that inherits environment and directory."""
    # A module beside the user must not shadow one of ours, unless we were found there ourselves.
    return [sys.executable, *(["-P"] if _script() is not None else []), "-m", "dyno"]


def pasted(arguments: Sequence[str]) -> str:
    """A line for any shell on this machine that runs dyno with these arguments."""
    return f"{_program()} {shlex.join(arguments)}"


def _script() -> Path | None:
    """The console script that was started, if it was one."""
    script = Path(sys.argv[0])
    return script.absolute() if script.name == "dyno" and script.is_file() else None


def _program() -> str:
    script = _script()
    if script is not None:
        return "dyno" if _found_everywhere(script) else shlex.quote(str(script))
    module = f"{shlex.quote(sys.executable)} -m dyno"
    try:
        distribution("dyno")
    except PackageNotFoundError:  # run from its source tree
        return f"PYTHONPATH={shlex.quote(str(Path(__file__).parents[2]))} {module}"
    return module


def _found_everywhere(script: Path) -> bool:
    found = shutil.which("dyno")
    if found is None or not script.samefile(found):
        return False
    return sys.prefix == sys.base_prefix or not Path(found).is_relative_to(sys.prefix)
