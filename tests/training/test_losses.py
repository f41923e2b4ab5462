"""Cross-entropy and its gradient against a loop over pixels in float64 and torch's; class weights.

The other terms of the loss against the equations of their papers in float64, and their sum.
"""

import itertools
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor, nn

from gffnet.errors import UserError
from gffnet.recipe import LossRecipe, RecipeError
from gffnet.registry import register_loss
from gffnet.training.losses import (
    IGNORE,
    LOSSES,
    SegmentationLoss,
    class_weights,
    make_loss,
)

CLASSES = 4


WEIGHTS = (0.5, 2.0, 1.25, 0.125)


EVERY_OPTION: list[dict[str, Any]] = [
    {},
    {"label_smoothing": 0.1},
    {"class_weights": WEIGHTS},
    {"label_smoothing": 0.3, "class_weights": WEIGHTS},
    {"ohem": 0.3, "ohem_keep": 0.0},
    {"ohem": 0.01, "ohem_keep": 0.25},
    {"ohem": 0.5, "label_smoothing": 0.2, "class_weights": WEIGHTS},
    {"ohem": 1.0, "ohem_keep": 1.0},
]


MINING = [options for options in EVERY_OPTION if "ohem" in options]


every_option = pytest.mark.parametrize("options", EVERY_OPTION, ids=str)


options_of_all_kinds = st.fixed_dictionaries(
    {},
    optional={
        "label_smoothing": st.floats(0, 0.9),
        "class_weights": st.lists(st.floats(0.05, 20), min_size=CLASSES, max_size=CLASSES).map(tuple),
        "ohem": st.floats(0.05, 1),
        "ohem_keep": st.floats(0, 1),
    },
)


@dataclass
class Naive:
    """A batch, pixel by pixel."""

    total: float = 0.0
    weight: float = 0.0
    gradient: Any = None


def naive(logits: Tensor, labels: Tensor, recipe: LossRecipe) -> Naive:
    """Sum, weight and gradient of the loss, each pixel by its formula."""
    z = logits.detach().double().numpy()
    smoothing, w = recipe.label_smoothing, np.array(recipe.class_weights or [1.0] * z.shape[1])
    pixels = []
    for b, y, x in np.ndindex(*labels.shape):
        label = int(labels[b, y, x])
        if label == IGNORE:
            continue
        scores = z[b, :, y, x]
        p = np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum()
        loss = -(1 - smoothing) * w[label] * math.log(p[label])
        gradient = (1 - smoothing) * w[label] * (p - np.eye(len(p))[label])
        for k in range(len(p)):
            loss -= smoothing / len(p) * w[k] * math.log(p[k])
            gradient += smoothing / len(p) * w[k] * (p - np.eye(len(p))[k])
        pixels.append((p[label], loss, w[label], gradient, (b, y, x)))
    return summed(pixels, z, recipe)


def summed(pixels: list[Any], z: NDArray[np.float64], recipe: LossRecipe) -> Naive:
    """What the pixels amount to, all of them or the hard ones."""
    result = Naive(weight=sum(pixel[2] for pixel in pixels), gradient=np.zeros_like(z))
    kept, factor = pixels, 1.0
    if recipe.ohem is not None:
        must = math.ceil(recipe.ohem_keep * len(pixels))
        limit = sorted(pixel[0] for pixel in pixels)[must - 1] if must else -1
        kept = [pixel for pixel in pixels if pixel[0] < recipe.ohem or pixel[0] <= limit]
        factor = result.weight / sum(pixel[2] for pixel in kept) if kept else 0.0
    for _, loss, _, gradient, (b, y, x) in kept:
        result.total += factor * loss
        result.gradient[b, :, y, x] = factor * gradient
    return result


def loss_of(options: dict[str, Any]) -> tuple[SegmentationLoss, LossRecipe]:
    recipe = LossRecipe(**options)
    weights = None if recipe.class_weights is None else torch.tensor(recipe.class_weights)
    return SegmentationLoss(recipe, weights), recipe


def batch(images: int = 2, height: int = 3, width: int = 5, ignored: float = 0.2) -> tuple[Tensor, Tensor]:
    """Logits with a gradient, and labels; the last image has half the share of ignored pixels of the others."""
    labels = torch.randint(0, CLASSES, (images, height, width))
    share = torch.full((images, 1, 1), ignored)
    share[-1] /= 2
    labels[torch.rand(labels.shape) < share] = IGNORE
    return (2 * torch.randn(images, CLASSES, height, width)).requires_grad_(), labels


