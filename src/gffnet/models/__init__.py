"""The network of the paper: backbones, contexts, fusions, pyramids, head."""
