"""The network of the paper: backbones, context modules, fusions, pyramids, head."""
