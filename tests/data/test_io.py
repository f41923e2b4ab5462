"""Images and label maps: what is read, written and refused, and PNG files against Pillow."""

import io
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from gffnet.data.io import (
    as_array,
    decode_png,
    image_files,
    images_in,
    read_colors,
    read_header,
    read_image,
    read_labels,
    unread_files,
    write_image,
    write_labels,
)
from gffnet.data.large import open_large
from gffnet.errors import UserError
from tests.data.trees import picture, raw_png, real, save
from tests.full_disk import full_after

RGB = picture(0, (9, 14))
GREY = RGB[:, :, 0]


def rgb(path: Path) -> NDArray[np.uint8]:
    return as_array(read_image(path))


def as_file(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


# Images: whatever the file holds, RGB with eight bits a channel comes out.


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "ppm", "webp"])
def test_rgb(tmp_path: Path, extension: str) -> None:
    path = as_file(tmp_path / f"a.{extension}", Image.fromarray(RGB), lossless=True)
    read = rgb(path)
    np.testing.assert_array_equal(read, RGB)
    assert read.dtype == np.uint8
    assert read.flags.writeable


DEEP = GREY.astype(np.uint16) * 257


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("name", "pixels", "options", "expected"),
    [
        ("a.png", GREY, {}, GREY),
        ("a.png", GREY, {"transparency": int(GREY[0, 0])}, GREY),
        ("a.png", GREY > 99, {}, np.where(GREY > 99, 255, 0)),
        ("a.png", DEEP, {}, GREY),  # scaled, not clipped
        ("a.tif", DEEP, {}, GREY),
    ],
)
def test_grey(tmp_path: Path, name: str, pixels: NDArray, options: dict[str, int], expected: NDArray) -> None:
    path = as_file(tmp_path / name, Image.fromarray(pixels), **options)
    np.testing.assert_array_equal(rgb(path), np.stack([expected] * 3, -1))


def test_sixteen_bits_a_channel(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5 14 9 65535\n" + DEEP.astype(">u2").tobytes())
    np.testing.assert_array_equal(rgb(tmp_path / "a.pgm"), np.stack([GREY] * 3, -1))
    (tmp_path / "a.png").write_bytes(raw_png(14, 9, 16, 2, [row.tobytes() for row in RGB.astype(">u2") * 257]))
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), RGB)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_dropped(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(RGB).convert(mode[:-1])
    expected = np.asarray(image.convert("RGB"))
    image.putalpha(Image.fromarray(GREY))
    np.testing.assert_array_equal(rgb(as_file(tmp_path / "a.png", image)), expected)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("transparency", [None, 3, bytes(range(16))])
def test_palette(tmp_path: Path, transparency: int | bytes | None) -> None:
    colors = picture(1, (1, 16))[0]
    image = Image.new("P", (14, 9))
    image.putdata((GREY % 16).ravel().tolist())
    image.putpalette(colors.ravel().tolist())
    options = {} if transparency is None else {"transparency": transparency}
    np.testing.assert_array_equal(rgb(as_file(tmp_path / "a.png", image, **options)), colors[GREY % 16])


def test_sixteen_bits_are_the_same_level_in_grey_and_in_color(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 65536, (9, 14), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(raw_png(14, 9, 16, 2, [np.repeat(row, 3).tobytes() for row in deep.astype(">u2")]))
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), rgb(save(tmp_path / "b.png", deep)))


def test_cmyk(tmp_path: Path) -> None:
    cmyk = np.random.default_rng(0).integers(0, 256, (9, 14, 4), dtype=np.uint8)
    path = as_file(tmp_path / "a.tif", Image.frombytes("CMYK", (14, 9), cmyk.tobytes()))
    ink = cmyk.astype(float)
    expected = (255 - ink[:, :, :3]) * (255 - ink[:, :, 3:]) / 255
    assert np.abs(rgb(path) - expected).max() <= 1


@pytest.mark.parametrize("pixels", [GREY.astype(np.int32) * 300, GREY.astype(np.float32)])
def test_samples_without_a_white_level(tmp_path: Path, pixels: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"a\.tif: 32-bit (integer|float) samples have no known white level.*model\.wh"):
        rgb(save(tmp_path / "a.tif", pixels))


# Bands and deep samples. Levels are the samples over the white level, times 255.

BANDS = np.random.default_rng(7).integers(0, 256, (9, 14, 7), dtype=np.uint8)


def tiff(path: Path, pixels: NDArray, **options: Any) -> Path:
    layout = (
        {} if pixels.ndim == 2 or pixels.shape[2] == 1 or options.get("planarconfig") else {"planarconfig": "contig"}
    )
    tifffile.imwrite(path, pixels, **{"photometric": "minisblack", "metadata": None, **layout, **options})
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"compression": "deflate"},
        {"compression": "zstd"},
        {"compression": "lzw", "predictor": True},
        {"tile": (16, 16)},
        {"planarconfig": "separate"},
        {"planarconfig": "separate", "tile": (16, 16), "compression": "deflate", "byteorder": ">"},
        {"rowsperstrip": 2},
    ],
)
@pytest.mark.parametrize(("bands", "bits"), [(3, 8), (4, 8), (7, 8), (3, 16), (4, 16), (7, 16)])
def test_bands_of_a_tiff(tmp_path: Path, bands: int, bits: int, options: dict[str, Any]) -> None:
    expected = BANDS[..., :bands]
    planes = expected.astype(np.uint8 if bits == 8 else np.uint16) * (1 if bits == 8 else 257)
    separate = options.get("planarconfig") == "separate"
    path = tiff(tmp_path / "a.tif", planes.transpose(2, 0, 1) if separate else planes, **options)
    header = read_header(path)
    assert header is not None
    assert (header.size, header.channels, header.deep, header.pages) == ((9, 14), bands, bits > 8, 1)
    image = read_image(path, bands)
    assert image.dtype == (torch.uint8 if bits == 8 else torch.float32)
    np.testing.assert_array_equal(as_array(image), expected)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("bands", "dtype"), [(1, "u1"), (3, "u1"), (4, ">u2"), (5, "<u2"), (16, "u1")])
