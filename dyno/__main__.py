"""The console script `dyno`, and `python -m dyno`.

Most commands are over before a garbage collection could free anything, so they run without: collections took
a sixth of `dyno get`, most of it the interpreter's last one. Commands that stay turn them on again.
"""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command that the arguments name and exit with its code."""
    gc.disable()
    try:
        from dyno.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while still importing
        code = 130
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
