"""Augmentation: its random numbers, its geometry, and crops of scaled images against the filter written out."""

import colorsys
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gffnet.data.io import as_tensor
from gffnet.data.transforms import PHASE, Augmentation, ColorJitter, Span, resample, resample_labels, source_of
from tests.data.trees import ids, picture

MEAN = (123.675, 116.28, 103.53)
PLAIN = Augmentation(crop=(32, 40), scales=(1.0, 1.0), jitter=0, flip=False, mean=MEAN)


def variant(**changes: object) -> Augmentation:
    return Augmentation(**{**PLAIN.__dict__, **changes})


def flat(height: int, width: int, level: int = 128) -> tuple[Tensor, Tensor]:
    return torch.full((3, height, width), level, dtype=torch.uint8), torch.zeros(height, width, dtype=torch.uint8)


def ramps(height: int, width: int) -> tuple[Tensor, Tensor]:
    """An image whose first two channels are row and column, and labels that are the row."""
    row = torch.arange(height, dtype=torch.uint8)[:, None].expand(height, width)
    column = torch.arange(width, dtype=torch.uint8)[None].expand(height, width)
    return torch.stack([row, column, row]), row.clone()


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    scales=st.tuples(st.floats(0.1, 3), st.floats(0.1, 3)).map(lambda ends: (min(ends), max(ends))),
    seed=st.integers(0, 2**32),
)
def test_every_view_has_the_size_of_the_crop(size: tuple, crop: tuple, scales: tuple, seed: int) -> None:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    labels = torch.randint(0, 19, size, dtype=torch.uint8)
    before = image.clone(), labels.clone()
    augmentation = variant(crop=crop, scales=scales, jitter=10, flip=True)
    view, view_labels = augmentation(image, labels, np.random.default_rng(seed))
    assert (view.shape, view_labels.shape) == ((3, *crop), crop)
    assert (view.dtype, view_labels.dtype) == (torch.uint8, torch.uint8)
    assert set(view_labels.unique().tolist()) <= {*range(19), 255}
    assert torch.equal(image, before[0])
    assert torch.equal(labels, before[1])
    assert view.untyped_storage().nbytes() == view.nbytes  # nothing but the view goes to another process


@given(seed=st.integers(0, 2**32), height=st.integers(20, 50), width=st.integers(20, 50))
def test_without_scaling_labels_follow_the_image_exactly(seed: int, height: int, width: int) -> None:
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    view, labels = variant(flip=True)(image, image[1].clamp(max=254), np.random.default_rng(seed))
    inside = labels < 255
    assert torch.equal(view[1].clamp(max=254)[inside], labels[inside])
    assert inside.sum() == min(height, 32) * min(width, 40)


@pytest.mark.parametrize("scale", [0.5, 0.55, 0.75, 1.37, 2.0, 3.0])
def test_scaled_labels_stay_on_the_image(scale: float) -> None:
    """On a ramp the image shows where each pixel came from; the labels must come from there, without a shift."""
    image, labels = ramps(240, 250)
    for augmentation in (
        variant(scales=(scale,) * 2, crop=(90, 90)),
        variant(scales=(scale,) * 2, crop=(90, 90), flip=True),
    ):
        shifts = []
        for seed in range(12):
            view, view_labels = augmentation(image, labels, np.random.default_rng(seed))
            shifts.append((view_labels.double() - view[0].double())[5:-5])
        shift = torch.stack(shifts)
        assert shift.abs().max() <= 0.5 + 0.5  # nearest, and the image's rounding
        assert shift.mean().abs() < 0.07


def test_columns_are_scaled_as_rows_are() -> None:
    image, labels = ramps(200, 200)
    augmentation = variant(scales=(1.37, 1.37), crop=(90, 90))
    view, rows = augmentation(image, labels, np.random.default_rng(1))
    _, columns = augmentation(image, labels.T.contiguous(), np.random.default_rng(1))
    assert (view[0].double() - rows).abs().max() <= 1
    assert (view[1].double() - columns).abs().max() <= 1


