import torch
from torch import nn

from gffnet.models.ops import ConcatConv2d, LevelSum, PooledConv2d, use_reference


def parts():
    return nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.ModuleList([ConcatConv2d([1, 1], 1, 3), LevelSum(True)]), PooledConv2d(1, 1, 1, 1)
    )


def forms(module):
    return [part.plain for part in module.modules() if hasattr(part, "plain")]


def test_modules_start_in_the_cheap_form():
    assert forms(parts()) == [False, False, False]


def test_set_plain_reaches_every_part_and_goes_both_ways():
    module = parts()
    use_reference(module)
    assert forms(module) == [True, True, True]
    use_reference(module, False)
    assert forms(module) == [False, False, False]


def test_the_form_is_neither_parameter_nor_buffer():
    module = parts()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    use_reference(module)
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
