"""A torch data set of one's own: bright and dark squares on noise, drawn on access."""

import torch


class Shapes(torch.utils.data.Dataset):
    def __init__(self, length, seed=0):
        self.length, self.seed = length, seed

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        random = torch.Generator().manual_seed(1000 * self.seed + index)
        image = torch.randint(96, 160, (3, 64, 64), generator=random, dtype=torch.uint8)
        labels = torch.zeros(64, 64, dtype=torch.int64)
        for label, level in ((1, 255), (2, 0)):
            top, left = torch.randint(0, 48, (2,), generator=random).tolist()
            image[:, top : top + 16, left : left + 16] = level
            labels[top : top + 16, left : left + 16] = label
        return image, labels
