"""Data sets read from their native releases, the paper's training augmentation, and the stream of training samples."""

from gffnet.deferred import deferred

# torchvision imports torch's compiler, which takes two seconds, for a function that no data set calls.
with deferred("torch._dynamo", "torch._dynamo.utils"):
    import torchvision.tv_tensors  # noqa: F401
