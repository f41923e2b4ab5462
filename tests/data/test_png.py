import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gffnet.data.io import decode_png, read_image, read_labels
from gffnet.errors import UserError
from tests.data.trees import ids, picture, raw_png, real, save


@given(st.integers(1, 40), st.integers(1, 40), st.booleans(), st.integers(0, 9), st.integers(0, 99))
def test_pixels_are_those_that_were_written(height: int, width: int, grey: bool, level: int, seed: int) -> None:
    pixels = picture(seed, (height, width))
    pixels = pixels[..., 0] if grey else pixels
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=level)
    decoded = decode_png(file.getvalue())
    assert decoded is not None
    np.testing.assert_array_equal(decoded, pixels)


def test_the_real_release_comes_out_as_pillow_has_it() -> None:
    files = [*sorted(real("CamVid").glob("val/*.png"))[::25], *sorted(real("CamVid").glob("valannot/*.png"))[::25]]
    for path in files:
        decoded = decode_png(path.read_bytes())
        assert decoded is not None
        np.testing.assert_array_equal(decoded, np.asarray(Image.open(path)))


def test_what_is_not_plain_is_left_to_pillow(tmp_path: Path) -> None:
    rgb, grey = picture(0), picture(0)[..., 0]
    exif = Image.Exif()
    exif[0x0112] = 6
    transparent = tmp_path / "transparent.png"
    Image.fromarray(grey).save(transparent, transparency=3)
    turned = tmp_path / "turned.png"
    Image.fromarray(rgb).save(turned, exif=exif)
    palette = tmp_path / "palette.png"
    Image.fromarray(grey % 4).convert("P").save(palette)
    alpha = save(tmp_path / "alpha.png", np.dstack([rgb, grey]))
    sixteen = save(tmp_path / "sixteen.png", grey.astype(np.uint16))
    interlaced = bytearray(save(tmp_path / "plain.png", rgb).read_bytes())
    interlaced[28] = 1
    jpeg = save(tmp_path / "photo.jpg", rgb)
    for path in (transparent, turned, palette, alpha, sixteen, jpeg):
        assert decode_png(path.read_bytes()) is None, path.name
    assert decode_png(bytes(interlaced)) is None
    assert read_image(turned).shape == (3, 16, 12)


def test_what_libpng_warns_of_is_kept_from_it(capfd: pytest.CaptureFixture[str]) -> None:
    """A colour profile that is none, of which it would print a warning with every reading."""
    file = io.BytesIO()
    Image.fromarray(picture(0)).save(file, "PNG", icc_profile=b"no profile", pnginfo=None)
    assert b"iCCP" in file.getvalue()
    decoded = decode_png(file.getvalue())
    assert decoded is not None
    np.testing.assert_array_equal(decoded, picture(0))
    assert capfd.readouterr() == ("", "")


def test_a_bomb_is_left_to_pillow() -> None:
    assert decode_png(raw_png(60_000, 60_000, 8, 0, [b"\0" * 10])) is None


@given(st.data())
def test_no_damaged_file_yields_other_pixels(data: st.DataObject) -> None:
    """Whatever is changed in a file: it is refused, or the pixels are the old ones."""
    content = bytearray(raw_png(16, 12, 8, 0, [row.tobytes() for row in ids(0, 255)]))
    expected = ids(0, 255)
    cut = data.draw(st.integers(0, len(content)))
    if data.draw(st.booleans()):
        content = content[:cut]
    for _ in range(data.draw(st.integers(1, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    decoded = decode_png(bytes(content))
    if decoded is not None:
        np.testing.assert_array_equal(decoded, expected)


@pytest.mark.parametrize("length", [0, 7, 8, 20, 33, 60, 100])
def test_files_cut_short_are_named(tmp_path: Path, length: int) -> None:
    path = save(tmp_path / "a.png", picture(0))
    path.write_bytes(path.read_bytes()[:length])
    for read in (read_image, read_labels):
        with pytest.raises(UserError, match=r"cannot read image .*a\.png"):
            read(path)


def test_a_wrong_check_sum_is_damage(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", ids(0, 200))
    content = bytearray(path.read_bytes())
    at = content.index(b"IDAT")
    length = struct.unpack_from(">I", content, at - 4)[0]
    content[at + 4 + length] ^= 1
    path.write_bytes(content)
    assert decode_png(bytes(content)) is None
    with pytest.raises(UserError, match="damaged or cut short"):
        read_labels(path)
