"""The page docs/training.md: its losses and schedules are those of the package, and its block works."""

import re
import shlex
from typing import get_args

import pytest
import torch

from gffnet.cli.main import make_parser
from gffnet.recipe import LossRecipe, load_recipe
from gffnet.recipe.schema import ScheduleName
from gffnet.training.losses import LOSSES, make_loss
from tests.docs.pages import blocks, read_page

PAGE = read_page("training.md")
SECTION = PAGE.partition("## Losses and schedules")[2].partition("\n## ")[0]


def test_all_losses_and_schedules_are_listed() -> None:
    losses, schedules = (re.findall(r"^\| `(\w+)` \|", part, re.M) for part in SECTION.split("| `training.schedule`"))
    assert losses == ["cross_entropy", "dice", "lovasz", "focal"]
    assert set(losses) <= LOSSES.keys()
    assert tuple(schedules) == get_args(get_args(ScheduleName)[0])


@pytest.mark.parametrize("line", re.findall(r"^gffnet train .*", PAGE, re.M))
def test_its_commands_are_read(line: str) -> None:
    arguments = make_parser().parse_args(shlex.split(line, comments=True)[1:])
    assert (arguments.recipe is None) == isinstance(arguments.resume, str)
    if arguments.recipe is not None:
        load_recipe(arguments.recipe, arguments.set)


def test_a_loss_of_ones_own() -> None:
    (block,) = blocks(SECTION, "python")
    exec(compile(block, "docs/training.md", "exec"), {"__name__": "docs.training"})
    try:
        loss = make_loss(LossRecipe(terms={"cross_entropy": 1, "brier": 0.5}))
    finally:
        del LOSSES["brier"]
    logits, labels = torch.zeros(1, 4, 2, 2), torch.tensor([[[0, 1], [3, 255]]])
    mean = loss(logits, labels) / loss.weight(labels)
    assert mean.item() == pytest.approx(torch.tensor(4.0).log().item() + 0.5 * (0.75**2 + 3 * 0.25**2))