def gradient(of: Tensor, to: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(of, to)
    return result


def check(loss: SegmentationLoss, recipe: LossRecipe, logits: Tensor, labels: Tensor) -> None:
    wanted = naive(logits, labels, recipe)
    total = loss(logits, labels)
    assert total.dtype == loss.weight(labels).dtype == torch.float32
    assert loss.weight(labels).item() == pytest.approx(wanted.weight, rel=1e-5)
    assert total.item() == pytest.approx(wanted.total, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(
        gradient(total, logits).double(), torch.from_numpy(wanted.gradient), rtol=1e-4, atol=1e-5
    )


@every_option
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_sum_weight_and_gradient_are_those_of_the_loop(options: dict[str, Any], dtype: torch.dtype) -> None:
    logits, labels = batch()
    check(*loss_of(options), logits, labels.to(dtype))


@given(
    options=options_of_all_kinds,
    seed=st.integers(0, 2**31),
    size=st.tuples(*[st.integers(1, 4)] * 3),
    share=st.floats(0, 1),
)
def test_so_they_are_with_any_options(
    options: dict[str, Any], seed: int, size: tuple[int, int, int], share: float
) -> None:
    torch.manual_seed(seed)
    check(*loss_of(options), *batch(*size, ignored=share))


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"ohem": 0.1, "ohem_keep": 0.25}], ids=str)
@pytest.mark.parametrize("classes", [1, 15, 16, 17])
def test_so_they_are_with_rows_shorter_and_longer_than_a_vector_register(options: dict[str, Any], classes: int) -> None:
    logits = torch.randn(2, classes, 3, 5, requires_grad=True)
    check(*loss_of(options), logits, torch.randint(0, classes, (2, 3, 5)))


@pytest.mark.parametrize("options", [options for options in EVERY_OPTION if options not in MINING], ids=str)
def test_over_its_weight_it_is_the_mean_of_torch(options: dict[str, Any]) -> None:
    loss, recipe = loss_of(options)
    logits, labels = batch()
    wanted = F.cross_entropy(
        logits, labels, loss.class_weights, ignore_index=IGNORE, label_smoothing=recipe.label_smoothing
    )
    mean = loss(logits, labels) / loss.weight(labels)
    torch.testing.assert_close(mean, wanted)
    torch.testing.assert_close(gradient(mean, logits), gradient(wanted, logits))


@pytest.mark.parametrize("options", MINING, ids=str)
def test_mining_that_keeps_everything_is_no_mining(options: dict[str, Any]) -> None:
    logits, labels = batch()
    everything = {**options, "ohem_keep": 1.0}
    without = {key: value for key, value in options.items() if not key.startswith("ohem")}
    mined, plain = (loss_of(o)[0](logits, labels) for o in (everything, without))
    torch.testing.assert_close(mined, plain)
    torch.testing.assert_close(gradient(mined, logits), gradient(plain, logits))


def two_classes(*probabilities: float) -> tuple[Tensor, Tensor]:
    """A row of pixels of class 0 that have it with these probabilities."""
    p = torch.tensor(probabilities)
    return torch.stack([p.log(), (1 - p).log()])[None, :, None].requires_grad_(), torch.zeros(1, 1, len(p)).long()


@pytest.mark.parametrize(
    ("ohem", "keep", "kept"),
    [
        (0.7, 0.0, {0.1, 0.3, 0.5}),
        (0.05, 0.0, set()),
        (0.2, 0.0, {0.1}),
        (0.2, 1 / 6, {0.1}),
        (0.2, 0.34, {0.1, 0.3, 0.5}),  # a third part of a pixel more than two
        (0.2, 0.5, {0.1, 0.3, 0.5}),
        (0.7, 0.5, {0.1, 0.3, 0.5}),
        (0.2, 0.51, {0.1, 0.3, 0.5, 0.8}),  # two of 0.8: as hard as each other
        (1.0, 0.0, {0.1, 0.3, 0.5, 0.8, 0.9}),
    ],
)
def test_mining_keeps_what_is_below_the_threshold_and_the_hardest(ohem: float, keep: float, kept: set[float]) -> None:
    row = (0.9, 0.1, 0.8, 0.3, 0.8, 0.5)
    logits, labels = two_classes(*row)
    mined = loss_of({"ohem": ohem, "ohem_keep": keep})[0](logits, labels)
    losses = [-math.log(p) for p in row if p in kept]
    assert mined.item() == pytest.approx(6 * sum(losses) / max(len(losses), 1), rel=1e-5)
    felt = gradient(mined, logits).abs().sum(1).flatten() > 0
    assert felt.tolist() == [p in kept for p in row]


