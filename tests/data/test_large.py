"""Images that are read a few rows at a time, the limit on pixels, and PNGs that are written row by row."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from gffnet.data import large
from gffnet.data.io import lifted_limit, read_header, read_image, read_input, read_labels
from gffnet.data.large import LargeImage, open_large, write_png
from gffnet.errors import CannotWrite, UserError
from tests.data.trees import picture
from tests.full_disk import full_after

RGB = picture(0, (90, 70))
GREY = RGB[..., 0]
DEEP = (RGB.astype(np.uint16) * 16)[..., [0, 1, 2, 0]]
ROOM = 10**9


def tiff(pixels: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: tifffile.imwrite(path, pixels, **options)


TIFFS = {
    "strips": tiff(RGB, photometric="rgb", rowsperstrip=8),
    "tiles": tiff(RGB, photometric="rgb", tile=(16, 32), compression="deflate", predictor=True),
    "lzw": tiff(GREY, photometric="minisblack", rowsperstrip=7, compression="lzw"),
    "white is 0": tiff(GREY, photometric="miniswhite", tile=(32, 16)),
    "one plane a band": tiff(np.moveaxis(RGB, 2, 0), photometric="rgb", planarconfig="separate", tile=(16, 16)),
    "alpha": tiff(np.dstack([RGB, GREY]), photometric="rgb", extrasamples=["unassalpha"], rowsperstrip=8),
    "JPEG": tiff(RGB, photometric="ycbcr", tile=(32, 32), compression="jpeg", subsampling=(1, 1)),
    "four bands of 16 bits": tiff(DEEP, photometric="minisblack", planarconfig="contig", rowsperstrip=8),
    "big-endian": tiff(DEEP[..., 0], photometric="minisblack", byteorder=">", rowsperstrip=8),
    "BigTIFF": tiff(RGB, photometric="rgb", bigtiff=True, tile=(16, 16)),
    "white level": tiff(DEEP[..., 0], photometric="minisblack", rowsperstrip=8, extratags=[(281, 3, 1, 4095, True)]),
    "float": tiff(DEEP[..., 0].astype(np.float32), photometric="minisblack", rowsperstrip=8),
}


def same(image: LargeImage, whole: torch.Tensor, tolerance: int = 0) -> None:
    assert image.shape == tuple(whole.shape)
    for top, bottom, left, right in [(0, 5, 0, 70), (3, 40, 10, 30), (20, 40, 0, 70), (89, 90, 69, 70), (0, 90, 0, 70)]:
        part = image[:, top:bottom, left:right]
        assert part.dtype == whole.dtype
        wanted = whole[:, top:bottom, left:right]
        torch.testing.assert_close(part.float(), wanted.float(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("level", [None, 4095.0])
def test_rows_of_a_tiff_are_those_of_the_whole(
    kind: str, level: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, bands = tmp_path / "a.tif", 4 if kind == "four bands of 16 bits" else 3
    TIFFS[kind](path)
    if kind == "float" and level is None:
        with pytest.raises(UserError, match="float samples have no known white level"):
            open_large(path, 3, None, 40, ROOM)
        return
    whole = read_input(path, bands, level)
    monkeypatch.setattr(large, "read_input", None)  # nothing is decoded whole
    same(open_large(path, bands, level, 40, ROOM), whole, tolerance=2 if kind == "JPEG" else 0)


@pytest.mark.parametrize("array", [GREY, RGB, np.moveaxis(DEEP, 2, 0), DEEP[..., 0].astype(">u2"), GREY > 100])
def test_rows_of_an_array_are_those_of_the_whole(array: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", array)
    bands = 4 if array.ndim == 3 and array.shape[0] == 4 else 3
    whole = read_input(tmp_path / "a.npy", bands, None)
    monkeypatch.setattr(large, "read_input", None)
    same(open_large(tmp_path / "a.npy", bands, None, 40, ROOM), whole)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_rows_of_zeros_at_the_end_do_not_decide_on_white(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The margin of a turned scene. Samples of 8 bits that are stretched to 16 stay what they are."""
    monkeypatch.setattr(large, "bands", lambda height, width: [range(0, 60), range(60, height)])
    for deep in (RGB.astype(np.uint16) * 15, RGB.astype(np.uint16) * 257):
        deep[60:] = 0
        path = tmp_path / f"a{suffix}"
        np.save(path, deep) if suffix == ".npy" else tiff(deep, photometric="rgb", rowsperstrip=8)(path)
        same(open_large(path, 3, None, 40, ROOM), read_input(path, 3, None))


