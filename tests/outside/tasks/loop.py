"""A training loop of one's own, with the auxiliary head."""

import torch
from torch.nn.functional import cross_entropy

import gffnet

torch.manual_seed(0)
images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
labels = (images[:, 0] > 127).long()
net = gffnet.GFFNet("resnet18", num_classes=2, channels=64)
auxiliary = gffnet.AuxiliaryHead(net.backbone.channels[2], num_classes=2)
optimizer = torch.optim.AdamW([*net.parameters(), *auxiliary.parameters()], lr=1e-3)
losses = []
for _ in range(4):
    maps, context = net.features(images)
    logits = net.decode(net.reduce(maps, context, (64, 96)))
    loss = cross_entropy(logits, labels) + 0.4 * cross_entropy(auxiliary(maps[2], (64, 96)), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
