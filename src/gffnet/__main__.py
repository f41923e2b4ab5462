"""`python -m gffnet`, and so `torchrun -m gffnet`: the command line."""

import sys

from gffnet.cli.main import script

sys.exit(script())