def test_scaling_down_averages() -> None:
    """Noise becomes nearly flat: all sixteen pixels behind a pixel count, not the nearest four."""
    noise = torch.randint(0, 256, (3, 160, 160), dtype=torch.uint8)
    view, _ = variant(scales=(0.25, 0.25))(noise, noise[0], np.random.default_rng(0))
    assert noise.double().std() > 70
    assert view.double().std() < 20


def test_scales_are_uniform() -> None:
    image, labels = flat(400, 2)
    augmentation = variant(scales=(0.5, 2.0), crop=(800, 4))
    scales = []
    for seed in range(1000):
        _, view = augmentation(image, labels, np.random.default_rng(seed))
        scales.append((view == 0).any(1).sum().item() / 400)
    shares = (np.sort(scales) - 0.5) / 1.5
    distance = np.abs(shares - (np.arange(1000) + 0.5) / 1000).max()
    assert distance < 1.63 / math.sqrt(1000)  # Kolmogorov, 1 %
    assert 0.5 <= min(scales) < 0.51
    assert 1.99 < max(scales) <= 2.0


@pytest.mark.parametrize(("height", "width"), [(60, 70), (12, 10)])
def test_crop_positions_are_uniform(height: int, width: int) -> None:
    """Where the image is larger than the crop, and where it lies within it."""
    image, labels = ramps(height, width)
    places = np.zeros((abs(height - 32) + 1, abs(width - 40) + 1))
    for seed in range(2000):
        view, view_labels = PLAIN(image, labels, np.random.default_rng(seed))
        row, column = (int(axis[0]) for axis in torch.nonzero(view_labels < 255, as_tuple=True))
        places[(row, column) if height < 32 else (int(view[0, 0, 0]), int(view[1, 0, 0]))] += 1
    for counts in (places.sum(0), places.sum(1)):
        expected, freedom = 2000 / len(counts), len(counts) - 1
        assert ((counts - expected) ** 2 / expected).sum() < freedom + 4 * math.sqrt(2 * freedom)
    rows, columns = np.indices(places.shape)
    both = np.cov(rows.ravel(), columns.ravel(), fweights=places.ravel().astype(int))
    assert abs(both[0, 1]) / math.sqrt(both[0, 0] * both[1, 1]) < 0.08


def test_half_of_the_views_are_mirrored() -> None:
    image, labels = ramps(32, 40)
    mirrored = 0
    for seed in range(1000):
        plain, _ = PLAIN(image, labels, np.random.default_rng(seed))
        view, view_labels = variant(flip=True)(image, image[1], np.random.default_rng(seed))
        assert torch.equal(plain, image)
        assert torch.equal(view, image) or torch.equal(view, image.flip(-1))
        assert torch.equal(view[1], view_labels)
        mirrored += not torch.equal(view, image)
    assert 430 < mirrored < 570


def jittered(
    image: torch.Tensor, labels: torch.Tensor, seed: int, mean: Any = MEAN, **strengths: float
) -> torch.Tensor:
    """The image of a view whose colors alone are changed."""
    augmentation = variant(mean=mean, color_jitter=ColorJitter(**strengths))
    return augmentation(image, labels, np.random.default_rng(seed))[0]


def test_color_shifts() -> None:
    """Each channel its own, whole, the same for all pixels; -10..10 alike often, whatever the other channels do."""
    image, labels = flat(32, 40)
    shifts = []
    for seed in range(2000):
        view, _ = variant(jitter=10)(image, labels, np.random.default_rng(seed))
        assert (view == view[:, :1, :1]).all()
        shifts.append((view[:, 0, 0].int() - 128).tolist())
    counts = np.stack([np.bincount(np.array(channel) + 10, minlength=21) for channel in zip(*shifts, strict=True)])
    assert counts.shape == (3, 21)
    assert (((counts - 2000 / 21) ** 2 / (2000 / 21)).sum(1) < 20 + 4 * math.sqrt(40)).all()
    assert np.abs(np.corrcoef(np.array(shifts).T) - np.eye(3)).max() < 0.08


