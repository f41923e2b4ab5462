"""The loss against a loop over pixels."""

import math

import numpy as np
import pytest
import torch

from gffnet.training.losses import IGNORE, parsing_loss


def naive(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean over labelled pixels of `log Σ exp(z) - z_label`, pixel by pixel."""
    terms = []
    for b, y, x in np.ndindex(labels.shape):
        if labels[b, y, x] != IGNORE:
            scores = [float(v) for v in logits[b, :, y, x]]
            terms.append(math.log(sum(math.exp(v) for v in scores)) - scores[labels[b, y, x]])
    return sum(terms) / len(terms)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_it_is_the_mean_over_labelled_pixels(dtype: torch.dtype) -> None:
    logits = 3 * torch.randn(2, 4, 3, 5)
    labels = torch.randint(0, 4, (2, 3, 5)).to(dtype)
    labels[0, 0, :3] = IGNORE
    assert parsing_loss(logits, labels).item() == pytest.approx(naive(logits.numpy(), labels.numpy()), rel=1e-5)


def test_ignored_pixels_contribute_nothing() -> None:
    logits = torch.randn(1, 3, 2, 4, requires_grad=True)
    labels = torch.tensor([[[0, 1, 2, IGNORE], [IGNORE, 0, 1, 2]]])
    parsing_loss(logits, labels).backward()
    assert logits.grad is not None
    gradient = logits.grad.abs().sum(1)
    assert torch.equal(gradient == 0, labels == IGNORE)


def test_no_labelled_pixel_is_no_loss_and_no_nan() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = parsing_loss(logits, torch.full((1, 2, 2), IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_half_precision_is_reckoned_in_float32() -> None:
    logits = (20 * torch.randn(1, 3, 4, 4)).bfloat16()
    labels = torch.randint(0, 3, (1, 4, 4))
    loss = parsing_loss(logits, labels)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(naive(logits.float().numpy(), labels.numpy()), rel=1e-5)
