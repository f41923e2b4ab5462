"""A miniature CamVid and an uninterrupted run on it, which no test changes."""

import shutil
from pathlib import Path

import pytest

from gffnet.training.train import train
from tests import tiny
from tests.data.trees import camvid_tree


@pytest.fixture(scope="session")
def camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return camvid_tree(tmp_path_factory.mktemp("training") / "CamVid")


@pytest.fixture(scope="session")
def whole(camvid: Path) -> Path:
    """Six iterations of `tiny.recipe()`, uninterrupted."""
    return train(tiny.recipe(), camvid, camvid.parent / "whole", progress=False)


@pytest.fixture(scope="session")
def _interrupted(camvid: Path) -> Path:
    from tests.training.test_resume import interrupt

    interrupt(camvid.parent / "interrupted", camvid, None, 3)
    return camvid.parent / "interrupted"


@pytest.fixture
def broken(_interrupted: Path, tmp_path: Path) -> Path:
    """A copy of a run that was interrupted in iteration 4 of 6; its checkpoint is of iteration 2."""
    return Path(shutil.copytree(_interrupted, tmp_path / "broken"))
