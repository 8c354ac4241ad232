"""The example runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "shopping_cart.py"


def test_the_shopping_cart_merges_and_loses_nothing() -> None:
    ran = subprocess.run([sys.executable, EXAMPLE], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "merged:   {'book': 1, 'lamp': 1, 'milk': 2}" in ran.stdout
    assert "updated:  {'book': 1, 'milk': 2}" in ran.stdout
