"""gffnet: scene parsing with Gated Fully Fusion and the Dense Feature Pyramid (Li et al., AAAI-20).

Importing `gffnet` is cheap: torch is loaded when a name that needs it is first used.
"""

import os
from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("gffnet")

# Idle OpenMP threads spin, which slows down other processes (docs/speed.md). OpenMP reads for how long when torch is
# loaded; what the user has set stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # of GNU's library, in rounds
    os.environ.setdefault("KMP_BLOCKTIME", "1")  # of Intel's and LLVM's, in milliseconds

_HOME = {
    "GatedFullyFusion": "gffnet.models.fusion",
    "DenseFeaturePyramid": "gffnet.models.pyramid",
    "SegmentationModel": "gffnet.models.gffnet",
    "GFFNet": "gffnet.models.gffnet",
    "PSPNet": "gffnet.models.gffnet",
    "load_model": "gffnet.models.gffnet",
    "build_network": "gffnet.models.gffnet",
    "load_recipe": "gffnet.recipe",
    "load": "gffnet.inference.predictor",
    "train": "gffnet.training.train",
    "evaluate": "gffnet.evaluation.evaluate",
    "SegmentationTask": "gffnet.training.task",
    "Fusion": "gffnet.models.fusion",
    "Dataset": "gffnet.data.dataset",
    "Classes": "gffnet.data.dataset",
    "LabelTable": "gffnet.data.dataset",
    "Layout": "gffnet.data.dataset",
    "register_fusion": "gffnet.registry",
    "register_pyramid": "gffnet.registry",
    "register_context": "gffnet.registry",
    "register_backbone": "gffnet.registry",
    "register_dataset": "gffnet.registry",
    "register_loss": "gffnet.registry",
    "AuxiliaryHead": "gffnet.training.task",
    "UserError": "gffnet.errors",
    "RunFailed": "gffnet.errors",
    "SlidingWindow": "gffnet.inference.sliding_window",
    "EvaluationRecipe": "gffnet.recipe",
}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'gffnet' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    """All names, those included that are not loaded yet."""
    return sorted({*globals(), *_HOME})