def test_only_labelled_pixels_count_for_the_share_that_is_kept() -> None:
    logits, labels = two_classes(0.6, 0.7, 0.8, 0.9, 0.1, 0.2)
    labels[..., 4:] = IGNORE  # a quarter of four is one
    mined = loss_of({"ohem": 0.01, "ohem_keep": 0.25})[0](logits, labels)
    assert mined.item() == pytest.approx(4 * -math.log(0.6), rel=1e-5)


@every_option
def test_ignored_pixels_have_a_gradient_of_exactly_zero(options: dict[str, Any]) -> None:
    loss, _ = loss_of(options)
    logits, labels = batch()
    felt = gradient(loss(logits, labels), logits).abs().sum(1)
    assert not felt[labels == IGNORE].any()
    if "ohem" not in options:
        assert (felt[labels != IGNORE] > 0).all()


@every_option
def test_no_labelled_pixel_is_no_loss_and_no_nan(options: dict[str, Any]) -> None:
    loss, _ = loss_of(options)
    logits, labels = batch(ignored=4.0)
    assert (labels == IGNORE).all()
    assert loss.weight(labels).item() == 0
    total = loss(logits, labels)
    assert total.item() == 0
    assert torch.equal(gradient(total, logits), torch.zeros_like(logits))


@pytest.mark.parametrize("options", [options for options in EVERY_OPTION if options not in MINING], ids=str)
@pytest.mark.parametrize("parts", [[2, 2], [1, 3], [1, 1, 1, 1]])
def test_parts_over_the_weight_of_the_whole_have_the_gradient_of_the_whole(
    options: dict[str, Any], parts: list[int]
) -> None:
    loss, _ = loss_of(options)
    logits, labels = batch(4)
    labels[2] = IGNORE  # an image without labels: the mean of its part has no value
    whole = loss(logits, labels) / loss.weight(labels)
    pairs = list(zip(logits.split(parts), labels.split(parts), strict=True))
    weight = torch.stack([loss.weight(part) for _, part in pairs]).sum()
    summed = torch.stack([loss(*pair) / weight for pair in pairs]).sum()
    torch.testing.assert_close(weight, loss.weight(labels))
    torch.testing.assert_close(summed, whole)
    torch.testing.assert_close(gradient(summed, logits), gradient(whole, logits))


@every_option
def test_a_broken_pixel_breaks_the_loss(options: dict[str, Any]) -> None:
    """What watches the loss of a run must see it, mined or not."""
    loss, _ = loss_of(options)
    logits, labels = batch(ignored=0.0)
    with torch.no_grad():
        logits[0, 1, 2, 3] = math.nan
    assert loss(logits, labels).isnan()


@every_option
def test_half_precision_in_any_layout_is_computed_in_float32(options: dict[str, Any]) -> None:
    loss, recipe = loss_of(options)
    logits, labels = batch()
    half = (5 * logits.detach()).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        total = loss(half, labels)
    wanted = naive(half.float(), labels, recipe)
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(wanted.total, rel=1e-5)
    close = torch.from_numpy(wanted.gradient).bfloat16()
    torch.testing.assert_close(gradient(total, half), close, rtol=0.01, atol=1e-6)


@every_option
def test_one_map_of_the_size_of_the_logits_is_kept_for_the_gradient(options: dict[str, Any]) -> None:
    loss, _ = loss_of(options)
    logits, labels = batch()
    kept: set[int] = set()

    def pack(x: Tensor) -> Tensor:
        if x.numel() >= logits.numel():
            kept.add(x.data_ptr())
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        total = loss(logits.bfloat16().contiguous(memory_format=torch.channels_last), labels)
    assert len(kept) == 1
    total.backward()


