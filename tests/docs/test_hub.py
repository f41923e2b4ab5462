"""The page docs/hub.md: its Python runs, and what it names is there."""

from pathlib import Path

import pytest

from gffnet.models import model_io as hub
from gffnet.models.gffnet import save_model
from gffnet.models.weights import HUB_TIMEOUT
from tests import tiny
from tests.docs.pages import blocks, read_page
from tests.models.fake_hub import FakeHub, point_to, running

PAGE = read_page("hub.md")


def test_the_python_blocks_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(tiny.GFFNET)
    save_model(tmp_path / "model", tiny.network(recipe), tiny.config(recipe))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    with running(FakeHub()) as fake:
        fake.commit("someone/gffnet-r18", {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()})
        point_to(fake.endpoint, str(tmp_path / "cache"), monkeypatch)
        for block in blocks(PAGE, "python"):
            exec(compile(block, "docs/hub.md", "exec"), names)
    assert names["logits"].shape == (1, 11, 128, 256)  # type: ignore[attr-defined]
    assert Path("published/config.json").is_file()


def test_numbers() -> None:
    assert (HUB_TIMEOUT, hub.PATIENCE) == (2, 5)
    assert "connection within two seconds, and answers within five" in " ".join(PAGE.split())
