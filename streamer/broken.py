"""What is said where this installation is not whole. Imports nothing but Python's own, which is always there."""

from __future__ import annotations

import shlex
import sys


def broken(error: ImportError) -> str:
    """One line: what is missing, and the command that mends it."""
    again = f"{shlex.quote(sys.executable)} -m pip install ."
    return f"error: this installation is broken or too old: {error}; in vividstream's folder: {again}"