@pytest.mark.parametrize(("level", "allowed"), [(3, range(14)), (250, range(240, 256))])
def test_colors_are_clipped(level: int, allowed: range) -> None:
    image, labels = flat(32, 40, level)
    views = [variant(jitter=10)(image, labels, np.random.default_rng(seed))[0] for seed in range(200)]
    assert set(torch.stack(views).unique().tolist()) == set(allowed)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_the_largest_shift_leaves_no_level_outside(dtype: torch.dtype) -> None:
    image, labels = flat(32, 40, 10)
    for seed in range(50):
        view, _ = variant(jitter=255)(image.to(dtype), labels, np.random.default_rng(seed))
        plain, _ = variant(jitter=255)(image.to(torch.float32), labels, np.random.default_rng(seed))
        assert torch.equal(view.float(), plain.float())
        assert 0 <= view.min() <= view.max() <= 255


def test_padding_has_the_mean_color_whatever_the_shift() -> None:
    image, labels = flat(20, 25)
    for seed in range(20):
        view, view_labels = variant(jitter=10)(image, labels, np.random.default_rng(seed))
        outside = view_labels == 255
        assert outside.sum() == 32 * 40 - 20 * 25
        assert torch.equal(view[:, outside], torch.tensor([[124], [116], [104]]).expand(3, int(outside.sum())).byte())


def test_the_same_numbers_make_the_same_view() -> None:
    image = torch.randint(0, 256, (3, 50, 60), dtype=torch.uint8)
    augmentation = variant(scales=(0.75, 2.0), jitter=10, flip=True)
    first, second = (augmentation(image, image[0], np.random.default_rng(3)) for _ in range(2))
    other = augmentation(image, image[0], np.random.default_rng(4))
    assert all(map(torch.equal, first, second))
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 2, 4, 5, 16])
@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7])
def test_every_channel_of_any_number_is_treated_as_the_three_of_rgb_are(
    channels: int, dtype: torch.dtype, scale: float
) -> None:
    """Against the views of RGB images that hold one of the channels three times; float images keep fractions."""
    image = torch.randint(0, 256, (channels, 50, 70), dtype=torch.uint8)
    labels, mean = torch.zeros(50, 70, dtype=torch.uint8), tuple(20.5 + 10 * channel for channel in range(channels))
    whole = variant(scales=(scale, scale), flip=True, mean=mean, crop=(40, 60))
    view, view_labels = whole(image.to(dtype), labels, np.random.default_rng(7))
    assert (view.dtype, view.shape) == (dtype, (channels, 40, 60))
    for channel, level in enumerate(mean):
        rgb = variant(scales=(scale, scale), flip=True, mean=(level,) * 3, crop=(40, 60))
        expected, expected_labels = rgb(image[channel].expand(3, -1, -1), labels, np.random.default_rng(7))
        assert (view[channel].float() - expected[0].float()).abs().max() <= (1.001 if dtype.is_floating_point else 0)
        assert torch.equal(view_labels, expected_labels)
        outside = view_labels == 255
        assert (view[channel, outside].float() == (level if dtype.is_floating_point else round(level))).all()


@pytest.mark.parametrize(("level", "allowed"), [(3.5, (0, 13.5)), (250.5, (240.5, 255)), (128.25, (118.25, 138.25))])
def test_colors_of_deep_images_are_shifted_by_channel_and_clipped(level: float, allowed: tuple[float, float]) -> None:
    image, labels = torch.full((5, 32, 40), level), torch.zeros(32, 40, dtype=torch.uint8)
    jittered = variant(jitter=10, mean=(0.0,) * 5)
    views = torch.stack([jittered(image, labels, np.random.default_rng(seed))[0] for seed in range(200)])
    assert (views.min(), views.max()) == allowed
    assert (views == views[..., :1, :1]).all()
    assert all(len(of.unique()) > 1 for of in views[:, :, 0, 0])  # each channel its own
    assert (image == level).all()


