"""Serve an exported model over HTTP, without gffnet and torch: an image is posted, its labels come back as a PNG.

    gffnet export --to openvino --out model.xml
    pip install openvino starlette uvicorn pillow numpy
    MODEL=model.xml uvicorn serve:app --app-dir examples --port 8000
    curl --data-binary @photo.jpg http://localhost:8000/ --output labels.png

The PNG has the size of the photograph and a palette: its pixels are class indices, shown in the classes' colors. Large
photographs are downscaled as `gffnet predict` does.
"""

import io
import json
import math
import os

import numpy as np
import openvino
from PIL import Image, ImageOps
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

LARGEST_UPLOAD, Image.MAX_IMAGE_PIXELS = 20_000_000, 12_000_000  # bytes; pixels: twice as many are an error to Pillow
CORES = str(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else str(os.cpu_count())
CORE = openvino.Core()
MODEL = CORE.read_model(os.environ.get("MODEL", "model.xml"))
ABOUT = json.loads(MODEL.get_rt_info(["gffnet", "record"]).astype(str))
LABELS = openvino.Model([MODEL.output("labels")], MODEL.get_parameters())  # the probabilities are not computed
COMPILED = CORE.compile_model(LABELS, "CPU", {"INFERENCE_NUM_THREADS": CORES, "INFERENCE_PRECISION_HINT": "f32"})
openvino.Tensor(np.zeros(1))  # its first look at an array, in several threads at once, may block all of them forever


def working_size(width: int, height: int) -> tuple[int, int]:
    """Return the size to predict at: a smaller one for more than four times the pixels of the training images."""
    config = ABOUT["config"]
    if config["evaluation"]["crop"] or not config["learned_from"]:
        return width, height
    ratio = math.sqrt(width * height / math.prod(config["learned_from"]))
    least, scale = ABOUT["smallest"], 1.5 / ratio if ratio > 2 else 1
    return max(least, round(scale * width)), max(least, round(scale * height))


def segment(data: bytes) -> Response:
    """Return the labels of an image file as a PNG, or what is wrong with the file."""
    try:
        image = Image.open(io.BytesIO(data))
        if min(image.size) < ABOUT["smallest"] or image.width * image.height > Image.MAX_IMAGE_PIXELS:
            return Response(f"{image.width}x{image.height} pixels are too few or too many\n", 422)
        image = ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # a damaged file raises anything
        return Response(f"not an image that can be read: {error}\n", 415)
    scaled = image.resize(working_size(*image.size), Image.Resampling.BILINEAR)
    pixels = np.ascontiguousarray(np.asarray(scaled).transpose(2, 0, 1)[None])
    mask = Image.fromarray(COMPILED.create_infer_request().infer({"image": pixels})["labels"][0])
    mask = mask.resize(image.size, Image.Resampling.NEAREST)
    mask.putpalette(np.asarray(ABOUT["config"]["palette"], np.uint8).tobytes())
    mask.save(file := io.BytesIO(), "PNG")
    return Response(file.getvalue(), media_type="image/png")


async def post(request: Request) -> Response:
    """Read the body as far as it is allowed to go, and segment it beside the event loop."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > LARGEST_UPLOAD:
            return Response(f"larger than {LARGEST_UPLOAD} bytes\n", 413)
    return await run_in_threadpool(segment, bytes(data)) if data else Response("post an image file\n", 400)


app = Starlette(routes=[Route("/", post, methods=["POST"])])
