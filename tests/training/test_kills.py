"""A run that is killed at any moment, also while it writes a checkpoint, ends as one that is not."""

import random
from pathlib import Path

from tests.data.trees import camvid_tree
from tests.training.kills import finish, kills, recipe, same, start


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    """`python -m tests.training.kills` does this with twenty kills."""
    root = camvid_tree(tmp_path / "CamVid")
    of = recipe(iterations=40)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    finish(start(whole, root, of, threads=1))
    struck = list(kills(4, broken, root, of, random.Random(3)))
    assert [kill.writing for kill in struck] == [False, True, False, True]
    assert same(whole, broken)
