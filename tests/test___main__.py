"""`python -m gffnet` is the command line."""

import subprocess
import sys

import gffnet


def test_it_is_the_command_line() -> None:
    command = [sys.executable, "-m", "gffnet", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == f"gffnet {gffnet.__version__}"
