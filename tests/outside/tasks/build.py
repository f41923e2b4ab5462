"""A network for 5 classes and images of 4 channels."""

import torch

import gffnet

net = gffnet.GFFNet("resnet18", num_classes=5, in_channels=4)
logits, gates = net(torch.randint(0, 256, (2, 4, 64, 96), dtype=torch.uint8))
print(tuple(logits.shape), [tuple(gate.shape) for gate in gates])