@pytest.mark.slow
@pytest.mark.parametrize("options", [EVERY_OPTION[3], EVERY_OPTION[6]], ids=str)
def test_it_compiles_as_one_graph(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # checks of shapes, in tests only, do not compile
    torch._dynamo.reset()
    loss, _ = loss_of(options)
    logits, labels = batch()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    totals = compiled(logits, labels), loss(logits, labels)
    torch.testing.assert_close(*totals)
    torch.testing.assert_close(*(gradient(total, logits) for total in totals))


def test_class_weights_move_with_the_loss_and_are_not_in_checkpoints() -> None:
    loss, _ = loss_of({"class_weights": WEIGHTS})
    assert loss.state_dict() == {}
    assert [name for name, _ in loss.named_buffers()] == ["class_weights"]
    assert list(loss.parameters()) == []


MEDIAN, ENET = LossRecipe(class_weighting="median_frequency"), LossRecipe(class_weighting="enet")


NAMES = ("road", "sky", "car")


counts = st.tuples(st.integers(1, 5), st.integers(1, 6)).flatmap(
    lambda shape: arrays(np.int64, shape, elements=st.one_of(st.just(0), st.integers(0, 10**7)))
)


def names(pixels: np.ndarray) -> list[str]:
    return [f"class {i}" for i in range(pixels.shape[1])]


@given(pixels=counts)
def test_median_frequency_is_its_definition(pixels: np.ndarray) -> None:
    frequency = {}
    for c in range(pixels.shape[1]):
        images = [row for row in pixels.tolist() if row[c]]
        if images:
            frequency[c] = sum(row[c] for row in images) / sum(sum(row) for row in images)
    weights = class_weights(MEDIAN, names(pixels), pixels)
    assert weights is not None
    assert weights.dtype == torch.float32
    wanted = [median(frequency.values()) / frequency[c] if c in frequency else 1 for c in range(pixels.shape[1])]
    assert weights.tolist() == pytest.approx(wanted, rel=1e-6)


@given(pixels=counts)
def test_enet_is_its_definition(pixels: np.ndarray) -> None:
    whole = sum(sum(row) for row in pixels.tolist())
    weights = class_weights(ENET, names(pixels), pixels)
    assert weights is not None
    wanted = [1 / math.log(1.02 + n / whole) if n else 1 for n in pixels.sum(0).tolist()]
    assert weights.tolist() == pytest.approx(wanted, rel=1e-6)


def test_by_hand() -> None:
    pixels = np.array([[60, 30, 10], [80, 20, 0], [0, 0, 0]])
    # road: 140 of 200, sky: 50 of 200, car: 10 of the 100 in the image that shows it; the median is sky's quarter
    median_frequency = class_weights(MEDIAN, NAMES, pixels)
    assert median_frequency is not None
    assert median_frequency.tolist() == pytest.approx([0.25 / 0.7, 1, 2.5])
    enet = class_weights(ENET, NAMES, pixels)
    assert enet is not None
    assert enet.tolist() == pytest.approx([1 / math.log(1.72), 1 / math.log(1.27), 1 / math.log(1.07)])


@pytest.mark.parametrize("recipe", [MEDIAN, ENET])
def test_nothing_labelled_at_all_weighs_all_the_same(recipe: LossRecipe) -> None:
    weights = class_weights(recipe, NAMES, np.zeros((2, 3), np.int64))
    assert weights is not None
    assert weights.tolist() == [1, 1, 1]


def test_weights_of_ones_own_are_taken_as_they_are() -> None:
    weights = class_weights(LossRecipe(class_weights=(0.5, 2.0, 1.0)), NAMES, None)
    assert weights is not None
    assert weights.dtype == torch.float32
    assert weights.tolist() == [0.5, 2, 1]


def test_as_many_as_there_are_classes() -> None:
    with pytest.raises(
        UserError,
        match=r"training\.loss\.class_weights has 2 values: allowed is one per class .* 3 \(road to car\)\. Give 3, or",
    ):
        class_weights(LossRecipe(class_weights=(0.5, 2.0)), NAMES, None)


def test_the_paper_has_none() -> None:
    assert class_weights(LossRecipe(), NAMES, None) is None


# Terms and their sum


def dice(z: Tensor, labels: Tensor) -> Tensor:
    """1 - 2 |P ∩ G| / (|P| + |G|) of the classes that are present, averaged over all."""
    p, labelled, losses = z.softmax(1), labels != IGNORE, []
    for c in range(z.shape[1]):
        of_c = labels == c
        if of_c.any():
            losses.append(1 - 2 * p[:, c][of_c].sum() / (p[:, c][labelled].sum() + of_c.sum()))
    return torch.stack(losses).sum() / z.shape[1]


def lovasz(z: Tensor, labels: Tensor) -> Tensor:
    """The Lovász extension of 1 - IoU as a sum over thresholds: the set of errors above each is scored by itself."""
    p, labelled, losses = z.softmax(1), labels != IGNORE, []
    for c in range(z.shape[1]):
        of_c = (labels == c)[labelled]
        if of_c.any():
            errors = (of_c.double() - p[:, c][labelled]).abs()
            loss = torch.zeros((), dtype=z.dtype)
            steps = torch.cat([errors.new_zeros(1), errors.sort().values])
            for lower, upper in itertools.pairwise(steps):
                wrong = errors >= upper
                loss = loss + (upper - lower) * (wrong.sum() / (of_c | wrong).sum())
            losses.append(loss)
    return torch.stack(losses).mean()


def focal(z: Tensor, labels: Tensor) -> Tensor:
    """Eq. (4) of Lin et al. for every pixel and class."""
    losses = []
    for b, y, x in np.ndindex(*labels.shape):
        if labels[b, y, x] != IGNORE:
            for c in range(z.shape[1]):
                p = z[b, c, y, x].sigmoid()
                q = p if labels[b, y, x] == c else 1 - p
                losses.append(-((1 - q) ** 2) * q.log())
    return torch.stack(losses).mean()


PAPERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"dice": dice, "lovasz": lovasz, "focal": focal}


