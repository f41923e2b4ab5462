"""What an exported file says of itself: one JSON text, in an `.onnx` file as the property `gffnet`, in a `.pt2` file as
the extra file `gffnet.json`."""

import dataclasses
import json
from pathlib import Path
from typing import Literal

from gffnet.errors import UserError
from gffnet.inference.model_folder import ModelConfig
from gffnet.recipe import from_mapping, validated

COMPILED = ".aoti.pt2"
"""What the name of a package of AOTInductor ends with; it is a kind of `.pt2` file."""
PROPERTY = "gffnet"
EXTRA_FILE = "gffnet.json"


@validated
class ExportRecord:
    """Model, protocol and origin of an exported file, and what goes in and comes out."""

    gffnet: str
    """Version of gffnet that wrote it."""
    weights: str
    """SHA-256 of the weights that were exported, as `Predictor.weights` has it."""
    precision: Literal["float32", "bfloat16", "float16"]
    """Number format that it computes in."""
    smallest: int
    """The least height and width of an image, in pixels."""
    image: str
    """What goes in."""
    labels: str
    """The first output."""
    probabilities: str
    """The second output."""
    config: ModelConfig
    """Network, classes, palette, data set, recipe and protocol, as `config.json` of a model folder has them."""

    def to_text(self) -> str:
        """The record as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1)


def read_record(text: str | None, path: Path) -> ExportRecord:
    """The record in the file `path`, checked.

    Raises:
        UserError: the file has none, or one of another version.
    """
    if not text:
        raise UserError(
            f"model {path} says nothing of its classes and its protocol, so it was not written by gffnet. Give a file "
            "that `gffnet export` wrote, or a run folder."
        )
    try:
        return from_mapping(ExportRecord, json.loads(text), f"model {path}")
    except json.JSONDecodeError as error:
        raise UserError(f"model {path}: what it says of itself is not valid: {error}. Export it again.") from None
