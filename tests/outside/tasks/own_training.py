"""A loss, an augmentation and an optimiser of one's own."""

import torch
from shapes import Shapes
from torch import nn
from torchvision.transforms import v2

import gffnet


class MyTask(gffnet.SegmentationTask):
    def configure_optimizers(self):
        return torch.optim.Adagrad(self.parameters(), lr=0.01)


run = gffnet.train(
    "tiny.yaml",
    train_data=Shapes(16),
    val_data=Shapes(4, seed=1),
    classes=3,
    loss=nn.CrossEntropyLoss(ignore_index=255, label_smoothing=0.1),
    transform=v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop((32, 32))]),
    task=MyTask,
    out="own_training",
)
print((run / "run.json").read_text().count("MyTask") > 0, sorted(path.name for path in run.iterdir()))
