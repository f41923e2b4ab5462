"""`python -m gffnet`, and so `torchrun -m gffnet`: the command line."""

from gffnet.cli.main import script

script()
