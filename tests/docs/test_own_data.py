"""The page docs/own_data.md: from a folder of images and masks to an exported model, as a user goes; and its blocks."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from gffnet.cli.main import main
from gffnet.data.check import BALANCE, RARITY
from gffnet.data.folder import FRACTION, Folder, read_classes
from gffnet.data.io import WHITE_LEVELS
from gffnet.data.statistics import MEASURED
from gffnet.recipe import INPUT_KEYS, load_recipe
from gffnet.recipe.loading import AUTO_EPOCHS, AUTO_KEYS, CROP_MULTIPLE, MAX_ITERATIONS, MIN_ITERATIONS
from gffnet.streets import Label, render_street
from tests.data.trees import save
from tests.docs.pages import blocks, read_page
from tests.export.networks import symbolic_sizes

Captured = pytest.CaptureFixture[str]

PAGE = read_page("own_data.md")
SIZE = (64, 128)
TINY = {
    "model.backbone": "{name: test_resnet, weights: none}",
    "model.context": "none",
    "model.fusion": "none",
    "model.dense_pyramid": "none",
    "training.iterations": "3",
    "training.batch": "2",
    "training.workers": "0",
    "precision": "float32",
}


def own_data(root: Path, count: int = 8) -> Path:
    """Street scenes, with masks of four ids of one's own: everything else, road, sign, pole."""
    table = np.zeros(256, np.uint8)
    table[[Label.ROAD, Label.TRAFFIC_SIGN, Label.POLE]] = 1, 2, 3
    for i in range(count):
        street = render_street((5, i), SIZE)
        save(root / f"images/drive_{i:02d}.png", street.image)
        save(root / f"masks/drive_{i:02d}.png", table[street.label_ids])
    return root


def called(command: str, *more: str) -> int:
    program, *words = shlex.split(command)
    assert program == "gffnet"
    return main([*words, *more])


@pytest.mark.slow
def test_four_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """Each command but the first is the one that the command before names."""
    monkeypatch.chdir(tmp_path)
    own_data(Path("my_data"))
    check = "gffnet data check folder --root my_data --workers 1"
    assert called(check) == 1
    said = " ".join(capsys.readouterr().out.split())
    (written,) = re.findall(r"write `(classes: .*?)` into it", said)
    assert yaml.safe_load(written) == {"classes": [f"name of {i}" for i in range(4)]}
    Path("my_data/classes.yaml").write_text("classes: [other, road, sign, pole]\n")

    assert called(check) == 0
    train = capsys.readouterr().out.splitlines()[-1].removeprefix("train on it: ")
    assert train.startswith("gffnet train folder/gffnet_lite0 --root my_data")

    assert called(train, *(word for change in TINY.items() for word in ("--set", "=".join(change)))) == 0
    logged = [record.message for record in caplog.records]
    assert any("images of 64x128: training.crop 64x128" in line for line in logged)
    evaluate, predict = (line.partition(":")[2].strip() for line in logged[-2:])
    stored = yaml.safe_load(Path("runs/folder/gffnet_lite0/recipe.yaml").read_text())
    assert (stored["training"]["crop"], stored["training"]["validate_every"]) == ([64, 128], 1)
    capsys.readouterr()

    place = ["--device", "cpu", "--precision", "float32"]
    assert called(evaluate, *place, "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert list(scores["per_class"]) == ["other", "road", "sign", "pole"]
    assert scores["images"] == len(Folder(Path("my_data"), "val"))
    assert scores["protocol"]["crop"] is None

    assert called(predict.replace("IMAGE", "my_data/images/drive_00.png"), *place) == 0
    export = "gffnet export --model runs/folder/gffnet_lite0 --to onnx --out my_model.onnx"
    with symbolic_sizes():
        assert called(export) == 0
    assert called("gffnet predict my_data/images/drive_00.png --model my_model.onnx --out exported", *place) == 0
    labels = [np.asarray(Image.open(f"{out}/labels/drive_00.png")) for out in ("predicted", "exported")]
    assert labels[0].shape == SIZE
    assert (labels[0] == labels[1]).mean() >= 0.999


# The page


def test_the_classes_are_read_as_the_page_says(tmp_path: Path) -> None:
    (yaml_block,) = blocks(PAGE, "yaml")
    (tmp_path / "classes.yaml").write_text(yaml_block)
    own = read_classes(tmp_path)
    assert own.classes.names == ("other", "road", "sign", "pole")
    assert own.train_ids == {0: 0, 1: 1, 2: 2, 3: 3, 255: 255}


LABELMAP = """\
# label:color_rgb:parts:actions
background:0,0,0::
traffic sign:250,50,83::
yes:61,61,245:left,right:turning
"""


@pytest.mark.parametrize("tool", ["CVAT", "labelme"])
def test_the_blocks_convert_what_tools_write(tool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names that YAML takes for something else included."""
    monkeypatch.chdir(tmp_path)
    Path("my_data").mkdir()
    Path("labelmap.txt").write_text(LABELMAP)
    Path("class_names.txt").write_text("_background_\nstop: sign\nno")
    _, cvat, labelme = blocks(PAGE, "python")
    exec(compile(cvat if tool == "CVAT" else labelme, "docs/own_data.md", "exec"), {})
    own = read_classes(Path("my_data"))
    if tool == "CVAT":
        assert own.classes.names == ("background", "traffic sign", "yes")
        assert own.train_ids == {0: 0, 0xFA3253: 1, 0x3D3DF5: 2}
        assert own.masks == "colors"
    else:
        assert own.classes.names == ("_background_", "stop: sign", "no")
        assert own.train_ids == {0: 0, 1: 1, 2: 2, 255: 255}


def test_every_value_that_the_page_sets_may_be_set() -> None:
    values = re.findall(r"((?:training|model|evaluation)\.[a-z_.]+=(?:'[^']*'|[^\s`|;,]+))", PAGE)
    changes = {shlex.split(value)[0] for value in values}
    assert BALANCE in changes
    for change in changes:
        load_recipe("folder/gffnet_lite0", [change])


def test_the_rules_are_those_of_the_code() -> None:
    bounds = f"at least {MIN_ITERATIONS}, at most {MAX_ITERATIONS}"
    assert f"{AUTO_EPOCHS} passes over the training images, in hundreds: {bounds}" in PAGE
    most = load_recipe("folder/gffnet_lite0").training.max_crop
    assert f"up to a multiple of {CROP_MULTIPLE}, at most `training.max_crop`, {most} in this recipe" in PAGE
    assert f"| `{AUTO_KEYS[0]}` |" in PAGE
    assert all(f"| `{key}` | " in PAGE for key in AUTO_KEYS)
    assert f"measured on {MEASURED} evenly spaced images" in PAGE
    assert all(f"`{key}`" in PAGE for key in INPUT_KEYS)
    assert f"the smallest of {', '.join(map(str, WHITE_LEVELS[:-1]))} and {WHITE_LEVELS[-1]}" in PAGE
    assert ("a fifth is" in PAGE, FRACTION) == (True, 0.2)
    assert ("a tenth of an even share" in PAGE, RARITY) == (True, 10)
