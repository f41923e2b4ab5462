"""Uploads: hostile files are refused in one line, strange ones are read as the image that they hold."""

import tempfile
import time

import numpy as np
import pytest
from PIL import Image

from gffnet.app.uploads import MAX_BYTES, MAX_PIXELS, check_size, read_upload
from gffnet.errors import UserError
from tests import tiny
from tests.app import hostile


@pytest.mark.parametrize("name", hostile.REFUSED)
def test_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    content = hostile.REFUSED[name]()
    started = time.perf_counter()
    with pytest.raises(UserError) as caught:
        read_upload(content, 1024)
    assert time.perf_counter() - started < 30
    said = str(caught.value)
    assert "this image" in said or "this file" in said
    assert "\n" not in said
    assert len(said) < 300
    assert str(tmp_path) not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", hostile.READ)
def test_read(name, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    make, size = hostile.READ[name]
    image = read_upload(make(), 1024)
    assert (image.dtype, image.shape) == (np.uint8, (*size, 3))
    assert image.std() > 20
    assert list(tmp_path.iterdir()) == []


def test_pixels_are_those_of_the_file():
    assert np.array_equal(read_upload(hostile.encoded("PNG"), 1024), tiny.picture(5, 96, 128))


def test_an_image_is_turned_upright():
    upright = read_upload(hostile.READ["jpeg held upright"][0](), 1024)
    lying = read_upload(hostile.encoded("JPEG"), 1024)
    assert np.array_equal(upright, np.rot90(lying, -1))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("svg with a script", "not an image of an accepted format: PNG, JPEG, WEBP, BMP, TIFF"),
        ("png of 4 gigapixels", "65535 x 65535 pixels, and at most 64 million"),
        ("png of 65 megapixels", "13000 x 5000 pixels, and at most 64 million"),
        ("more than 32 MiB", "32 MiB"),
        ("png cut short", "damaged or cut short"),
        ("nothing", "empty"),
        ("one row", "600 x 1 pixels: each side must have at least 32"),
        ("too narrow once it is reduced", "too narrow"),
        ("tiff of floats", "float samples have no known white level"),
    ],
)
def test_reasons(name, said):
    with pytest.raises(UserError, match=said):
        read_upload(hostile.REFUSED[name](), 1024)


def test_a_bomb_is_not_decoded(monkeypatch):
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    for name in ("png of 4 gigapixels", "png of 65 megapixels", "bmp of a million columns"):
        with pytest.raises(UserError):
            read_upload(hostile.REFUSED[name](), 1024)


def test_the_limits_themselves_are_within():
    check_size((8000, 8000), 1024)
    check_size((32, 1024), 1024)
    check_size((64, 2048), 1024)
    for size in ((8001, 8000), (31, 1024), (64, 2050)):
        with pytest.raises(UserError):
            check_size(size, 1024)
    assert (MAX_BYTES, MAX_PIXELS) == (32 * 2**20, 64_000_000)
