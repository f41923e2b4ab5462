"""The page about a run: gathered, filled in, written."""
