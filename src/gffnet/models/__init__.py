"""The network: backbones, context modules, fusions, pyramids, head; its files (`model_io`), its card (`model_card`)."""

from gffnet.deferred import deferred

# torchvision and timm import torch's compiler, which takes a second, for two functions that hardly any model calls;
# timm imports wandb where it is installed.
with deferred("torch._dynamo", "torch._dynamo.utils", "wandb"):
    import timm  # noqa: F401
