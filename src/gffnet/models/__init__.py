"""The network: backbones, context modules, fusions, pyramids, head; its files (`model_io`), its card (`model_card`)."""