def test_bands_of_an_array(tmp_path: Path, bands: int, dtype: str, first: bool) -> None:
    expected = np.random.default_rng(bands).integers(0, 256, (19, 24, bands), dtype=np.uint8)
    stored = expected.astype(dtype) * (257 if dtype.endswith("u2") else 1)
    np.save(tmp_path / "a.npy", stored.astype(dtype).transpose(2, 0, 1) if first else stored.astype(dtype))
    np.testing.assert_array_equal(as_array(read_image(tmp_path / "a.npy", bands)), expected)
    header = read_header(tmp_path / "a.npy")
    assert header is not None
    assert (header.format, header.size, header.channels) == ("NPY", (19, 24), bands)


@pytest.mark.parametrize(("bands", "channels"), [(4, 3), (7, 3), (4, 1), (3, 4), (7, 4), (1, 4)])
@pytest.mark.parametrize("extension", ["tif", "npy"])
def test_other_bands_than_the_model_takes(tmp_path: Path, bands: int, channels: int, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    np.save(path, BANDS[..., :bands]) if extension == "npy" else tiff(path, BANDS[..., :bands])
    said = rf"a\.{extension} has {bands} bands?.*the model takes {channels}: .*model\.backbone\.in_channels={bands}"
    with pytest.raises(UserError, match=said):
        read_image(path, channels)


@pytest.mark.parametrize("compression", ["lerc", "jpegxl", "webp"])
@pytest.mark.parametrize("bands", [1, 3])
def test_compression_that_pillow_lacks(tmp_path: Path, bands: int, compression: str) -> None:
    if (bands, compression) == (1, "webp"):
        pytest.skip("WebP is in color")
    expected = BANDS[..., :bands]
    options = {} if compression == "lerc" else {"compressionargs": {"lossless": True}}
    photometric = "rgb" if bands == 3 else "minisblack"
    path = tmp_path / "a.tif"
    tiff(path, expected.squeeze(), photometric=photometric, compression=compression, **options)
    np.testing.assert_array_equal(as_array(read_image(path, bands)), expected)


def test_samples_without_data_are_black(tmp_path: Path) -> None:
    """The largest sample would be one of these."""
    values = np.linspace(0, 4095, 9 * 14).reshape(9, 14).astype(np.uint16)
    values[0, 5:9] = 65535
    path = tiff(tmp_path / "a.tif", values, extratags=[(42113, "s", 0, "65535", True)])
    image = read_image(path, 1)[0]
    np.testing.assert_allclose(image, np.where(values == 65535, 0, values) * (255 / 4095), rtol=1e-6)
    assert (read_labels(path) == values).all()
    in_rows = open_large(path, 1, 4095, rows=4, room=2**20)
    np.testing.assert_array_equal(in_rows[:, slice(0, 9), slice(0, 14)][0], image)


def test_complex_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.tif: its samples are complex64\. Save their magnitudes"):
        read_image(tiff(tmp_path / "a.tif", GREY.astype(np.complex64)), 1)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([None, 1]), "its array holds Python objects"),
        (np.zeros(5), r"its array is float64 \(5,\), but an image is"),
        (np.zeros((2, 3, 4, 5), np.uint8), r"its array is uint8 \(2, 3, 4, 5\)"),
        (np.array([["a"]]), r"its array is <U1 \(1, 1\)"),
    ],
)
def test_arrays_that_are_no_image(tmp_path: Path, array: NDArray, said: str) -> None:
    np.save(tmp_path / "a.npy", array)
    for read in (read_image, read_labels, read_colors):
        with pytest.raises(UserError, match=said):
            read(tmp_path / "a.npy")


def test_ids_in_arrays_and_floats(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.int64, np.float32):
        np.save(tmp_path / "a.npy", GREY.astype(dtype))
        np.testing.assert_array_equal(read_labels(tmp_path / "a.npy"), GREY)
    np.testing.assert_array_equal(read_labels(tiff(tmp_path / "a.tif", GREY.astype(np.float32))), GREY)
    with pytest.raises(UserError, match=r"a\.tif: it holds values that are no integers"):
        read_labels(tiff(tmp_path / "a.tif", GREY.astype(np.float32) / 2))


def test_one_channel_is_that_of_grey(tmp_path: Path) -> None:
    color = as_file(tmp_path / "a.png", Image.fromarray(RGB))
    np.testing.assert_array_equal(read_image(color, 1)[0], np.asarray(Image.fromarray(RGB).convert("L")))
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.png", GREY), 1)[0], GREY)
    deep = tiff(tmp_path / "c.tif", RGB.astype(np.uint16) * 257)
    np.testing.assert_allclose(read_image(deep, 1)[0], RGB @ [0.299, 0.587, 0.114], atol=1e-3)


# The white level of deep samples: given, stated by the file, or assumed from the largest sample.


def deep_file(path: Path, values: NDArray, stated: int | None = None) -> Path:
    """An image of 16 bits that states its white level, if any: a PNG by sBIT (in bits), a TIFF by MaxSampleValue."""
    if path.suffix == ".npy":
        np.save(path, values)
    elif path.suffix == ".tif":
        tiff(path, values, extratags=[(281, "H", 1, stated, True)] if stated else [])
    else:
        save(path, values)
        if stated:
            content, bits = path.read_bytes(), b"sBIT" + bytes([stated.bit_length()])
            chunk = struct.pack(">I", 1) + bits + struct.pack(">I", zlib.crc32(bits))
            path.write_bytes(content[:33] + chunk + content[33:])
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
@pytest.mark.parametrize(("largest", "level"), [(200, 255), (256, 1023), (4080, 4095), (5000, 16383), (16383, 16383)])
def test_a_white_level_that_is_not_stated_is_assumed_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, largest: int, level: int
) -> None:
    values = np.linspace(0, largest, 9 * 14).reshape(9, 14).astype(np.uint16)
    image = read_image(deep_file(tmp_path / name, values), 1)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image[0], values * (255 / level), rtol=1e-6)
    assert f"{name}: " in caplog.text
    assert f"{level} is assumed" in caplog.text
    assert "model.white_level=" in caplog.text


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("stated", [255, 4095, 16383])
def test_a_file_states_its_white_level(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, stated: int
) -> None:
    values = np.arange(9 * 14, dtype=np.uint16).reshape(9, 14)
    image = read_image(deep_file(tmp_path / name, values, stated), 1)
    np.testing.assert_allclose(image[0], values * (255 / stated), rtol=1e-6)
    assert not caplog.records


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_white_level_below_the_samples_is_not_believed(tmp_path: Path, name: str) -> None:
    """PNG wants samples of 12 bits stretched to 16 while sBIT says 12; some TIFFs state another maximum."""
    values = np.linspace(0, 65535, 9 * 14).reshape(9, 14).astype(np.uint16)
    image = read_image(deep_file(tmp_path / name, values, 4095), 1)
    np.testing.assert_allclose(image[0], values / 257, rtol=1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_a_given_white_level_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, dtype: type[np.generic]
) -> None:
    if dtype is np.float32 and name == "a.png":
        pytest.skip("PNG holds integers")
    values = np.linspace(0, 20_000, 9 * 14).reshape(9, 14).astype(dtype)
    image = read_image(deep_file(tmp_path / name, values), 1, white_level=10_000)
    np.testing.assert_allclose(image[0], np.minimum(values / 10_000 * 255, 255), rtol=1e-6)
    assert not caplog.records


