"""The page docs/gates.md: its Python runs."""

import torch

from gffnet.data.io import write_image
from gffnet.models.gffnet import save_model
from tests.docs.pages import blocks, read_page
from tests.gates import networks

PAGE = read_page("gates.md")


def test_the_blocks_run(tmp_path, monkeypatch, capsys):
    save_model(tmp_path / "runs/streets/gffnet_r18/model", *networks.model())
    write_image(tmp_path / "photo.jpg", networks.image())
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks(PAGE, "python"):
        exec(compile(block, "docs/gates.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert [line[:9] for line in printed] == [f"G_{level}: mean" for level in (1, 2, 3, 4)]
    assert names["labels"].shape == (networks.HEIGHT, networks.WIDTH)
    encoded = names["encoded"]
    assert not torch.equal(encoded.gates[0], names["gates"][0]), "the gates of the encoded image stay as they are"
    assert len(encoded.gates[0].unique()) > 2
