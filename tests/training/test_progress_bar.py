"""The bar says what the history knows."""

from pathlib import Path

from gffnet.training.history import History
from gffnet.training.progress_bar import ProgressBar


def test_its_words_grow_with_what_is_known(tmp_path: Path) -> None:
    history = History(tmp_path, batch=2)
    bar = ProgressBar(history)
    assert bar.state() == ""
    history.newest |= {"loss": 0.51234, "learning_rate": 0.0012, "images_per_second": 6.54}
    assert bar.state() == "loss 0.512  rate 0.0012  6.5 images/s"
    history.newest |= {"miou": 0.4444, "iteration": 7}
    assert bar.state().endswith("6.5 images/s  mIoU 44.4%")
