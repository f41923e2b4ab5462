from pathlib import Path

import numpy as np
import pytest

from gffnet.data.dataset import Truth
from gffnet.data.datasets import open_dataset
from gffnet.errors import UserError
from gffnet.streets import write_streets


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("streets")
    write_streets(root, 2, 3, (128, 256))
    return root


def test_labels_are_those_of_the_sample(scenes, monkeypatch):
    val = open_dataset("streets", scenes, "val")
    truth = Truth([open_dataset("streets", scenes, "train"), val])
    for index in range(len(val)):
        labels = truth.labels(val.files[index][0])
        assert labels is not None
        assert len(np.unique(labels)) > 2
        assert np.array_equal(labels, val[index].labels.numpy())
    monkeypatch.chdir(scenes.parent)
    relative = Path(scenes.name) / ".." / val.files[1][0].relative_to(scenes.parent)
    assert np.array_equal(truth.labels(relative), val[1].labels.numpy())


def test_classes_are_those_of_the_data_set(scenes):
    val = open_dataset("streets", scenes, "val")
    assert Truth([val]).classes == tuple(val.classes.names)
    assert Truth([]).classes is None


def test_an_image_of_no_data_set_has_none(scenes, tmp_path):
    assert Truth([open_dataset("streets", scenes, "val")]).labels(tmp_path / "photo.jpg") is None
    assert Truth([]).labels(tmp_path / "photo.jpg") is None


def test_samples_by_name(scenes, tmp_path, monkeypatch):
    val = open_dataset("streets", scenes, "val")
    truth = Truth([val])
    assert truth.image(Path(val.name(2))) == val.files[2][0]
    assert Truth([]).image(Path("nobody")) == Path("nobody")
    wrong = val.name(1)[:-1]
    with pytest.raises(UserError, match=f"^{wrong} is no file, and no image .* Did you mean"):
        truth.image(Path(wrong))
    monkeypatch.chdir(tmp_path)
    (tmp_path / val.name(2)).touch()
    assert truth.image(Path(val.name(2))) == Path(val.name(2)), "a file that is there is what is meant"