every_term = pytest.mark.parametrize("name", PAPERS)


@every_term
@pytest.mark.parametrize(("images", "height", "width", "ignored"), [(2, 3, 5, 0.3), (1, 4, 4, 0.9), (1, 1, 1, 0.0)])
def test_a_term_is_its_papers_equation(name: str, images: int, height: int, width: int, ignored: float) -> None:
    logits, labels = batch(images, height, width, ignored)
    labels[labels == 2] = IGNORE  # a class that is absent, though predicted
    labels[0, 0, 0] = 1
    loss = make_loss(LossRecipe(terms={name: 1}))
    total, wanted = loss(logits, labels.byte()), PAPERS[name](logits.double(), labels) * loss.weight(labels)
    assert loss.weight(labels) == (labels != IGNORE).sum()
    assert total.item() == pytest.approx(wanted.item(), rel=1e-5)
    of_total = gradient(total, logits)
    torch.testing.assert_close(of_total, gradient(wanted, logits), rtol=1e-4, atol=1e-6)
    assert not of_total.permute(0, 2, 3, 1)[labels == IGNORE].any()


@every_term
def test_no_labelled_pixel_is_a_loss_of_zero(name: str) -> None:
    logits, labels = batch(ignored=2.0)
    loss = make_loss(LossRecipe(terms={name: 1, "cross_entropy": 1}))
    total = loss(logits, labels)
    assert (total.item(), loss.weight(labels).item(), gradient(total, logits).abs().max().item()) == (0, 0, 0)


@every_term
def test_a_term_is_computed_in_float32(name: str) -> None:
    logits, labels = batch()
    half, loss = logits.detach().bfloat16(), make_loss(LossRecipe(terms={name: 1}))
    with torch.autocast("cpu", torch.bfloat16):
        total = loss(half, labels)
    assert total.item() == loss(half.float(), labels).item()


def test_the_default_is_cross_entropy_itself() -> None:
    assert type(make_loss(LossRecipe())) is SegmentationLoss
    assert type(make_loss(LossRecipe(terms={"dice": 0, "cross_entropy": 1}))) is SegmentationLoss


