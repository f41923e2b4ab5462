"""Backbones: an image in, the pyramid `X_1..X_4` out."""
