from pathlib import Path

import numpy as np
import pytest

from gffnet.cli.arguments import Parser, add_truth, ground_truth
from gffnet.errors import UserError
from tests.data.trees import camvid_tree


def truth(*given):
    parser = Parser()
    add_truth(parser)
    return ground_truth(parser.parse_args(given))


def test_labels_of_the_named_split(tmp_path):
    root = camvid_tree(tmp_path / "CamVid")
    images = sorted((root / "train").glob("*.png"))
    assert truth("--dataset", "camvid", "--root", str(root)).labels(images[0]) is None
    labels = truth("--dataset", "camvid", "--root", str(root), "--split", "train").labels(images[0])
    assert labels.dtype == np.uint8


def test_no_data_set_no_labels():
    assert truth().labels(Path("photo.jpg")) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--root", "data"], "--root data is the folder of a data set: say which with --dataset NAME"),
        (["--dataset", "camvid"], "Pass --root DIR"),
        (["--dataset", "camvit", "--root", "data"], "camvit"),
    ],
)
def test_half_of_it(given, message):
    with pytest.raises(UserError, match=message):
        truth(*given)
