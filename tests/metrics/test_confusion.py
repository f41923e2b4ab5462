"""The confusion matrix against a loop over pixels, scikit-learn, and the official code of Cityscapes and ADE20K."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, jaccard_score

from gffnet.data.cityscapes import EVALUATED
from gffnet.metrics import confusion
from gffnet.metrics.confusion import ConfusionMatrix, class_scores, joint_counts, pair_counts
from tests.metrics.maps import Case, Map, cases, cleaned, real_pairs


def matrix_of(classes: int, maps: list[tuple[NDArray, NDArray]]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(classes)
    for labels, predicted in maps:
        matrix.update(labels, predicted)
    return matrix


def whole(classes: int, maps: list[tuple[Map, Map]]) -> tuple[Map, Map]:
    """All labelled pixels in a row, and their predictions; `classes` for no class."""
    pairs = [cleaned(classes, *pair) for pair in maps]
    labels, predicted = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    return labels[labels < classes], predicted[labels < classes]


@given(cases())
def test_counts_are_those_of_a_loop_over_pixels(given: Case) -> None:
    classes, maps = given
    expected = np.zeros((classes, classes + 1), np.int64)
    for labels, predicted in maps:
        for label, answer in zip(labels.ravel().tolist(), predicted.ravel().tolist(), strict=True):
            if label < classes:
                expected[label, min(answer, classes)] += 1
    np.testing.assert_array_equal(matrix_of(classes, maps).counts.numpy(), expected)


@pytest.mark.parametrize("kind", [np.int16, np.int64, np.uint16, torch.uint8, torch.int32, torch.int64])
@given(cases())
def test_numbers_of_any_kind_count_the_same(kind: Any, given: Case) -> None:
    classes, maps = given
    if isinstance(kind, torch.dtype):
        other = [tuple(torch.from_numpy(one).to(kind) for one in pair) for pair in maps]
    else:
        other = [tuple(one.astype(kind) for one in pair) for pair in maps]
    assert torch.equal(matrix_of(classes, other).counts, matrix_of(classes, maps).counts)
    mixed = [(ours, theirs) for (ours, _), (_, theirs) in zip(maps, other, strict=True)]
    assert torch.equal(matrix_of(classes, mixed).counts, matrix_of(classes, maps).counts)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(cases())
def test_scores_are_scikit_learns(given: Case) -> None:
    classes, maps = given
    labels, predicted = whole(classes, maps)
    matrix = matrix_of(classes, maps)
    scores = matrix.scores()
    assert scores.pixels == labels.size
    if not labels.size:
        assert (scores.miou, scores.pixel_accuracy, scores.iou) == (0.0, 0.0, (None,) * classes)
        return
    expected = confusion_matrix(labels, predicted, labels=range(classes + 1))
    np.testing.assert_array_equal(matrix.counts, expected[:classes])
    seen = sorted({*labels.tolist(), *predicted.tolist()} - {classes})
    iou = dict(zip(seen, jaccard_score(labels, predicted, labels=seen, average=None), strict=True))
    assert scores.iou == pytest.approx(tuple(iou.get(k) for k in range(classes)), abs=1e-12)
    assert scores.miou == pytest.approx(jaccard_score(labels, predicted, labels=seen, average="macro"), abs=1e-12)
    weighted = jaccard_score(labels, predicted, labels=seen, average="weighted")
    assert scores.frequency_weighted_iou == pytest.approx(weighted, abs=1e-12)
    assert scores.pixel_accuracy == pytest.approx(accuracy_score(labels, predicted), abs=1e-12)
    recall = [float((predicted[labels == k] == k).mean()) if (labels == k).any() else None for k in range(classes)]
    assert scores.accuracy == pytest.approx(tuple(recall), abs=1e-12)
    assert scores.mean_accuracy == pytest.approx(np.mean([value for value in recall if value is not None]), abs=1e-12)
    assert matrix.scores("zero").miou == pytest.approx(sum(iou.values()) / classes, abs=1e-12)


def official(folder: Path, maps: list[tuple[Map, Map]]) -> dict[str, Any]:
    """What the official code of Cityscapes says of maps of train ids; 255 is stored as `unlabeled`."""
    code = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    table = np.zeros(256, np.uint8)
    table[: len(EVALUATED)] = EVALUATED
    paths: tuple[list[str], list[str]] = ([], [])
    for number, pair in enumerate(maps):
        for listed, name, one in zip(paths, ("labelIds", "predicted"), pair, strict=True):
            path = folder / f"a_000000_{number:06d}_{name}.png"
            Image.fromarray(table[one]).save(path)
            listed.append(str(path))
    given = {"evalInstLevelScore": False, "JSONOutput": False, "quiet": True}
    results = code.evaluateImgLists(paths[1], paths[0], SimpleNamespace(**{**vars(code.args), **given}))
    names = [code.id2label[label].name for label in EVALUATED]
    found = [results["classScores"][name] for name in names]
    return {
        "iou": tuple(None if np.isnan(value) else value for value in found),
        "miou": results["averageScoreClasses"],
    }


@given(cases(images=2))
def test_scores_are_those_of_the_official_code_of_cityscapes(
    tmp_path_factory: pytest.TempPathFactory, given: Case
) -> None:
    """Absent classes and pixels predicted as no class included."""
    classes, maps = given
    none = [tuple(np.where(one < classes, one * 3 % 19, 255).astype(np.uint8) for one in pair) for pair in maps]
    expected = official(tmp_path_factory.mktemp("maps"), none)
    scores = matrix_of(19, none).scores()
    assert scores.iou == pytest.approx(expected["iou"], abs=1e-9)
    if scores.pixels:
        assert scores.miou == pytest.approx(expected["miou"], abs=1e-9)


def test_scores_of_real_maps_are_those_of_the_official_code_of_cityscapes(tmp_path: Path) -> None:
    places = np.full(256, 255, np.uint8)
    places[:11] = [10, 2, 5, 0, 1, 8, 7, 4, 13, 11, 18]  # CamVid's classes among those of Cityscapes
    pairs = [(places[labels], places[predicted]) for labels, predicted in real_pairs(5)]
    expected = official(tmp_path, pairs)
    scores = matrix_of(19, pairs).scores()
    assert scores.iou == pytest.approx(expected["iou"], abs=1e-9)
    assert scores.miou == pytest.approx(expected["miou"], abs=1e-9)
    assert 0.2 < scores.miou < 1
    assert scores.iou.count(None) == 8


@given(cases())
def test_scores_with_noughts_are_those_of_the_official_code_of_ade20k(given: Case) -> None:
    """Which stores classes from 1, and 0 where there is none; union and intersection are added up over images."""
    classes, maps = given
    intersection, union = np.zeros(classes), np.zeros(classes)
    for labels, predicted in maps:
        truth, answer = (np.where(one < classes, one.astype(int) + 1, 0) for one in (labels, predicted))
        answer = answer * (truth > 0)
        hits, answered, labelled = (
            np.array([(one == k + 1).sum() for k in range(classes)])
            for one in (answer * (answer == truth), answer, truth)
        )
        intersection += hits
        union += answered + labelled - hits
    expected = intersection / (np.spacing(1) + union)
    assert matrix_of(classes, maps).scores("zero").miou == pytest.approx(expected.mean(), abs=1e-9)


def test_a_class_that_occurs_nowhere_has_no_score_and_does_not_count() -> None:
    labels, predicted = torch.tensor([[0, 0, 2, 255]]), torch.tensor([[0, 2, 2, 1]])
    matrix = ConfusionMatrix(4)
    matrix.update(labels, predicted)
    scores = matrix.scores()
    assert scores.iou == (0.5, None, 0.5, None)  # class 1 was predicted at an ignored pixel only
    assert scores.miou == 0.5
    assert scores.accuracy == (0.5, None, 1.0, None)
    assert scores.mean_accuracy == 0.75
    assert scores.frequency_weighted_iou == 0.5


def test_a_class_that_occurs_nowhere_counts_as_nought_if_asked() -> None:
    matrix = matrix_of(4, [(np.array([[0, 0, 2, 255]]), np.array([[0, 2, 2, 1]]))])
    scores = matrix.scores("zero")
    assert scores.iou == (0.5, None, 0.5, None)
    assert (scores.miou, scores.mean_accuracy) == (0.25, 0.375)
    assert (scores.frequency_weighted_iou, scores.pixel_accuracy) == (0.5, 2 / 3)


def test_a_class_that_is_predicted_but_never_labelled_counts_as_nought() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([[0, 0]]), torch.tensor([[0, 1]]))
    scores = matrix.scores()
    assert scores.iou == (0.5, 0.0)
    assert scores.miou == 0.25
    assert scores.accuracy == (0.5, None)


def test_a_pixel_predicted_as_no_class_is_missed_by_its_own_and_too_much_for_none() -> None:
    for none in (2, 7, 255):
        scores = matrix_of(2, [(np.array([[0, 0, 1]]), np.array([[0, none, 1]]))]).scores()
        assert scores.iou == (0.5, 1.0)
        assert scores.pixel_accuracy == 2 / 3


def test_the_score_is_of_the_whole_data_set_and_no_average_over_images() -> None:
    matrix = ConfusionMatrix(2)
    matrix.update(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64))  # IoU 1 alone
    matrix.update(torch.zeros(1, 9, dtype=torch.int64), torch.ones(1, 9, dtype=torch.int64))  # IoU 0 alone
    assert matrix.scores().iou == (0.1, 0.0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_a_batch_and_its_images_count_the_same(dtype: torch.dtype) -> None:
    labels, predicted = (torch.randint(0, 5, (3, 4, 6)).to(dtype) for _ in range(2))
    whole, single = ConfusionMatrix(5), ConfusionMatrix(5)
    whole.update(labels, predicted)
    for pair in zip(labels, predicted, strict=True):
        single.update(*pair)
    assert torch.equal(whole.counts, single.counts)
    assert whole.counts.sum() == labels.numel()


@pytest.mark.parametrize("classes", [1, 150, 254, 255, 300])
def test_as_many_classes_as_there_may_be(classes: int) -> None:
    rng = np.random.default_rng(0)
    labels, predicted = (rng.integers(0, 256, (40, 50)).astype(np.uint8) for _ in range(2))
    expected = np.zeros((max(classes, 256), 256), np.int64)
    np.add.at(expected, (labels, predicted), 1)
    counts = matrix_of(classes, [(labels, predicted)]).counts.numpy()
    columns = min(classes, 256)
    np.testing.assert_array_equal(counts[:, :columns], expected[:classes, :columns])
    np.testing.assert_array_equal(counts[:, -1], expected[:classes, classes:].sum(1))


def test_views_of_maps_count_as_their_copies() -> None:
    rng = np.random.default_rng(0)
    labels, predicted = (rng.integers(0, 5, (9, 14)).astype(np.uint8) for _ in range(2))
    for view in (np.s_[::2, 1::3], np.s_[:, ::-1], np.s_[2:5, 3:9]):
        pair = (labels[view], predicted[view])
        copies = tuple(np.ascontiguousarray(one) for one in pair)
        assert torch.equal(matrix_of(5, [pair]).counts, matrix_of(5, [copies]).counts)
    turned = torch.from_numpy(labels).T, torch.from_numpy(predicted).T
    assert torch.equal(matrix_of(5, [turned]).counts, matrix_of(5, [(labels, predicted)]).counts)


def test_more_pixels_than_float32_counts() -> None:
    labels = np.full((2**12, 2**12 + 3), 18, np.uint8)
    labels[0, 0] = 17
    matrix = matrix_of(19, [(labels, labels)])
    assert matrix.counts[18, 18] == labels.size - 1 > 2**24
    assert matrix.scores().miou == 1.0


@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(1, 80), st.integers(1, 80))
def test_runs_of_any_length_count_as_their_pixels(seed: int, size: int, run: int, other: int) -> None:
    rng = np.random.default_rng(seed)
    labels, predicted = (np.repeat(rng.integers(0, 256, size), n)[:size].astype(np.uint8) for n in (run, other))
    expected = np.zeros((256, 256), np.int64)
    np.add.at(expected, (labels, predicted), 1)
    for classes in (19, 254, 255):
        counts = pair_counts(labels, predicted, classes)
        np.testing.assert_array_equal(counts[:, :classes], expected[:classes, :classes])
        np.testing.assert_array_equal(counts[:, classes], expected[:classes, classes:].sum(1))


def test_a_map_is_counted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    maps = [rng.integers(0, 6, (7, 9)).astype(np.uint8) for _ in range(3)]
    where = rng.random((7, 9)) < 0.5
    at_once = joint_counts(maps, [6, 4, 5], where)
    expected = np.zeros((6, 6, 6), np.int64)
    np.add.at(expected, tuple(one[where] for one in maps), 1)
    np.testing.assert_array_equal(at_once, expected[:, :4, :5])
    monkeypatch.setattr(confusion, "_CHUNK", 10)
    np.testing.assert_array_equal(joint_counts(maps, [6, 4, 5], where), at_once)


def test_scores_of_counts_too_large_for_float32_are_exact() -> None:
    counts = torch.tensor([[2**26 + 1, 0], [0, 2**26]])
    counts[0, 1] = 1
    assert class_scores(counts).pixel_accuracy == (2**27 + 1) / (2**27 + 2)


# What cannot be counted is an error, and not counted in part.


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_a_negative_prediction(kind: Any) -> None:
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match="a prediction is below 0"):
        matrix.update(kind([[0, 1]]), kind([[0, -1]]))
    assert matrix.counts.sum() == 0
    matrix.update(kind([[0, 255]]), kind([[0, -1]]))  # at an ignored pixel it does not matter
    assert matrix.counts.sum() == 1


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_a_negative_label(kind: Any) -> None:
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match="a label is below 0"):
        matrix.update(kind([[1, -1]]), kind([[0, 2]]))
    assert matrix.counts.sum() == 0


@pytest.mark.parametrize("kind", [torch.zeros, np.zeros])
def test_sizes_that_differ(kind: Any) -> None:
    dtype = torch.uint8 if kind is torch.zeros else np.uint8
    with pytest.raises(ValueError, match=r"labels are \(2, 3\), but predictions are \(3, 2\)"):
        ConfusionMatrix(3).update(kind((2, 3), dtype=dtype), kind((3, 2), dtype=dtype))
