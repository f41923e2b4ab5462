import pytest
import torch
from hypothesis import given

from gffnet.models.gffnet import Head
from gffnet.models.ops import use_reference
from tests.models import naive
from tests.models.naive import (
    BACKBONE_SIZES,
    assert_equal,
    assert_forms_agree,
    bfloat16_errors,
    pyramid_sizes,
    random_maps,
    sides,
)

WIDTHS = (2, 4, 3, 1, 5)


def built(widths, dropout=0.1):
    return naive.randomised(Head(widths, 6, dropout))


def expected(head, maps, size):
    """All maps resized to the finest, concatenated, classified, resized to the image."""
    finest = (max(x.shape[-2] for x in maps), max(x.shape[-1] for x in maps))
    return naive.resize(naive.conv(head.classifier, naive.resized_cat(maps, finest)), size)


@pytest.mark.parametrize("plain", [False, True])
@given(sizes=pyramid_sizes(least=1), size=sides(40))
def test_equals_classification_of_the_concatenated_maps(plain, sizes, size):
    head = built(WIDTHS[: len(sizes)])
    use_reference(head, plain)
    maps = random_maps(head.classifier.widths, sizes)
    assert_equal(head(maps, size), expected(head, maps, size))


@pytest.mark.parametrize("sizes", BACKBONE_SIZES)
def test_both_forms_and_their_gradients_agree(sizes):
    head = built(WIDTHS[:4])
    maps = random_maps(WIDTHS[:4], sizes)
    assert_forms_agree(head, lambda m: m(maps, (51, 67)), maps)


@pytest.mark.parametrize("plain", [False, True])
def test_dropout_acts_on_whole_channels(plain):
    """With every map, weight and share known, each logit tells how many channels were kept."""
    head = Head((8, 8), 1, dropout=0.5).double().train()
    use_reference(head, plain)
    torch.nn.init.ones_(head.classifier.weight)
    logits = head([torch.ones(64, 8, 4, 4).double(), torch.ones(64, 8, 2, 2).double()], (8, 8))
    kept = logits / 2  # dropout scales what it keeps by 1 / (1 - 0.5)
    assert_equal(kept, kept[:, :, :1, :1].expand_as(kept))
    assert_equal(kept, kept.round())
    assert kept[:, 0, 0, 0].unique().numel() > 4
    assert 7 < kept.mean() < 9


def test_no_dropout_in_evaluation():
    head = built(WIDTHS[:2], dropout=0.9)
    maps = random_maps(WIDTHS[:2], [(4, 4), (2, 2)])
    assert_equal(head(maps, (8, 8)), expected(head, maps, (8, 8)))


def test_starts_without_preference():
    """Scores near zero: the first loss is the logarithm of the number of classes."""
    head = Head((256,) * 5, 19).eval()
    logits = head([torch.randn(1, 256, 4, 4) for _ in range(5)], (4, 4))
    loss = torch.nn.functional.cross_entropy(logits, torch.zeros(1, 4, 4, dtype=torch.long))
    assert loss.item() == pytest.approx(torch.log(torch.tensor(19.0)).item(), rel=0.2)
    assert not head.classifier.bias.any()


def test_bfloat16_error_is_near_the_plain_form_s():
    head = built((32,) * 5)
    maps = random_maps((32,) * 5, [(8, 8), (8, 8), (8, 8), (8, 8), (16, 16)])
    cheap, plain = bfloat16_errors(head, lambda m, x: m(x, (64, 64)), maps)
    assert cheap <= 1.5 * plain


def test_parameters():
    assert sum(p.numel() for p in Head((256,) * 5, 19).parameters()) == 5 * 256 * 19 + 19
