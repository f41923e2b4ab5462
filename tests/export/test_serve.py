"""`examples/serve.py`: a server without torch, asked by four clients at once, with bad inputs among them."""

import io
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gffnet.data.camvid import CAMVID
from gffnet.inference.predictor import load
from tests import tiny
from tests.export.networks import exported_file
from tests.training.processes import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
CODE = """
import sys, uvicorn, serve
assert not {"torch", "gffnet"} & set(sys.modules)
sys.setswitchinterval(1e-6)  # threads get into each other's way
uvicorn.run(serve.app, port=int(sys.argv[1]), log_level="error")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of images of 60x100, of which 75x131 has not four times the pixels, and 240x400 sixteen times."""
    file = exported_file("openvino", tmp_path_factory.mktemp("served"))
    text = file.read_text()
    changed = re.sub(r"(&quot;|\")learned_from\1: null", r"\1learned_from\1: [60, 100]", text)
    assert changed != text
    file.write_text(changed)
    return file


@pytest.fixture(scope="module")
def port(model: Path) -> Iterator[int]:
    """The port of a running server."""
    number = free_port()
    environment = {**os.environ, "MODEL": str(model), "PYTHONPATH": str(EXAMPLES)}
    server = subprocess.Popen([sys.executable, "-c", CODE, str(number)], env=environment)
    try:
        for _ in range(600):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", number)) == 0:
                    break
            assert server.poll() is None
            time.sleep(0.1)
        yield number
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:  # it hangs
            server.kill()
            raise


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    image.save(file := io.BytesIO(), kind)
    return file.getvalue()


PHOTO = Image.fromarray(tiny.picture(3, 75, 131))
ASKED = [
    ("POST", encoded(PHOTO), 200),
    ("POST", encoded(PHOTO.convert("L")), 200),
    ("POST", b"no image", 415),
    ("POST", encoded(PHOTO, "JPEG")[:-900], 415),
    ("POST", b"", 400),
    ("POST", encoded(PHOTO.resize((20, 15))), 422),
    ("POST", encoded(Image.new("1", (6000, 3000))), 422),
    ("POST", bytes(20_000_001), 413),
    ("GET", b"", 405),
]


def ask(port: int, method: str, body: bytes) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, "/", body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_four_clients_with_bad_inputs_among_them(port: int, model: Path) -> None:
    asked = ASKED * 4
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(lambda each: ask(port, each[0], each[1]), asked))
    assert [status for status, _ in answers] == [status for *_, status in asked]
    labels = Image.open(io.BytesIO(answers[0][1]))
    expected = load(model).predict(PHOTO)
    np.testing.assert_array_equal(np.asarray(labels), expected)
    colors = np.asarray(CAMVID.palette, np.uint8)
    np.testing.assert_array_equal(np.asarray(labels.convert("RGB")), colors[expected])


def test_a_large_photograph_is_downscaled(port: int, model: Path) -> None:
    large = Image.fromarray(tiny.picture(4, 240, 400))
    status, content = ask(port, "POST", encoded(large))
    assert status == 200
    small = load(model).predict(large.resize((150, 90), Image.Resampling.BILINEAR), scales=1)
    expected = Image.fromarray(small).resize((400, 240), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(expected))
