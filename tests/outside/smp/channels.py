import segmentation_models_pytorch as smp

net = smp.FPN("resnet18", encoder_weights=None, classes=19, decoder_pyramid_channels=128)
print(f"{sum(p.numel() for p in net.parameters()) / 1e6:.1f} M parameters")