def test_a_sum_is_that_of_the_means() -> None:
    logits, labels = batch()
    loss = make_loss(LossRecipe(terms={"dice": 0.5, "cross_entropy": 2, "focal": 0, "lovasz": 1}))
    of_torch = F.cross_entropy(logits.double(), labels, ignore_index=IGNORE)
    wanted = 2 * of_torch + 0.5 * dice(logits.double(), labels) + lovasz(logits.double(), labels)
    mean = loss(logits, labels) / loss.weight(labels)
    assert mean.item() == pytest.approx(wanted.item(), rel=1e-5)
    torch.testing.assert_close(gradient(mean, logits), gradient(wanted, logits), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("terms", [{"focal": 3, "cross_entropy": 0.5}, {"cross_entropy": 2}], ids=str)
def test_parts_of_a_sum_of_pixel_losses_are_exact(terms: dict[str, float]) -> None:
    logits, labels = batch(images=4)
    loss = make_loss(LossRecipe(terms=terms))
    whole = loss(logits, labels) / loss.weight(labels)
    parts = [loss(z, y) / loss.weight(labels) for z, y in zip(logits.split(1), labels.split(1), strict=True)]
    assert sum(part.item() for part in parts) == pytest.approx(whole.item(), rel=1e-5)
    torch.testing.assert_close(gradient(torch.stack(parts).sum(), logits), gradient(whole, logits))


def test_class_weights_stay_exact_beside_another_term() -> None:
    """Of parts with different classes, which have different weights per pixel."""
    logits, labels = batch(images=2)
    labels[0], labels[1, :2] = 1, 3
    recipe = LossRecipe(terms={"lovasz": 1, "cross_entropy": 1}, class_weights=WEIGHTS)
    loss, alone = make_loss(recipe, torch.tensor(WEIGHTS)), SegmentationLoss(recipe, torch.tensor(WEIGHTS))
    assert loss.weight(labels) == alone.weight(labels)
    for z, y in zip(logits.split(1), labels.split(1), strict=True):
        rest = (loss(z, y) - alone(z, y)) / alone.weight(y)
        assert rest.item() == pytest.approx(lovasz(z.double(), y).item(), rel=1e-4)


@pytest.fixture
def _own() -> Iterator[None]:
    """Losses that a test registers are gone after it."""
    yield
    for name in ("mine", "pixels"):
        LOSSES.pop(name, None)


@pytest.mark.usefixtures("_own")
def test_a_function_or_a_module_of_ones_own() -> None:
    def brier(logits: Tensor, labels: Tensor) -> Tensor:
        assert (logits.dtype, labels.dtype) == (torch.float32, torch.int64)
        p = logits.softmax(1).permute(0, 2, 3, 1)[labels != IGNORE]
        return (p - F.one_hot(labels[labels != IGNORE], p.shape[1])).square().sum(1).mean()

    class Brier(nn.Module):
        def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
            return brier(logits, labels)

    logits, labels = batch()
    for entry in (brier, Brier):
        register_loss("mine")(entry)
        loss = make_loss(LossRecipe(terms={"mine": 2}))
        mean = loss(logits, labels.byte()) / loss.weight(labels)
        assert mean.item() == pytest.approx(2 * brier(logits, labels).item())
        del LOSSES["mine"]


@pytest.mark.usefixtures("_own")
def test_what_is_no_loss_is_refused() -> None:
    register_loss("mine")(nn.Linear)
    with pytest.raises(UserError, match=r"loss 'mine': its class Linear must be built without arguments"):
        make_loss(LossRecipe(terms={"mine": 1}))

    @register_loss("pixels")
    def pixels(logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none")

    with pytest.raises(ValueError, match=r"the loss pixels returned a tensor of shape \(2, 3, 5\): it must return"):
        make_loss(LossRecipe(terms={"pixels": 1}))(*batch())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"terms": {"dise": 1}}, r"terms\.dise: must be one of 'cross_entropy', .*Did you mean 'dice'"),
        ({"terms": {"dice": -1}}, r"terms\.dice: must be greater than or equal to 0, got -1"),
        ({"terms": {}}, r"one term at least must have a weight above 0"),
        ({"terms": {"dice": 0}}, r"one term at least must have a weight above 0"),
        ({"terms": {"dice": 1}, "ohem": 0.7}, r"loss\.ohem is an option of cross-entropy.*leave ohem out"),
        ({"terms": {"dice": 1}, "label_smoothing": 0.1}, r"label_smoothing is an option of cross-entropy"),
        ({"terms": {"dice": 1, "cross_entropy": 0}, "class_weighting": "enet"}, r"class_weighting is an option of"),
        ({"terms": {"dice": 1}, "class_weights": (1.0, 2.0)}, r"class_weights is an option of cross-entropy"),
    ],
)
def test_terms_that_do_not_fit(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        LossRecipe(**options)


@pytest.mark.slow
def test_the_library_of_the_other_terms_is_imported_where_one_is_used() -> None:
    code = (
        "import sys; from gffnet.recipe import LossRecipe; from gffnet.training.losses import make_loss\n"
        "make_loss(LossRecipe()); assert 'segmentation_models_pytorch' not in sys.modules\n"
        "make_loss(LossRecipe(terms={'dice': 1})); assert 'segmentation_models_pytorch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
