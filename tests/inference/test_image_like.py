"""All that a predictor takes for an image."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gffnet.errors import UserError
from gffnet.inference.predictor import as_tensor
from tests import tiny


def test_one_picture_in_every_form(tmp_path: Path) -> None:
    picture = tiny.picture(0, 12, 17)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    expected = torch.from_numpy(picture).permute(2, 0, 1)
    forms = (tmp_path / "picture.png", str(tmp_path / "picture.png"), Image.fromarray(picture), picture, expected)
    for form in forms:
        assert torch.equal(as_tensor(form, 3), expected)


def test_arrays_and_tensors_are_not_copied() -> None:
    picture = tiny.picture(0)
    as_tensor(picture, 3)[0, 0, 0] = 77
    assert picture[0, 0, 0] == 77
    tensor = torch.zeros(3, 4, 5, dtype=torch.uint8)
    assert as_tensor(tensor, 3) is tensor


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_pillows_modes_become_rgb_as_their_files_do(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(tiny.picture(0, 12, 17))
    deep = Image.fromarray(np.arange(12 * 17, dtype=np.uint16).reshape(12, 17) * 321)
    image = deep if mode == "I;16" else picture.convert(mode)
    path = tmp_path / ("image.tif" if mode in {"CMYK", "LA"} else "image.png")
    image.save(path)
    before = image.tobytes()
    assert torch.equal(as_tensor(image, 3), as_tensor(path, 3))
    assert (image.mode, image.tobytes()) == (mode, before)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 5), np.uint8), r"an image is \(4, 5\), but this model takes \(height, width, 3\)"),
        (np.zeros((3, 4, 5), np.uint8), r"an image is \(3, 4, 5\), but this model takes \(height, width, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"an image is \(0, 5, 3\)"),
        (
            torch.zeros(4, 5, 3, dtype=torch.uint8),
            r"an image is \(4, 5, 3\), but this model takes \(3, height, width\)",
        ),
        (np.zeros((4, 5, 3)), r"an image is float64, but this model takes uint8, in 0..255. Scale and convert it"),
        (torch.zeros(3, 4, 5), r"an image is torch.float32, but this model takes uint8"),
        (Image.new("F", (4, 5)), r"the image: float samples have no known white level"),
    ],
)
def test_what_is_no_image(image: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_tensor(image, 3)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read image .*gone.png: there is no such file"):
        as_tensor(tmp_path / "gone.png", 3)
