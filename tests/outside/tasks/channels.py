"""A fusion of 128 channels, at strides of 4 to 32."""

import gffnet

net = gffnet.GFFNet("resnet18", num_classes=19, channels=128, output_stride=32)
print(sum(p.numel() for p in net.parameters()), net.head.classifier.weight.shape[1])
