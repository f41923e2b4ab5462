"""The confusion matrix against a loop over pixels and against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from gffnet.metrics.confusion import ConfusionMatrix, scores_of

IGNORED = 255
Maps = tuple[int, list[tuple[NDArray, NDArray]]]


@st.composite
def images(draw: st.DrawFn) -> Maps:
    """Number of classes, and label maps with predictions, of several sizes; some pixels ignored, some classes rare."""
    classes = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    maps = []
    for _ in range(draw(st.integers(1, 4))):
        size = (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
        labels = rng.integers(0, classes, size)
        labels[rng.random(size) < draw(st.sampled_from([0.0, 0.3, 1.0]))] = IGNORED
        maps.append((labels.astype(np.uint8), rng.integers(0, draw(st.integers(1, classes)), size).astype(np.uint8)))
    return classes, maps


def matrix_of(classes: int, maps: list[tuple[NDArray, NDArray]]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(classes)
    for labels, predicted in maps:
        matrix.update(torch.from_numpy(labels), torch.from_numpy(predicted))
    return matrix


@given(images())
def test_counts_are_those_of_a_loop_over_pixels(given: Maps) -> None:
    classes, maps = given
    expected = np.zeros((classes, classes), np.int64)
    for labels, predicted in maps:
        for label, answer in zip(labels.ravel().tolist(), predicted.ravel().tolist(), strict=True):
            if label != IGNORED:
                expected[label, answer] += 1
    np.testing.assert_array_equal(matrix_of(classes, maps).counts.numpy(), expected)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(images())
def test_scores_are_scikit_learns(given: Maps) -> None:
    classes, maps = given
    labels = np.concatenate([labels.ravel() for labels, _ in maps])
    predicted = np.concatenate([predicted.ravel() for _, predicted in maps])
    labels, predicted = labels[labels != IGNORED], predicted[labels != IGNORED]
    matrix = matrix_of(classes, maps)
    scores = matrix.scores()
    assert scores.pixels == labels.size
    if not labels.size:
        assert (scores.miou, scores.pixel_accuracy, scores.iou) == (0.0, 0.0, (None,) * classes)
        return
    np.testing.assert_array_equal(matrix.counts, confusion_matrix(labels, predicted, labels=range(classes)))
    seen = sorted({*labels.tolist(), *predicted.tolist()})
    iou = dict(zip(seen, jaccard_score(labels, predicted, labels=seen, average=None), strict=True))
    assert scores.iou == pytest.approx(tuple(iou.get(k) for k in range(classes)))
    assert scores.miou == pytest.approx(jaccard_score(labels, predicted, labels=seen, average="macro"))
    assert scores.pixel_accuracy == pytest.approx(accuracy_score(labels, predicted))
    recall = [float((predicted[labels == k] == k).mean()) if (labels == k).any() else None for k in range(classes)]
    assert scores.accuracy == pytest.approx(tuple(recall))


def test_a_class_that_occurs_nowhere_has_no_score_and_does_not_count() -> None:
    labels, predicted = torch.tensor([[0, 0, 2, 255]]), torch.tensor([[0, 2, 2, 1]])
    matrix = ConfusionMatrix(4)
    matrix.update(labels, predicted)
    scores = matrix.scores()
    assert scores.iou == (0.5, None, 0.5, None)  # class 1 was predicted at an ignored pixel only
    assert scores.miou == 0.5
    assert scores.accuracy == (0.5, None, 1.0, None)


def test_a_class_that_is_predicted_but_never_labelled_counts_as_nought() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([[0, 0]]), torch.tensor([[0, 1]]))
    scores = matrix.scores()
    assert scores.iou == (0.5, 0.0)
    assert scores.miou == 0.25
    assert scores.accuracy == (0.5, None)


def test_the_score_is_of_the_whole_data_set_and_no_average_over_images() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64))  # IoU 1 alone
    matrix.update(torch.zeros(1, 9, dtype=torch.int64), torch.ones(1, 9, dtype=torch.int64))  # IoU 0 alone
    assert matrix.scores().iou == (0.1, 0.0)


def test_batches_and_single_images_count_the_same() -> None:
    labels, predicted = torch.randint(0, 5, (3, 4, 6)), torch.randint(0, 5, (3, 4, 6))
    whole, single = ConfusionMatrix(5), ConfusionMatrix(5)
    whole.update(labels, predicted)
    for pair in zip(labels, predicted, strict=True):
        single.update(*pair)
    assert torch.equal(whole.counts, single.counts)
    assert whole.counts.sum() == labels.numel()


def test_many_pixels_of_eight_bits_do_not_overflow() -> None:
    labels = torch.full((200, 500), 18, dtype=torch.uint8)
    matrix = ConfusionMatrix(19)
    matrix.update(labels, labels)
    assert matrix.counts[18, 18] == 100_000
    assert matrix.scores().miou == 1.0


def test_scores_of_counts_too_large_for_float32_are_exact() -> None:
    counts = torch.tensor([[2**26 + 1, 0], [0, 2**26]])
    counts[0, 1] = 1
    assert scores_of(counts).pixel_accuracy == (2**27 + 1) / (2**27 + 2)


# What cannot be counted is an error, and not counted in part.


@pytest.mark.parametrize("wrong", [3, 200, -1])
def test_a_prediction_that_is_no_class(wrong: int) -> None:
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=r"a prediction is outside 0\.\.2"):
        matrix.update(torch.tensor([[0, 1]]), torch.tensor([[0, wrong]]))
    assert matrix.counts.sum() == 0
    matrix.update(torch.tensor([[0, 255]]), torch.tensor([[0, wrong]]))  # at an ignored pixel it does not matter
    assert matrix.counts.sum() == 1


def test_a_negative_label() -> None:
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match="a label is below 0"):
        matrix.update(torch.tensor([[1, -1]]), torch.tensor([[0, 2]]))
    assert matrix.counts.sum() == 0


def test_sizes_that_differ() -> None:
    with pytest.raises(ValueError, match=r"labels are \(2, 3\), but predictions are \(3, 2\)"):
        ConfusionMatrix(3).update(torch.zeros(2, 3, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64))