def test_color_jitter_is_within_its_range() -> None:
    """Of brightness, by the level of a grey image; of saturation and hue, in `colorsys`; of contrast, by the spread."""
    grey, labels = flat(32, 40, 100)
    levels = [int(jittered(grey, labels, seed, brightness=0.3)[0, 0, 0]) for seed in range(300)]
    assert 69 <= min(levels) < 73
    assert 127 < max(levels) <= 130
    assert np.mean(levels) == pytest.approx(100, abs=3)

    color = torch.tensor([180, 90, 60], dtype=torch.uint8)[:, None, None].expand(3, 32, 40)
    before = colorsys.rgb_to_hsv(*(color[:, 0, 0] / 255).tolist())
    for strength, channel in (({"hue": 0.1}, 0), ({"saturation": 0.5}, 1)):
        views = [jittered(color, labels, seed, **strength)[:, 0, 0] / 255 for seed in range(200)]
        shifts = [colorsys.rgb_to_hsv(*view.tolist())[channel] - before[channel] for view in views]
        shifts = [(shift + 0.5) % 1 - 0.5 for shift in shifts]
        assert max(map(abs, shifts)) <= (0.11 if channel == 0 else 0.35)
        assert min(shifts) < -0.08
        assert max(shifts) > 0.08

    stripes = torch.full((3, 32, 40), 80, dtype=torch.uint8)
    stripes[..., ::2] = 160
    spreads = [float(jittered(stripes, labels, seed, contrast=0.5).float().std()) / 40 for seed in range(200)]
    assert 0.48 < min(spreads) < 0.55
    assert 1.45 < max(spreads) < 1.52


def test_blur_has_its_probability_and_only_smooths() -> None:
    image = torch.randint(0, 256, (3, 50, 60), dtype=torch.uint8)
    labels = torch.zeros(50, 60, dtype=torch.uint8)
    plain = [variant()(image, labels, np.random.default_rng(seed))[0].float() for seed in range(400)]
    blurred = [jittered(image, labels, seed, blur=0.25).float() for seed in range(400)]
    changed = [not torch.equal(*pair) for pair in zip(plain, blurred, strict=True)]
    assert 70 < sum(changed) < 130
    assert all(after.std() <= before.std() for before, after in zip(plain, blurred, strict=True))


@pytest.mark.parametrize("channels", [1, 3])
def test_color_jitter_of_deep_images_is_that_of_eight_bits(channels: int) -> None:
    image = torch.randint(0, 256, (channels, 50, 60), dtype=torch.uint8)
    labels, mean = torch.zeros(50, 60, dtype=torch.uint8), (0.0,) * channels
    strengths = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "blur": 1.0}
    for seed in range(20):
        deep, view = (jittered(each, labels, seed, mean, **strengths) for each in (image.float(), image))
        assert deep.dtype == torch.float32
        assert (deep - view.float()).abs().max() <= 8  # every step rounds uint8
        assert (deep - view.float()).abs().mean() <= 2.5  # downwards


def test_color_jitter_changes_no_labels_no_padding_and_not_the_source() -> None:
    image, labels = ramps(20, 25)
    before = image.clone()
    strong = variant(jitter=10, color_jitter=ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, blur=1))
    for seed in range(20):
        plain = variant(jitter=10)(image, labels, np.random.default_rng(seed))
        view, view_labels = strong(image, labels, np.random.default_rng(seed))
        assert torch.equal(view_labels, plain[1])
        outside = view_labels == 255
        assert torch.equal(view[:, outside], plain[0][:, outside])
        assert not torch.equal(view, plain[0])
    assert torch.equal(image, before)


@pytest.mark.parametrize("changes", [{}, {"scales": (0.5, 2.0)}, {"crop": (10, 10)}, {"jitter": 10}])
def test_one_setting_does_not_change_what_the_others_draw(changes: dict) -> None:
    """A generator gives every setting its own numbers: with the flip turned off, the same crops are cut."""
    image, labels = ramps(60, 80)
    base = {"flip": False, "scales": (1.0, 1.0), "jitter": 0, "crop": (32, 40)}
    mirrored = variant(**{**base, "flip": True})
    for seed in range(30):
        plain = variant(**base)(image, labels, np.random.default_rng(seed))[0]
        changed = variant(**{**base, **changes})(image, labels, np.random.default_rng(seed))[0]
        both = variant(**{**base, **changes, "flip": True})(image, labels, np.random.default_rng(seed))[0]
        is_mirrored = torch.equal(mirrored(image, labels, np.random.default_rng(seed))[0], plain.flip(-1))
        assert torch.equal(both, changed.flip(-1) if is_mirrored else changed)


# Resampling.


@st.composite
def spans(draw: st.DrawFn, largest: int = 90) -> Span:
    side = draw(st.integers(1, largest))
    scaled = max(1, round(side * draw(st.floats(0.3, 3.0))))
    first = draw(st.integers(0, scaled - 1))
    return Span(side, scaled, first, draw(st.integers(1, scaled - first)))