def test_values_below_black_and_undefined_ones_are_black(tmp_path: Path) -> None:
    values = np.full((9, 14), 0.5, np.float32)
    values[0, :3] = -9999, np.nan, np.inf
    image = read_image(tiff(tmp_path / "a.tif", values), 1, white_level=1)
    np.testing.assert_allclose(image[0, 0, :4], [0, 0, 255, 127.5], rtol=1e-6)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npy"])
def test_eight_bits_in_sixteen_need_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Stretched to the whole range, as most tools do, even where the image is dark."""
    image = read_image(deep_file(tmp_path / name, GREY.astype(np.uint16) // 8 * 257), 1)
    np.testing.assert_array_equal(image[0], GREY // 8)
    assert not caplog.records


SIDES = {  # EXIF: the side of the scene that the first stored row, and the first stored column, lies at
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


@pytest.mark.parametrize("extension", ["png", "webp", "tif"])
@pytest.mark.parametrize("orientation", SIDES)
def test_exif_orientation(tmp_path: Path, orientation: int, extension: str) -> None:
    path = as_file(tmp_path / f"a.{extension}", Image.fromarray(RGB), exif=oriented(orientation), lossless=True)
    np.testing.assert_array_equal(rgb(path), upright(RGB, orientation))


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def upright(stored: NDArray, orientation: int) -> NDArray:
    first_row, first_column = SIDES[orientation]
    turned = stored.swapaxes(0, 1) if first_row in {"left", "right"} else stored
    turned = turned[::-1] if "bottom" in {first_row, first_column} else turned
    return turned[:, ::-1] if "right" in {first_row, first_column} else turned


@pytest.mark.parametrize("kind", ["png", "palette png", "png of 16 bits", "tif", "tif of 16 bits", "bands of a tif"])
@pytest.mark.parametrize("orientation", SIDES)
def test_masks_are_turned_as_images_are(tmp_path: Path, orientation: int, kind: str) -> None:
    path = tmp_path / ("a.tif" if "tif" in kind else "a.png")
    ids = GREY.astype(np.uint16) * 3 if "16" in kind else GREY
    if "tif" in kind:
        stored = np.dstack([ids] * 4) if "bands" in kind else ids
        tiff(path, stored, extratags=[(0x0112, "H", 1, orientation, True)])
    else:
        image = Image.fromarray(ids)
        if "palette" in kind:
            image.putpalette(picture(1, (1, 256)).ravel().tolist())
        image.save(path, exif=oriented(orientation))
    expected = upright(ids, orientation)
    found = as_array(read_image(path, 4))[..., 0] if "bands" in kind else read_labels(path)
    np.testing.assert_array_equal(found, expected)
    header = read_header(path)
    assert header is not None
    assert (header.size, header.orientation) == (GREY.shape, orientation)


@pytest.mark.parametrize("extension", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", SIDES)
def test_color_masks_are_turned_as_images_are(tmp_path: Path, orientation: int, extension: str) -> None:
    image = Image.fromarray(np.dstack([RGB, np.where(GREY > 99, 255, 0).astype(np.uint8)]))
    path = as_file(tmp_path / f"a.{extension}", image, exif=oriented(orientation), lossless=True, exact=True)
    colors, opaque = read_colors(path)
    np.testing.assert_array_equal(colors, upright(RGB, orientation))
    np.testing.assert_array_equal(opaque, upright(GREY > 99, orientation))


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_an_orientation_in_xmp_alone_turns_nothing(tmp_path: Path, mode: str) -> None:
    xmp = PngInfo()
    xmp.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="6"/>')
    image = Image.fromarray(RGB).convert(mode)
    path = as_file(tmp_path / "a.png", image, pnginfo=xmp)
    assert rgb(path).shape == RGB.shape
    if mode != "RGB":
        np.testing.assert_array_equal(read_labels(path), np.asarray(image))


# Further pages and frames.


def notices(path: Path, read: Any = read_image) -> dict[str, str]:
    found: dict[str, str] = {}
    read(path, notice=found.__setitem__)
    return found


@pytest.mark.parametrize("extension", ["tif", "gif", "webp", "png", "mpo", "avif"])
def test_further_pages_are_named(tmp_path: Path, extension: str, caplog: pytest.LogCaptureFixture) -> None:
    what = "pages" if extension == "tif" else "frames"
    pages = [Image.fromarray(np.roll(picture(0, (40, 48)), i * 40)) for i in range(3)]
    path = as_file(tmp_path / f"a.{extension}", pages[0], save_all=True, append_images=pages[1:])
    header = read_header(path)
    assert header is not None
    assert header.pages == 3
    assert f"{path}: the first of 3 {what} is used" in notices(path)["pages"]
    first = read_image(path)
    assert f"{path}: the first of 3 {what} is used" in caplog.text
    one = as_file(tmp_path / f"one.{extension}", pages[0])
    assert not notices(one)
    if extension in {"tif", "png"}:  # in one way alone
        np.testing.assert_array_equal(first, read_image(one))
    caplog.clear()
    read_image(path)
    assert not caplog.records  # once a file


@pytest.mark.parametrize("bands", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_overviews_and_masks_of_a_tiff_are_no_pages(tmp_path: Path, bands: int, dtype: type[np.generic]) -> None:
    whole = picture(0, (32, 48))[..., [0, 1, 2, 0, 1][:bands]].astype(dtype) * (257 if dtype is np.uint16 else 1)
    options: Any = {"photometric": "minisblack" if bands != 3 else "rgb", "metadata": None}
    options |= {"planarconfig": "contig"} if bands > 1 else {}
    for name, kinds in {"overviews": [0, 1, 1], "thumbnail first": [1, 0, 4]}.items():
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            for kind in kinds:
                stored = whole[::2, ::2] if kind else whole
                if kind == 4:
                    file.write(whole[..., 0] > 0, photometric="minisblack", subfiletype=4, metadata=None)
                else:
                    file.write(stored if bands > 1 else stored[..., 0], subfiletype=kind, **options)
        found: dict[str, str] = {}
        image = read_image(tmp_path / f"{name}.tif", bands, notice=found.__setitem__)
        np.testing.assert_array_equal(as_array(image), whole // (257 if dtype is np.uint16 else 1))
        assert not found
        header = read_header(tmp_path / f"{name}.tif")
        assert header is not None
        assert (header.size, header.pages) == ((32, 48), 1)


def test_further_pages_of_a_mask_are_named(tmp_path: Path) -> None:
    pages = [Image.fromarray(GREY % 4), Image.fromarray(GREY % 3)]
    for extension in ("tif", "gif"):
        path = as_file(tmp_path / f"a.{extension}", pages[0], save_all=True, append_images=pages[1:])
        assert "the first of 2 " in notices(path, read_labels)["pages"]


@pytest.mark.parametrize("orientation", SIDES)
@pytest.mark.parametrize("pixels", [GREY, RGB])
def test_exif_orientation_of_sixteen_bits(tmp_path: Path, pixels: NDArray, orientation: int) -> None:
    rows = [row.tobytes() for row in (pixels.astype(np.uint16) * 16).astype(">u2")]
    content, exif = (
        raw_png(14, 9, 16, 0 if pixels.ndim == 2 else 2, rows),
        b"eXIf" + oriented(orientation).tobytes()[6:],
    )
    chunk = struct.pack(">I", len(exif) - 4) + exif + struct.pack(">I", zlib.crc32(exif))
    (tmp_path / "a.png").write_bytes(content[:33] + chunk + content[33:])
    image = as_array(read_image(tmp_path / "a.png", 1 if pixels.ndim == 2 else 3))
    expected = upright(np.atleast_3d(pixels), orientation) * (16 * 255 / 4095)
    np.testing.assert_allclose(image, expected, rtol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_damaged_exif_is_no_obstacle(tmp_path: Path, exif: bytes) -> None:
    path = as_file(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    np.testing.assert_array_equal(rgb(path), RGB)


# Files that cannot be read.


def encoded(extension: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(0, (70, 90))).save(buffer, extension)
    return buffer.getvalue()


@pytest.mark.parametrize("read", [rgb, read_labels])
@given(share=st.floats(0, 0.999))
def test_png_cut_anywhere(tmp_path_factory: pytest.TempPathFactory, read: object, share: float) -> None:
    whole = encoded("png")
    check_unreadable(tmp_path_factory.mktemp("cut") / "a.png", whole[: int(share * len(whole))], read)


@pytest.mark.parametrize("missing", range(1, 5))
def test_png_that_lacks_only_its_last_checksum_is_whole(tmp_path: Path, missing: int) -> None:
    (tmp_path / "a.png").write_bytes(encoded("png")[:-missing])
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), picture(0, (70, 90)))


@pytest.mark.parametrize("extension", ["jpeg", "tiff", "bmp", "webp", "ppm"])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.95])
def test_other_formats_cut(tmp_path: Path, extension: str, share: float) -> None:
    whole = encoded(extension)
    check_unreadable(tmp_path / f"a.{extension}", whole[: int(share * len(whole))], rgb)


def check_unreadable(path: Path, content: bytes, read: object) -> None:
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"cannot read image {path}: ")
    assert message.endswith("Copy or download it again.")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (bytes(range(128, 256)), "its content is no image. Copy or download it again"),
        (raw_png(60_000, 60_000, 8, 0, []), r"60000x60000 = 3,600,000,000 pixels, and files of more than 178,956,970"),
    ],
)
def test_no_image(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=said):
        rgb(tmp_path / "a.png")


FTYP = b"\0\0\0\x18ftyp"
UNREAD = [  # name, content, kind, a part of the remedy
    ("a.heic", FTYP + b"heic\0\0\0\0mif1heic" + bytes(64), "a HEIC photo", "heif-convert"),
    ("a.jpg", FTYP + b"heix" + bytes(64), "a HEIC photo", "heif-convert"),
    ("a.cr3", FTYP + b"crx " + bytes(64), "a RAW photograph", "darktable-cli"),
    ("a.cr2", b"II*\0\x10\0\0\0CR\2\0" + bytes(64), "a RAW photograph", "darktable-cli"),
    ("a.raf", b"FUJIFILMCCD-RAW 0201" + bytes(64), "a RAW photograph", "darktable-cli"),
    ("a.jxl", b"\xff\x0a" + bytes(range(64)), "a JPEG XL image", "djxl"),
    ("a.svg", b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg width="9"/>', "a drawing in SVG", "rsvg-convert"),
    ("a.pdf", b"%PDF-1.7\n" + bytes(64), "a PDF document", "pdftoppm"),
    ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "PostScript", "gs "),
    ("a.psd", b"8BPS\0\2" + bytes(64), "a Photoshop document", "export it as PNG"),
    ("a.xcf", b"gimp xcf v011\0" + bytes(64), "a document of GIMP", "export it as PNG"),
    ("a.kra", b"PK\3\4" + bytes(64), "a document of GIMP or Krita", "export it as PNG"),
    ("a.exr", b"v/1\x01" + bytes(64), "an OpenEXR image", "oiiotool"),
    ("a.hdr", b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "a Radiance HDR image", "oiiotool"),
    ("a.dcm", bytes(128) + b"DICM" + bytes(64), "a DICOM image", r"np\.save\('image.npy', pydicom"),
    ("a.nii", b"\x5c\1\0\0" + bytes(340) + b"n+1\0" + bytes(64), "a medical volume", "nibabel"),
    ("a.nii.gz", b"\x1f\x8b\x08" + bytes(64), "a medical volume", "nibabel"),
    ("a.nrrd", b"NRRD0004\ntype: short\n", "a medical volume", "np.save"),
    ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(64), "an HDF5 or NetCDF file", "h5py"),
    ("a.nc", b"CDF\1" + bytes(64), "an HDF5 or NetCDF file", "h5py"),
    ("a.fits", b"SIMPLE  =                    T" + b" " * 50, "a FITS file", "astropy"),
    ("a.mat", b"MATLAB 5.0 MAT-file" + bytes(200), "a MATLAB file", "loadmat"),
    ("a.npz", b"PK\3\4" + bytes(64), "an archive of arrays", "np.load"),
    ("a.pkl", b"\x80\4\x95" + bytes(64), "a file of pickle", "np.save"),
    ("a.img", b"EHFA_HEADER_TAG" + bytes(64), "a raster image of GDAL", "gdal_translate"),
    ("a.zip", b"PK\3\4" + bytes(64), "an archive", "Unpack it"),
    ("a.png", b"\x1f\x8b\x08" + bytes(64), "an archive", "Unpack it"),
    ("a.bin", FTYP + b"isom" + bytes(64), "a video", "ffmpeg"),
    ("a.bin", b"\x1aE\xdf\xa3" + bytes(64), "a video", "ffmpeg"),
    ("a.bin", (b"G" + bytes(187)) * 3, "a video", "ffmpeg"),
    ("a.png", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "a pointer of Git LFS", "git lfs pull"),
    ("a.jpg", b"\n<!DOCTYPE html>\n<html><head>", "a web page", "Download the image itself"),
    ("a.jpg", b'{"shapes": []}', "JSON text", "PNG masks"),
    ("a.jpg", b"<annotation><folder>", "XML text", "PNG masks"),
    ("a.jpg", b"404: Not Found\n", "text", "Download the image itself"),
]


@pytest.mark.parametrize(("name", "content", "kind", "remedy"), UNREAD)
@pytest.mark.parametrize("read", [read_image, read_labels, read_colors])
def test_kinds_that_are_not_read(tmp_path: Path, read: Any, name: str, content: bytes, kind: str, remedy: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"it is {kind}.*; gffnet reads JPEG, PNG, TIFF.*{remedy}") as caught:
        read(path)
    assert "again" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert read_header(path) is None or name in {"a.eps", "a.h5"}  # Pillow knows their headers


@pytest.mark.parametrize("suffix", [".dng", ".NEF", ".arw"])
def test_a_raw_photograph_is_not_its_thumbnail(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(UserError, match="it is a RAW photograph"):
        read_image(tiff(tmp_path / f"a{suffix}", RGB, photometric="rgb", subfiletype=1))


def test_images_left_out_of_a_folder_are_named(tmp_path: Path) -> None:
    for name in ("a.heic", "deep/b.HEIC", ".hidden/c.heic", "gffnet_cache/train/0.image.npy", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    assert [path.name for path in unread_files(tmp_path)] == ["a.heic", "b.HEIC"]
    with pytest.raises(UserError, match=r"a\.heic \(a HEIC photo\) and 1 more.*heif-convert"):
        image_files([tmp_path])


@pytest.mark.parametrize("suffix", [".heic", ".HIF", ".dng", ".cr2", ".jxl", ".svg", ".psd", ".dcm", ".nii.gz", ".exr"])
def test_images_that_are_not_read_are_named_beside_those_that_are(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    read = save(tmp_path / "images/a.png", RGB)
    (tmp_path / f"images/b{suffix}").touch()
    assert list(image_files([tmp_path / "images"])) == [read]
    assert f"left out: {tmp_path}/images/b{suffix} (a" in caplog.text
    assert "gffnet reads JPEG, PNG" in caplog.text


@pytest.mark.filterwarnings("error")
def test_a_large_image_is_read_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert rgb(save(tmp_path / "a.png", GREY)).shape == (9, 14, 3)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.png: no such file or directory. Check the path"):
        rgb(tmp_path / "none.png")
    with pytest.raises(UserError, match="is a directory"):
        rgb(tmp_path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read every file")
def test_forbidden_file(tmp_path: Path) -> None:
    save(tmp_path / "a.png", GREY).chmod(0)
    with pytest.raises(UserError, match="permission denied"):
        rgb(tmp_path / "a.png")


# Label maps: the ids as they are stored.


@given(st.integers(1, 255), st.randoms())
def test_ids_of_eight_bits(tmp_path_factory: pytest.TempPathFactory, top: int, random: object) -> None:
    ids = np.array([[random.randint(0, top) for _ in range(5)] for _ in range(4)], np.uint8)
    read = read_labels(save(tmp_path_factory.mktemp("ids") / "a.png", ids))
    np.testing.assert_array_equal(read, ids)
    assert read.dtype == np.uint8


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_ids_of_few_bits_are_not_stretched(tmp_path: Path, bits: int) -> None:
    ids = np.random.default_rng(0).integers(0, 2**bits, (6, 8), dtype=np.uint8)
    unpacked = (ids[:, :, None] >> np.arange(bits)[::-1]) & 1
    path = tmp_path / "a.png"
    path.write_bytes(raw_png(8, 6, bits, 0, [np.packbits(row.ravel()).tobytes() for row in unpacked]))
    np.testing.assert_array_equal(read_labels(path), ids)


@pytest.mark.parametrize("colors", [2, 4, 16, 256])
def test_palette_gives_indices(tmp_path: Path, colors: int) -> None:
    ids = np.random.default_rng(0).integers(0, colors, (6, 8), dtype=np.uint8)
    image = Image.new("P", (8, 6))
    image.putdata(ids.ravel().tolist())
    image.putpalette(picture(2, (1, colors)).ravel().tolist())
    np.testing.assert_array_equal(read_labels(as_file(tmp_path / "a.png", image, transparency=1)), ids)


def test_ids_of_sixteen_bits(tmp_path: Path) -> None:
    ids = np.array([[0, 255, 256], [1000, 26001, 65535]], np.uint16)
    read = read_labels(save(tmp_path / "a.png", ids))
    np.testing.assert_array_equal(read, ids)
    assert read.dtype == np.int32


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_color_masks_are_refused(tmp_path: Path, mode: str) -> None:
    with pytest.raises(UserError, match=f"its pixels are {mode}, but color masks are not id masks"):
        read_labels(as_file(tmp_path / "a.png", Image.fromarray(RGB).convert(mode)))


@pytest.mark.parametrize("name", ["a.jpg", "a.mpo", "a.tif", "a.jp2"])
def test_masks_that_compression_changed_are_refused(tmp_path: Path, name: str) -> None:
    options = {
        "a.mpo": {"save_all": True, "append_images": [Image.fromarray(GREY)]},
        "a.tif": {"compression": "jpeg"},
        "a.jp2": {"irreversible": True},
    }
    path = as_file(tmp_path / name, Image.fromarray(GREY), **options.get(name, {}))
    with pytest.raises(UserError, match=r"JPEG( 2000)? changes grey levels"):
        read_labels(path)
    with pytest.raises(UserError, match=r"JPEG( 2000)? changes colors"):
        read_colors(path)
    lossless = as_file(tmp_path / "b.jp2", Image.fromarray(GREY))
    np.testing.assert_array_equal(read_labels(lossless), GREY)


def test_masks_in_tiffs_of_jpeg_2000(tmp_path: Path) -> None:
    labels = np.kron(GREY % 5, np.ones((8, 8), np.uint8))
    lossless = tiff(tmp_path / "a.tif", labels, compression="jpeg2000")
    np.testing.assert_array_equal(read_labels(lossless), labels)
    path = tiff(tmp_path / "b.tif", labels, compression="jpeg2000", compressionargs={"level": 50, "reversible": False})
    with pytest.raises(UserError, match="JPEG 2000 changes grey levels"):
        read_labels(path)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("largest", [1, 2, 15, 100, 254, 255, 256, 4095, 65535])
def test_ids_in_a_pgm_are_not_stretched(tmp_path: Path, largest: int, plain: bool) -> None:
    labels = np.random.default_rng(1).integers(0, largest + 1, (9, 14))
    dtype = ">u2" if largest > 255 else "u1"
    pixels = " ".join(map(str, labels.ravel())).encode() if plain else labels.astype(dtype).tobytes()
    (tmp_path / "a.pgm").write_bytes(f"{'P2' if plain else 'P5'} 14 9 {largest}\n".encode() + pixels)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.pgm"), labels)


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
def test_ids_in_jpeg_2000_of_few_bits_are_not_stretched(tmp_path: Path, bits: int) -> None:
    labels = (GREY % 4).astype(np.uint8 if bits <= 8 else np.uint16)
    encoded = imagecodecs.jpeg2k_encode(labels, level=0, bitspersample=bits, reversible=True, codecformat="jp2")
    (tmp_path / "a.jp2").write_bytes(encoded)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.jp2"), labels)


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_ids_are_not_inverted_where_zero_is_white(tmp_path: Path, bits: int) -> None:
    labels = (GREY % 4).astype(np.uint8 if bits <= 8 else np.uint16)
    path = tiff(tmp_path / "a.tif", labels, photometric="miniswhite", bitspersample=bits)
    np.testing.assert_array_equal(read_labels(path), labels)


@pytest.mark.parametrize("values", [[0, 2, 5], [0, 255], [1, 2, 3]])
def test_grey_levels_that_a_gif_has_numbered_anew_are_refused(tmp_path: Path, values: list[int]) -> None:
    labels = np.array(values, np.uint8)[GREY % len(values)]
    path = as_file(tmp_path / "a.gif", Image.fromarray(labels))
    with pytest.raises(UserError, match=r"a\.gif: its grey level \d+ has index \d .*save label maps as PNG"):
        read_labels(path)
    np.testing.assert_array_equal(read_colors(path)[0][..., 0], labels)


@pytest.mark.parametrize("value", [-(2**32), 2**40, 2**63 - 1])
def test_ids_of_64_bits_do_not_wrap(tmp_path: Path, value: int) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, value]], np.int64))
    assert read_labels(tmp_path / "a.npy").tolist() == [[0, value]]


def test_ids_above_those_of_64_bits_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 2**63]], np.uint64))
    with pytest.raises(UserError, match=f"holds {2**63}, which is no id"):
        read_labels(tmp_path / "a.npy")


@pytest.mark.parametrize("bits", [1, 2, 4, 5, 6])
@pytest.mark.parametrize(("bands", "photometric"), [(1, "minisblack"), (3, "rgb"), (5, "minisblack")])
def test_few_bits_a_sample_span_black_to_white(tmp_path: Path, bits: int, bands: int, photometric: str) -> None:
    white = 2**bits - 1
    pixels = BANDS[..., :bands] & white
    path = tiff(tmp_path / "a.tif", pixels.squeeze(), photometric=photometric, bitspersample=bits)
    np.testing.assert_allclose(as_array(read_image(path, bands)), pixels * (255 / white), atol=0.5)


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
@pytest.mark.parametrize("name", ["a.tif", "a.npy"])
def test_signed_samples_rarely_span_all_of_16_bits(tmp_path: Path, name: str, dtype: type[np.generic]) -> None:
    pixels = BANDS[..., 0].astype(dtype) * dtype(120)
    path = tmp_path / name
    np.save(path, pixels) if name == "a.npy" else tiff(path, pixels)
    assert "65535 is assumed" in notices(path)["white-level"]


def test_signed_bytes(tmp_path: Path) -> None:
    pixels = BANDS[..., 0].astype(np.int8)
    path = tiff(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(read_labels(path), pixels)
    np.testing.assert_allclose(as_array(read_image(path, 1, 127))[..., 0], pixels.clip(0) / 127 * 255, rtol=1e-6)


@pytest.mark.parametrize("photometric", ["icclab", "cfa", "linear_raw"])
def test_tiffs_that_are_no_pictures_are_not_called_damaged(tmp_path: Path, photometric: str) -> None:
    pixels = BANDS[..., 0] if photometric == "cfa" else BANDS[..., :3]
    path = tiff(tmp_path / "a.tif", pixels, photometric=photometric)
    with pytest.raises(UserError, match=f"a TIFF that is not read .photometric {photometric.upper()}.* Save it as"):
        read_image(path)


# Writing.


@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 65535)))
def test_labels_round_trip(tmp_path_factory: pytest.TempPathFactory, labels: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("labels") / "deep" / "a.png"
    write_labels(path, labels)
    np.testing.assert_array_equal(read_labels(path), labels)
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("PNG", "L" if labels.max() <= 255 else "I;16")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("labels", [np.array([[-1]]), np.array([[65536]]), np.zeros((2, 2, 3), int), np.ones((2, 2))])
def test_no_label_map(tmp_path: Path, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"ids 0\.\.65535|of integers"):
        write_labels(tmp_path / "a.png", labels)
    assert not list(tmp_path.iterdir())


def test_image_round_trip(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", RGB)
    write_image(tmp_path / "a.png", RGB[::-1])  # replaces
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), RGB[::-1])
    write_image(tmp_path / "b.JPG", np.full((16, 16, 3), (200, 10, 10), np.uint8))
    assert np.abs(rgb(tmp_path / "b.JPG").astype(int) - (200, 10, 10)).max() <= 3


def test_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'\.mask' is no image format. Use \.png or \.jpg"):
        write_image(tmp_path / "a.mask", RGB)


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", RGB)

    full_after(monkeypatch, writes=0)
    with pytest.raises(UserError, match=r"cannot write .*a\.png: No space left on device"):
        write_image(tmp_path / "a.png", RGB[::-1])
    monkeypatch.undo()
    np.testing.assert_array_equal(rgb(tmp_path / "a.png"), RGB)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_writing_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"):
        write_labels(tmp_path / "file" / "a.png", GREY)


def test_less_effort_changes_no_pixel(tmp_path: Path) -> None:
    for effort in (1, 3, 9):
        write_image(tmp_path / "a.png", RGB, effort)
        np.testing.assert_array_equal(rgb(tmp_path / "a.png"), RGB)


# Listing.


def test_image_files(tmp_path: Path) -> None:
    names = ["b.png", "a.JPG", "deep/c.tif", "deep/er/d.webp", ".hidden.png", ".cache/e.png", "notes.txt", "f.png.part"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    odd = tmp_path / "notes.txt"  # named itself: taken as it is
    found = image_files([odd, tmp_path, tmp_path / "b.png"])
    relative = [path.relative_to(tmp_path).as_posix() for path in found]
    assert relative == ["notes.txt", "a.JPG", "b.png", "deep/c.tif", "deep/er/d.webp"]
    assert found == {odd: odd} | {tmp_path / name: tmp_path for name in relative[1:]}
    assert images_in(tmp_path, [".part", ".jpg"]) == [tmp_path / "a.JPG", tmp_path / "f.png.part"]
    assert image_files([]) == {}


def test_folders_within_a_hidden_one_are_listed(tmp_path: Path) -> None:
    path = save(tmp_path / ".store" / "a.png", GREY)
    assert images_in(tmp_path / ".store") == [path]


def test_missing_input_and_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="none does not exist: give an image file or a folder"):
        image_files([tmp_path / "none"])
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match=r"holds no image. Images end in \.apng \.avif"):
        image_files([tmp_path])


def linked(folder: Path, links: dict[str, str]) -> Path:
    """A folder with the images a.png, deep/b.png and ../away/c.png, and with links."""
    for name in ("a.png", "deep/b.png", "../away/c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    for name, target in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
    return folder


@pytest.mark.parametrize(
    ("links", "found", "inputs"),
    [
        ({"far": "../away"}, "a deep/b far/c", "a deep/b far/c"),
        ({"far": "way", "way": "../away"}, "a deep/b far/c", "a deep/b far/c"),  # twice: once
        ({"and": "deep"}, "a deep/b", "a deep/b"),  # found in its own place
        ({"deep/up": "..", "deep/top": "../..", "self": ".", "root": "/"}, "a deep/b", "a deep/b"),
        ({"x/y": "../z", "z/x": "../x"}, "a deep/b", "a deep/b"),  # in a circle
        ({"a/b": "b", "b": "a"}, "a deep/b", "a deep/b"),
        ({"../away/back": "../in", "far": "../away"}, "a deep/b far/c", "a deep/b far/c"),
        ({"l.png": "../away/c.png", "m.png": "../away/c.png"}, "a deep/b l m", "a deep/b l m"),
        ({"deep/l.png": "../a.png"}, "a deep/b deep/l", "a deep/b"),  # of an input itself
        ({"gone.png": "nowhere.png", "deep/it.png": "it.png"}, "a deep/b deep/it gone", "a deep/b deep/it gone"),
    ],
)
def test_links_are_followed_and_every_folder_is_searched_once(
    links: dict[str, str], found: str, inputs: str, tmp_path: Path
) -> None:
    folder = linked(tmp_path / "in", links)

    def names(paths: Iterable[Path]) -> str:
        return " ".join(path.relative_to(folder).with_suffix("").as_posix() for path in paths)

    assert names(images_in(folder)) == found
    assert names(image_files([folder, folder / ".." / "in"])) == inputs


def test_what_is_linked_and_given_twice_is_one_input(tmp_path: Path) -> None:
    folder = linked(tmp_path / "in", {"far": "../away", "../other": "in"})
    given = [folder / "far/c.png", tmp_path / "away", tmp_path / "other", folder]
    assert list(image_files(given)) == [folder / "far/c.png", tmp_path / "other/a.png", tmp_path / "other/deep/b.png"]


def test_links_that_lead_nowhere_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = linked(tmp_path / "in", {"disk": "/mnt/none", "gone.png": "/mnt/none/gone.png"})
    assert images_in(folder) == [folder / "a.png", folder / "deep/b.png", folder / "gone.png"]
    assert images_in(folder)
    assert caplog.messages == [f"left out: {folder}/disk is a link to /mnt/none, which is not there"], "once"
    with pytest.raises(UserError, match=r"gone\.png: it is a link to /mnt/none/gone\.png, which is not there\."):
        read_image(folder / "gone.png")


def test_folders_that_cannot_be_read_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scan = linked(tmp_path / "in", {}), os.scandir

    def refusing(path: Path) -> Any:
        if path == folder / "deep":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    assert images_in(folder) == [folder / "a.png"]
    assert caplog.messages == [f"left out: folder {folder}/deep cannot be read (Permission denied)"]


# Headers


@pytest.mark.parametrize(
    ("mode", "name", "color", "grey", "deep"),
    [
        ("RGB", "a.png", True, False, False),
        ("RGB", "a.jpg", True, False, False),
        ("L", "a.png", False, True, False),
        ("P", "a.png", False, False, False),
        ("LA", "a.png", True, True, False),
        ("I;16", "a.png", False, True, True),
    ],
)
def test_a_header_says_what_pixels_are(
    tmp_path: Path, mode: str, name: str, color: bool, grey: bool, deep: bool
) -> None:
    Image.new(mode, (7, 5)).save(tmp_path / name)
    header = read_header(tmp_path / name)
    assert header is not None
    assert header[:5] == (name[2:].upper().replace("JPG", "JPEG"), (5, 7), 1, color, grey)
    assert header.deep == deep
    assert (header.channels, header.pages) == ({"P": 3, "I;16": 1}.get(mode, len(mode)), 1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_header_holds_the_orientation_and_the_size_as_stored(tmp_path: Path, name: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (7, 5)).save(tmp_path / name, exif=exif)
    header = read_header(tmp_path / name)
    assert header is not None
    assert (header.size, header.orientation) == ((5, 7), 6)


def test_what_is_no_image_has_no_header(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert read_header(tmp_path / "a.png") is None
    assert read_header(tmp_path / "none.png") is None


def test_damage_beside_the_pixels_is_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """Pillow warns of a block of EXIF or a directory of a TIFF that is cut short: the files are read or refused."""
    exif = Image.Exif()
    exif[0x0112] = 1
    jpeg, tiff = tmp_path / "a.jpg", save(tmp_path / "a.tif", picture(0)[..., 0])
    Image.fromarray(picture(0)).save(jpeg, exif=exif)
    content = bytearray(jpeg.read_bytes())
    content[content.index(b"MM\0*") + 8] = 1  # as many as 256 entries
    jpeg.write_bytes(content)
    assert rgb(jpeg).shape == (12, 16, 3)
    content = tiff.read_bytes()
    directory = content.index(struct.pack("<HHI", 256, 4, 1))
    tiff.write_bytes(content[: directory + 30])
    with pytest.raises(UserError, match=r"cannot read image .*a\.tif: "):
        read_labels(tiff)
    assert [str(warning.message) for warning in recwarn] == []


def striped_tiff(pixels: NDArray, rows: int, strips: int) -> bytes:
    """A TIFF of grey levels in strips of so many rows, of which so many are there."""
    height, width = pixels.shape
    padded = np.vstack([pixels, np.zeros((rows, width), np.uint8)])[: rows * strips].tobytes()
    starts, lengths = [8 + i * rows * width for i in range(strips)], [rows * width] * strips
    numbers = struct.pack(f"<{2 * strips}I", *starts, *lengths)
    at = 8 + len(padded)
    tags = [
        *((256, 1, width), (257, 1, height), (258, 1, 8), (259, 1, 1), (262, 1, 1)),
        (273, strips, starts[0] if strips == 1 else at),
        *((277, 1, 1), (278, 1, rows)),
        (279, strips, lengths[0] if strips == 1 else at + 4 * strips),
    ]
    directory = b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in tags) + bytes(4)
    header = b"II*\0" + struct.pack("<I", at + len(numbers))
    return header + padded + numbers + struct.pack("<H", len(tags)) + directory


@pytest.mark.parametrize("bands", [1, 4])
@pytest.mark.parametrize(
    "options", [{"rowsperstrip": 2}, {"tile": (16, 16)}, {"rowsperstrip": 2, "compression": "lzw"}]
)
def test_missing_bands_are_no_zeros(tmp_path: Path, bands: int, options: dict[str, Any]) -> None:
    path = tiff(tmp_path / "a.tif", np.dstack([DEEP] * bands).squeeze(), **options)
    content = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        lengths = tags.get(279) or tags.get(325)
        changes = [(tags[257], 50_000), (lengths, 0)]  # of many more rows, or an empty strip or tile
    for tag, value in changes:
        number = struct.pack({3: "<H", 4: "<I"}[int(tag.dtype)], value)
        path.write_bytes(content[: tag.valueoffset] + number + content[tag.valueoffset + len(number) :])
        with pytest.raises(UserError, match=r"cannot read image .*a\.tif: .* cut short \(strips are missing\)"):
            read_image(path, bands)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="cut short"):
        read_image(path, bands)


@pytest.mark.parametrize("rows", [1, 3, 4, 9])
def test_missing_strips_are_no_zeros(tmp_path: Path, rows: int) -> None:
    path, whole = tmp_path / "a.tif", -(-9 // rows)
    path.write_bytes(striped_tiff(GREY, rows, whole))
    np.testing.assert_array_equal(read_labels(path), GREY)
    for strips in range(1, whole):
        path.write_bytes(striped_tiff(GREY, rows, strips))
        for read in (rgb, read_labels):
            with pytest.raises(UserError, match=r"cannot read image .*a\.tif: .* cut short \(strips are missing\)"):
                read(path)


# PNG.


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
    """A color profile that is none, of which it would print a warning with every reading."""
    file = io.BytesIO()
    Image.fromarray(picture(0)).save(file, "PNG", icc_profile=b"no profile", pnginfo=None)
    assert b"iCCP" in file.getvalue()
    decoded = decode_png(file.getvalue())
    assert decoded is not None
    np.testing.assert_array_equal(decoded, picture(0))
    assert capfd.readouterr() == ("", "")


def test_a_bomb_is_left_to_pillow() -> None:
    assert decode_png(raw_png(60_000, 60_000, 8, 0, [b"\0" * 10])) is None
