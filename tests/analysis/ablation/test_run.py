"""Closing gates over a data set against `evaluate`, with the network and with networks whose gates are closed."""

from pathlib import Path
from typing import Any

import pytest

import gffnet.gates.ablation as ablation
from gffnet.data.catalog import Classes
from gffnet.data.dataset import Dataset
from gffnet.errors import UserError
from gffnet.evaluation.evaluate import Group, evaluate
from gffnet.gates.ablation import Ablation, count_ablation, forget_counts, name_of, plan_ablation, record_of
from gffnet.inference.predictor import Predictor
from gffnet.recipe import EvaluationRecipe
from tests import tiny
from tests.analysis import closing
from tests.evaluation.processes import together

WHOLE = EvaluationRecipe()


@pytest.fixture
def val(tmp_path: Path) -> Dataset:
    return closing.val(tmp_path / "CamVid")


@pytest.fixture
def two(tmp_path: Path) -> Dataset:
    return closing.val(tmp_path / "CamVid", 2)


def evaluated(predictor: Predictor, data: Dataset, protocol: EvaluationRecipe) -> dict[str, Any]:
    """The scores of `gffnet evaluate`, but for what is not counted."""
    scores = evaluate(predictor, data, "camvid", "val", protocol)
    return {key: value for key, value in scores.items() if key not in {"images", "images_per_second", "protocol"}}


def recorded(of: Ablation, **options: Any) -> dict[str, Any]:
    counts = count_ablation(of, **options)
    assert counts is not None
    return record_of(of, counts)


@pytest.mark.parametrize(("protocol", "pairs"), [(WHOLE, True), (closing.WINDOWS, False)])
def test_every_closing_is_an_evaluation_of_a_network_with_such_gates(
    two: Dataset, protocol: EvaluationRecipe, pairs: bool
) -> None:
    """Number for number: all scores there are, with the gates as learned and with each closed, alone and in pairs."""
    network = closing.network()
    record = recorded(plan_ablation(closing.task(closing.learned(), two, protocol), pairs))
    assert record["learned"] == evaluated(closing.learned(), two, protocol)
    alone, paired = [[1], [2], [3], [4]], [[1, 2], [1, 3], [1, 4], [2, 3], [2, 4], [3, 4]]
    assert [of["levels"] for of in record["closings"]] == alone + paired * pairs
    for of in record["closings"]:
        forced = closing.forced(network, dict.fromkeys(of["levels"], -1e4))
        assert of["scores"] == evaluated(closing.predictor(forced), two, protocol), of["levels"]
        assert of["scores"] != record["learned"]


def test_a_constant(two: Dataset) -> None:
    network = closing.network()
    record = recorded(plan_ablation(closing.task(closing.learned(), two, WHOLE), False, 0.5))
    for of in record["closings"]:
        forced = closing.predictor(closing.forced(network, {of["levels"][0]: 0.0}))  # sigmoid(0) is one half
        assert of["scores"] == evaluated(forced, two, WHOLE)


def test_a_gated_fpn_has_five_gates_and_ten_pairs(val: Dataset) -> None:
    predictor = closing.predictor(closing.network("gated_fpn"), "gated_fpn")
    assert len(plan_ablation(closing.task(predictor, val)).closings) == 1 + 5 + 10
    assert plan_ablation(closing.task(predictor, val), pairs=False).closings == [(), (1,), (2,), (3,), (4,), (5,)]


def test_what_cannot_be_planned(val: Dataset) -> None:
    with pytest.raises(UserError, match="has no gates"):
        plan_ablation(closing.task(tiny.predictor(), val))
    val.classes = Classes(("tree", "sky"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(UserError, match="knows 11 classes"):
        plan_ablation(closing.task(closing.learned(), val))


@pytest.mark.parametrize(
    ("limit", "chosen"), [(None, [0, 1, 2, 3, 4]), (2, [0, 2]), (3, [0, 1, 3]), (9, [0, 1, 2, 3, 4])]
)
def test_limits_are_spread_over_the_data_set(limit: int | None, chosen: list[int], tmp_path: Path) -> None:
    task = closing.task(closing.learned(), closing.val(tmp_path, 5), WHOLE)
    plan = plan_ablation(task, limit=limit)
    assert list(plan.images) == chosen
    if limit == 2:
        counts = count_ablation(plan)
        assert counts is not None
        assert [list(scored.images) for scored in counts.values()] == [chosen] * 11


def test_names() -> None:
    assert [name_of(levels) for levels in ((), (1,), [1, 4])] == ["none", "G1", "G1 G4"]


# Going on, and sharing


def plan(data: Dataset, **options: Any) -> Ablation:
    return plan_ablation(closing.task(closing.learned(), data, WHOLE), **{"pairs": False, **options})


def breaking(monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> list[int]:
    """Prediction fails at the closing after so many; what it predicted."""
    seen: list[int] = []
    predict = ablation.predict_edited

    def counting(predictor: Predictor, image: Any, protocol: Any, edits: Any) -> Any:
        for found in predict(predictor, image, protocol, edits):
            if len(seen) == after:
                raise error
            seen.append(int(image.sum()))
            yield found

    monkeypatch.setattr(ablation, "predict_edited", counting)
    return seen


@pytest.mark.parametrize(("error", "after"), [(KeyboardInterrupt(), 7), (ValueError("any"), 0)], ids=repr)
def test_after_breaking_off_only_the_rest_is_predicted(
    error: BaseException, after: int, val: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the middle of an image."""
    whole, out = recorded(plan(val)), tmp_path / "out"
    with monkeypatch.context() as broken:
        seen = breaking(broken, after, error)
        with pytest.raises(type(error), match="any" if isinstance(error, ValueError) else "go on with --resume"):
            count_ablation(plan(val), out=out)
    seen_then = breaking(monkeypatch, 99, error)
    assert recorded(plan(val), out=out, resume=True) == whole
    assert (len(seen), len(seen_then)) == (after, 15 - after)
    forget_counts(plan(val), out)
    assert list(out.iterdir()) == []


def test_other_ablations_are_not_gone_on_with(val: Dataset, tmp_path: Path) -> None:
    count_ablation(plan(val), out=tmp_path / "out")
    with pytest.raises(UserError, match=r"value 0\.0 then, 1\.0 now"):
        count_ablation(plan(val, value=1.0), out=tmp_path / "out", resume=True)
    with pytest.raises(UserError, match="limit 3 then, 2 now"):
        count_ablation(plan(val, limit=2), out=tmp_path / "out", resume=True)
    assert recorded(plan(val, value=1.0), out=tmp_path / "out") == recorded(plan(val, value=1.0)), "anew"


def test_it_is_kept_as_it_goes_on(val: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "SAVE_EVERY", 0.0)
    saved: list[int] = []
    monkeypatch.setattr(ablation.Kept, "save", lambda self, scored: saved.append(len(scored.images)))
    count_ablation(plan(val), out=tmp_path)
    assert saved == [count for count in (0, 1, 2, 3, 3) for _ in range(5)]


def test_processes_together_count_what_one_does(val: Dataset, tmp_path: Path) -> None:
    """Also where there are more of them than images."""
    plans = [plan_ablation(closing.task(closing.predictor(closing.network()), val, WHOLE), False) for _ in range(4)]

    def work(group: Group) -> Any:
        return count_ablation(plans[group.rank], group, tmp_path / "out")

    first, *others = together(4, work)
    assert record_of(plans[0], first) == recorded(plans[0])
    assert others == [None] * 3