def weights(span: Span, shift: float = 0.0) -> NDArray[np.float64]:
    """The antialiased bilinear filter written out: a triangle a pixel, as wide as the wider of the two pixels."""
    step = span.side / span.scaled
    centers = (np.arange(span.first, span.first + span.length) + 0.5) * step + shift
    distance = np.abs(np.arange(span.side) + 0.5 - centers[:, None]) / max(1.0, step)
    triangle = np.maximum(0.0, 1.0 - distance)
    return triangle / triangle.sum(1, keepdims=True)


def window(image: NDArray[np.uint8], rows: Span, columns: Span) -> NDArray[np.uint8]:
    sources = source_of(rows), source_of(columns)
    return resample(as_tensor(image)[:, sources[0].part, sources[1].part], rows, columns, sources)


@given(spans(), spans(), st.integers(0, 99))
@example(Span(9, 10, 1, 1), Span(2, 2, 1, 1), 0)  # as many pixels come out as go in
@example(Span(1000, 1001, 600, 40), Span(31, 65, 4, 50), 0)
def test_the_image_is_the_window_of_the_scaled_image_shifted_by_less_than_the_phase(
    rows: Span, columns: Span, seed: int
) -> None:
    """Against the filter in float64, at the shift that is left over on either side."""
    image = picture(seed, (rows.side, columns.side))
    shifts = []
    for span in (rows, columns):
        part, extra = source_of(span)
        shift = part.start - (span.first - extra) * span.side / span.scaled
        assert abs(shift) <= PHASE + 1e-9
        shifts.append(shift)
    exact = np.einsum("ih,hwc,jw->ijc", weights(rows, shifts[0]), image.astype(np.float64), weights(columns, shifts[1]))
    got = window(image, rows, columns)
    assert got.shape == (rows.length, columns.length, 3)
    assert np.abs(got - exact).max() <= 1.0 + 0.1  # torch rounds after each of the two passes


@given(spans(), spans(), st.integers(0, 99))
def test_at_the_image_s_edge_it_is_torch_s_own_result(rows: Span, columns: Span, seed: int) -> None:
    rows, columns = rows._replace(first=0), columns._replace(first=0)
    image = picture(seed, (rows.side, columns.side))
    whole = F.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None],
        size=(rows.scaled, columns.scaled),
        mode="bilinear",
        antialias=True,
    )[0].permute(1, 2, 0)
    expected = whole[rows.first : rows.first + rows.length, columns.first : columns.first + columns.length].numpy()
    assert np.abs(window(image, rows, columns).astype(int) - expected).max() <= 1


@given(spans(300), spans(300), st.integers(0, 99))
def test_labels_are_exactly_the_window_of_the_scaled_labels(rows: Span, columns: Span, seed: int) -> None:
    labels = ids(seed, 255, (rows.side, columns.side))
    sources = source_of(rows), source_of(columns)
    got = resample_labels(labels[sources[0].part, sources[1].part], rows, columns, sources)
    down, across = (
        [math.floor((2 * i + 1) * span.side / (2 * span.scaled)) for i in range(span.first, span.first + span.length)]
        for span in (rows, columns)
    )
    np.testing.assert_array_equal(got, labels[np.ix_(down, across)])


@pytest.mark.parametrize("scaled", [700, 999, 1001, 1023, 1400, 2000])
def test_little_more_than_the_window_is_read_and_computed(scaled: int) -> None:
    """On average over positions; at scales next to 1 or 1.5, where pixels drift slowly past each other, more is."""
    more = []
    for first in range(0, scaled - 400):
        part, extra = source_of(Span(1000, scaled, first, 400))
        more.append(extra)
        assert part.stop - part.start <= (400 + extra) * 1000 / scaled + 2 * max(1, 1000 / scaled) + 3
    assert np.mean(more) < (60 if scaled in {700, 1400} else 320)


@given(spans(2000))
def test_the_source_lies_within_the_side(span: Span) -> None:
    part, extra = source_of(span)
    assert 0 <= part.start < part.stop <= span.side
    assert 0 <= extra <= span.first
