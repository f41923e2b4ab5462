"""A fusion and a data set of one's own, as a plug-in: `maximum`, and images with masks beside them."""

import torch

import gffnet
from gffnet.models.ops import resize, size_of


@gffnet.register_fusion("maximum")
class Maximum(gffnet.Fusion):
    """X̃_l = max_i X_i."""

    def mix(self, reduced, gates):
        return [torch.stack([resize(x, size_of(own)) for x in reduced]).amax(0) for own in reduced]


@gffnet.register_dataset("pairs")
class Pairs(gffnet.Dataset):
    classes = gffnet.Classes.parse("noise #404040, bright #ffffff, dark #000000")
    table = gffnet.LabelTable({0: 0, 1: 1, 2: 2})
    layout = gffnet.Layout.of_patterns("pairs", "{split}/*.jpg", "{split}/{stem}.png")
