import segmentation_models_pytorch as smp
import torch
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
images = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8)
labels = (images[:, 0] > 127).long()
net = smp.FPN("resnet18", encoder_weights=None, classes=2)
mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
images = (images - mean[:, None, None]) / std[:, None, None]
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
losses = []
for _ in range(4):
    loss = cross_entropy(net(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
