"""The gate explorer of stock Gradio components, in one file, for a Space on the Hugging Face hub.

    pip install gffnet gradio
    python examples/gradio_explorer.py                  # the model that ships with gffnet
    python examples/gradio_explorer.py someone/model    # or a run folder, a model folder, a checkpoint

For a Space, copy this file there as `app.py`, beside a `requirements.txt` of two lines, `gffnet` and `gradio`; its
variable GFFNET_MODEL names the model. On a machine of your own, `gffnet explore` does more, and faster.
"""

import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gffnet
from gffnet.app.session import reduce_image
from gffnet.app.uploads import check_size
from gffnet.data.colors import highlight, legend, overlay
from gffnet.errors import UserError
from gffnet.gates.edit import GatedImage, GateEdit, gate_count
from gffnet.gates.figures import gate_colors
from gffnet.inference.predictor import Predictor
from gffnet.streets import render_street

MAX_SIDE = 768
"""Larger images are reduced to this longer side in pixels."""

Image = NDArray[np.uint8]


class Opened:
    """An image that was encoded once, and everything that the page shows of it with scaled gates."""

    def __init__(self, predictor: Predictor, image: Image) -> None:
        """Encode an RGB image (H, W, 3).

        Raises:
            UserError: it is too large, too small or too narrow.
        """
        check_size((image.shape[0], image.shape[1]), MAX_SIDE)
        self.image: Image = reduce_image(image, MAX_SIDE)
        self.gated = GatedImage(predictor, self.image)
        self.classes, self.palette = predictor.config.classes, predictor.config.palette

    def fuse(self, opacity: float, *scales: float) -> tuple[tuple[Image, Image], Any, Image, str]:
        """Scale gate 1, 2, ... by 0..2 and predict.

        Returns the pictures before and after, the image with a mask for every class, the changed pixels, their share.
        """
        closing = self.gated.edit({level: GateEdit(scale) for level, scale in enumerate(scales, 1)})
        labels = self.gated.learned.prediction, closing.prediction
        before, after = (overlay(self.image, each, self.palette, opacity) for each in labels)
        masks = [(closing.prediction == label, self.classes[label]) for label in np.unique(closing.prediction)]
        share = f"**{100 * closing.share:.1f} %** of the pixels changed."
        return (before, after), (self.image, masks), highlight(self.image, closing.changed), share

    def maps(self, *scales: float) -> list[tuple[Image, str]]:
        """Color the gate maps, each over its own range, which its caption names."""
        shown = []
        for level, (learned, scale) in enumerate(zip(self.gated.learned.maps, scales, strict=True), 1):
            gate = np.minimum(scale * learned, 1)
            low, high = np.percentile(gate, (1, 99))
            colors = gate_colors(np.clip((gate - low) / max(high - low, 0.01), 0, 1))
            shown.append((colors, f"G{level} × {scale:.2f}: {low:.2f} to {high:.2f}"))
        return shown


def build(predictor: Predictor) -> Any:
    """Build the page; raises `UserError` for a model without gates."""
    import gradio as gr

    config = predictor.config
    colors = dict(legend(config.classes, config.palette))

    def open_image(image: Image | None, *values: float) -> list[Any]:
        if image is None:
            return [None, *[None] * 5]
        try:
            opened = Opened(predictor, image)
        except UserError as error:
            raise gr.Error(str(error)) from error
        return [opened, *show(opened, *values)]

    def show(opened: Opened | None, *values: float) -> list[Any]:
        return [None] * 5 if opened is None else [*opened.fuse(*values), opened.maps(*values[1:])]

    with gr.Blocks(title="Gate explorer") as page:
        gr.Markdown("# Gate explorer\nScale the gates of a GFFNet, and see what changes. 1: as learned, 0: closed.")
        opened = gr.State(None, time_to_live=3600)
        with gr.Row():
            with gr.Column(scale=2):
                with gr.Tab("Before and after"):
                    pair = gr.ImageSlider(label="as learned | edited", type="numpy")
                with gr.Tab("Classes"):
                    classes = gr.AnnotatedImage(label="edited; point at a class", color_map=colors)
                with gr.Tab("Changed"):
                    changed = gr.Image(label="changed pixels", interactive=False)
                share = gr.Markdown()
                maps = gr.Gallery(label="gate maps", columns=4, height="auto")
            with gr.Column(scale=1):
                image = gr.Image(render_street(36, (384, 768)).image, label="image", sources=["upload", "clipboard"])
                scales = [gr.Slider(0, 2, 1, label=f"gate {i}") for i in range(1, gate_count(predictor) + 1)]
                controls = [gr.Slider(0, 1, 0.5, label="opacity of the colors"), *scales]
        shown = [pair, classes, changed, share, maps]
        gr.on([page.load, image.change], open_image, [image, *controls], [opened, *shown], concurrency_id="network")
        for control in controls:
            control.release(show, [opened, *controls], shown, concurrency_id="network", trigger_mode="always_last")
    return page


if __name__ == "__main__":
    model = os.environ.get("GFFNET_MODEL") or next(iter(sys.argv[1:]), None)
    build(gffnet.load(model)).queue(max_size=32).launch()
