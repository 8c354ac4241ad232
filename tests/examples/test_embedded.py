"""The example runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "embedded.py"


def test_nodes_in_a_program_serve_and_one_of_them_may_stop() -> None:
    ran = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [
        "members:  ['n1', 'n2', 'n3']",
        "stored:   20 readings, each on 3 nodes",
        "read:     {'sensor-00': 20.5, 'sensor-01': 20.5, 'sensor-02': 20.5}",
        "missing:  ['sensor-99']",
        "listed:   19 keys",
        "written:  two are enough on 2 nodes",
    ]