@pytest.mark.parametrize("band", ["unassalpha", "unspecified"])
def test_a_band_that_is_dropped_does_not_decide_on_white(
    band: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alpha and near infrared reach 65535 beside colours of 12 bits."""
    path, more = tmp_path / "a.tif", np.full((90, 70, 1), 65535, np.uint16)
    tiff(np.dstack([RGB.astype(np.uint16) * 15, more]), photometric="rgb", extrasamples=[band], rowsperstrip=8)(path)
    whole = read_input(path, 3, None)
    assert whole.max() > 200
    monkeypatch.setattr(large, "read_input", None)
    same(open_large(path, 3, None, 40, ROOM), whole)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_other_formats_are_decoded_whole_if_they_fit(name: str, tmp_path: Path) -> None:
    Image.fromarray(RGB).convert("CMYK" if name == "a.tif" else "RGB").save(tmp_path / name)
    image = open_large(tmp_path / name, 3, None, 40, 10**5)
    same(image, read_image(tmp_path / name))
    assert image.held == RGB.size
    said = r"to decode its 70x90 pixels takes 1 MB, and 0 MB of the memory are free\. Allow [0-9]+ MB more by"
    with pytest.raises(UserError, match=said):
        open_large(tmp_path / name, 3, None, 40, 10**4)


def test_only_what_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, decode, decoded = tmp_path / "a.tif", tifffile.TiffPage.decode.func, []
    TIFFS["tiles"](path)
    monkeypatch.setattr(
        tifffile.TiffPage,
        "decode",
        property(
            lambda page: lambda data, number, **more: decoded.append(number) or decode(page)(data, number, **more)
        ),
    )
    image = open_large(path, 3, None, 16, ROOM)
    decoded.clear()
    for left in (0, 20, 40):
        image[:, 20:30, left : left + 20]
    assert decoded == [3, 4, 5], "three tiles are side by side, and windows in one row share them"
    assert image.held < 16 * 70 * 3 * 8 + 2 * 16 * 70 * 3


@pytest.mark.parametrize("pixels", [RGB, DEEP[..., :3]])
def test_a_damaged_tiff(pixels: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(16, 16), compression="deflate")
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[-1]
    content = bytearray(path.read_bytes())
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot read image .*a\.tif: it is damaged or cut short \(.*Copy or download"):
        open_large(path, 3, None, 40, ROOM)[:, 80:90, 0:70]


def test_other_channels_and_pages_are_told_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    TIFFS["four bands of 16 bits"](tmp_path / "a.tif")
    with pytest.raises(UserError, match=r"has 4 bands.*but the model takes 3"):
        open_large(tmp_path / "a.tif", 3, 4095, 40, ROOM)
    tifffile.imwrite(tmp_path / "b.tif", np.stack([RGB] * 3), photometric="rgb", rowsperstrip=8)
    with caplog.at_level(logging.WARNING, "gffnet"):
        open_large(tmp_path / "b.tif", 3, None, 40, ROOM)
    assert "the first of 3 pages is used" in caplog.text


def test_a_thinned_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "_AT_ONCE", 7 * 2100)
    image = LargeImage(
        (1, 50, 2100), lambda rows: torch.arange(50)[None, rows.start : rows.stop, None].expand(1, -1, 2100)
    )
    assert image.thinned()[0, :, 0].tolist() == list(range(0, 50, 3))
    assert image.thinned().shape[2] == 700


# The limit on pixels


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    monkeypatch.delenv("GFFNET_MAX_PIXELS", raising=False)


def save_as(kind: str, folder: Path) -> Path:
    path = folder / f"a.{kind}"
    if kind in TIFFS:
        TIFFS[kind](path := folder / "a.tif")
    elif kind == "npy":
        np.save(path, RGB)
    elif kind == "1-bit png":
        Image.fromarray(GREY > 99).save(path := folder / "a.png")
    else:
        Image.fromarray(RGB).save(path)
    return path


@pytest.mark.parametrize("kind", ["png", "1-bit png", "jpg", "bmp", "webp", "npy", "strips", "four bands of 16 bits"])
def test_the_limit_is_named_and_can_be_lifted(
    kind: str, tmp_path: Path, limited: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, bands = save_as(kind, tmp_path), 4 if kind == "four bands of 16 bits" else 3
    said = (
        rf"^cannot read image {path}: it is of 70x90 = 6,300 pixels, and files of more than 6,000 are refused, since a "
        r"small one can fill the memory\. Predict it with --memory, such as --memory 8GB, or set the environment "
        r"variable GFFNET_MAX_PIXELS to 6300, or cut it into tiles\."
    )
    for _ in range(2):
        with pytest.raises(UserError, match=said):
            read_image(path, bands)
        assert read_header(path).size == (90, 70)
        with lifted_limit(6300):
            assert read_image(path, bands).shape == (bands, 90, 70)
        assert Image.MAX_IMAGE_PIXELS == 3000, "others rely on it"
    monkeypatch.setenv("GFFNET_MAX_PIXELS", "6300")
    assert read_image(path, bands).shape == (bands, 90, 70)
    monkeypatch.setenv("GFFNET_MAX_PIXELS", "many")
    with pytest.raises(UserError, match=r"GFFNET_MAX_PIXELS 'many' must be a number of pixels"):
        read_image(path, bands)


def test_pillows_limit_may_be_none(tmp_path: Path, limited: None, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="files of more than 6,000 are refused"):
        read_labels(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), GREY)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_rows_are_converted_a_part_at_a_time(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.fromarray(DEEP[..., 0]) if mode == "I;16" else Image.fromarray(RGB).convert(mode)
    image.save(tmp_path / "a.tif")
    whole = read_image(tmp_path / "a.tif")
    monkeypatch.setattr("gffnet.data.io._ROWS_AT_ONCE", 7 * 70)
    assert torch.equal(read_image(tmp_path / "a.tif"), whole)


# Writing


@pytest.mark.parametrize("step", [1, 7, 90])
@pytest.mark.parametrize("pixels", [GREY, RGB])
def test_png_in_bands(pixels: Any, step: int, tmp_path: Path) -> None:
    path = tmp_path / "deep/a.png"
    write_png(path, (90, 70), (pixels[top : top + step] for top in range(0, 90, step)))
    np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels)
    with Image.open(path) as image:
        image.verify()
    np.testing.assert_array_equal(read_image(path).permute(1, 2, 0), np.atleast_3d(pixels) * np.ones(3, np.uint8))


def test_png_in_bands_with_colors(tmp_path: Path) -> None:
    colors = np.arange(768, dtype=np.uint8).reshape(256, 3)
    write_png(tmp_path / "a.png", (90, 70), [GREY[:40], GREY[40:]], colors=colors)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), GREY)
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), colors[GREY])


def test_a_full_disk_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_after(monkeypatch, 0)
    with pytest.raises(CannotWrite, match="No space left on device"):
        write_png(tmp_path / "a.png", (90, 70), [RGB])
    assert list(tmp_path.iterdir()) == []
