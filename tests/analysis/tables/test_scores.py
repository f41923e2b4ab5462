import json

import pytest

from gffnet.errors import UserError
from gffnet.reports.tables import find_scores
from tests.analysis.scored import MULTI, save_run, save_scores


def test_whatever_holds_scores_is_found(tmp_path):
    run = save_run(tmp_path / "runs" / "a", "camvid/gffnet_r18", 0.5, "seed=7")
    alone = save_scores(tmp_path / "alone", "camvid/pspnet_r18", 0.4)
    assert [one.scores["miou"] for one in find_scores([tmp_path])] == [0.4, 0.5]
    for path in (run, run / "scores", run / "scores" / "scores.json"):
        (one,) = find_scores([path])
        assert (one.name, one.seed, one.changes) == ("camvid/gffnet_r18", 7, ())
    (one,) = find_scores([alone])
    assert (one.seed, one.changes) == (None, ())
    assert one.recipe.model.fusion == "none"


def test_what_a_run_has_otherwise_than_its_recipe(tmp_path):
    changes = ["training.iterations=2000", "model.dropout=0.2", "training.workers=0", "seed=1", "evaluation.flip=true"]
    (one,) = find_scores([save_run(tmp_path, "camvid/gffnet_r18", 0.5, *changes)])
    assert one.changes == ("model.dropout 0.2", "training.iterations 2000")
    assert not one.in_paper


def test_a_run_folder_of_another_recipe_tells_nothing(tmp_path):
    run = save_run(tmp_path / "run", "camvid/gffnet_r18", 0.5, "seed=7")
    save_scores(run / "scores", "camvid/pspnet_r18", 0.4)
    (one,) = find_scores([run])
    assert one.seed is None


def test_the_same_network_by_the_same_protocol_counts_once(tmp_path):
    for name, told in (("a", {}), ("b", {}), ("c", {"scales": MULTI}), ("d", {"weights_sha256": "other"})):
        save_scores(tmp_path / name, "camvid/gffnet_r18", 0.5, **{"weights_sha256": "one", **told})
    assert len(find_scores([tmp_path, tmp_path / "a"])) == 3


def test_the_protocol_in_words(tmp_path):
    save_scores(tmp_path / "a", "camvid/gffnet_r18", 0.5)
    save_scores(tmp_path / "b", "cityscapes/gffnet_r101", 0.5, scales=MULTI, flip=True)
    whole, window = (one.measured for one in find_scores([tmp_path]))
    assert whole == ("camvid val", "whole images", "single scale", "not mirrored")
    expected = ("window 864x864, overlap 0.33", "scales 0.75 1 1.25 1.5 1.75", "mirrored")
    assert window == ("cityscapes val", *expected)


def test_mistakes(tmp_path):
    with pytest.raises(UserError, match="nowhere does not exist"):
        find_scores([tmp_path / "nowhere"])
    with pytest.raises(UserError, match=r"holds no scores\.json.*gffnet evaluate --model"):
        find_scores([tmp_path])
    for text in ("{", "[]", json.dumps({"miou": 0.5}), ""):
        (tmp_path / "scores.json").write_text(text)
        with pytest.raises(UserError, match=r"scores\.json"):
            find_scores([tmp_path])
