"""Standard output: bytes exactly as given, and silence when nobody reads any more.

Text is always UTF-8, whatever the locale says, so that what `dyno get` prints is what was stored.
A reader that has gone (`dyno get b k | head -c1`) is no error: `ReaderGone` ends the command quietly.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Never


class ReaderGone(Exception):
    """The other end of the pipe is closed; there is nobody to tell."""


def line(text: str) -> None:
    """One line, as UTF-8."""
    raw(text.encode(errors="surrogateescape") + b"\n")  # paths keep their bytes


def announce(*lines: str) -> None:
    """Lines of a program that goes on whether somebody reads them or not."""
    try:
        for text in lines:
            line(text)
        flush()
    except (OSError, ReaderGone):
        pass


def raw(data: bytes) -> None:
    if sys.stdout is None:
        return  # started with stdout closed
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
    except OSError as error:
        _lost(error)


def flush() -> None:
    """Everything written has reached the reader; raises OSError when it could not, as `raw` does."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except OSError as error:
        _lost(error)


def document(value: Any) -> None:
    """One JSON document on one line."""
    import json

    line(json.dumps(value, ensure_ascii=False, allow_nan=False))


def is_terminal() -> bool:
    return sys.stdout is not None and sys.stdout.isatty()


def _lost(error: OSError) -> Never:
    """What is still buffered goes nowhere, so that the interpreter's last flush cannot fail aloud."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    if isinstance(error, BrokenPipeError):
        raise ReaderGone from None
    raise OSError(error.errno, error.strerror, "standard output") from None
