import segmentation_models_pytorch as smp
import torch

net = smp.FPN("resnet18", encoder_weights=None, in_channels=4, classes=5)
logits = net(torch.rand(2, 4, 64, 96))
print(tuple(logits.shape))
