"""The auxiliary head against its layers, one by one."""

import torch
import torch.nn.functional as F

from gffnet.training.task import AuxiliaryHead


def test_it_is_a_block_a_classifier_and_a_resize() -> None:
    head = AuxiliaryHead(6, 5).double().eval()
    x = torch.randn(2, 6, 4, 7, dtype=torch.float64)
    block, _, classifier = head.layers
    hidden = F.relu(block.norm(F.conv2d(x, block.conv.weight, padding=1)))
    assert hidden.shape[1] == 256
    wanted = F.interpolate(
        F.conv2d(hidden, classifier.weight, classifier.bias), (31, 53), mode="bilinear", align_corners=False
    )
    assert torch.allclose(head(x, (31, 53)), wanted, atol=1e-12)


def test_dropout_acts_in_training_only_and_on_whole_channels() -> None:
    head = AuxiliaryHead(6, 5, dropout=0.5)
    dropped = head.layers[1](torch.ones(1, 256, 2, 2))
    by_channel = dropped.flatten(2)[0]
    assert set(by_channel.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(by_channel.amin(1), by_channel.amax(1))
    assert torch.equal(head.eval().layers[1](torch.ones(1, 256, 2, 2)), torch.ones(1, 256, 2, 2))
