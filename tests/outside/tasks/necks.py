"""Gated Fully Fusion in an encoder of segmentation_models_pytorch and in a model of torchvision."""

import segmentation_models_pytorch as smp
import torch
from torchvision.models import mobilenet_v3_small
from torchvision.models.feature_extraction import create_feature_extractor

import gffnet

images = torch.rand(2, 3, 64, 96)
encoder = smp.encoders.get_encoder("resnet18", weights=None)
fusion = gffnet.GatedFullyFusion(encoder.out_channels[2:], channels=64)
print("smp", [tuple(x.shape) for x in fusion(encoder(images)[2:])])

body = create_feature_extractor(mobilenet_v3_small(), ["features.1", "features.3", "features.8", "features.12"])
maps = list(body(images).values())
fusion = gffnet.GatedFullyFusion([x.shape[1] for x in maps], channels=64)
print("torchvision", [tuple(x.shape) for x in fusion(maps)])
