"""ADE20K, the release of the SceneParsing challenge (ADEChallengeData2016).

Features:
    20210 training and 2000 validation images of indoor and outdoor scenes, of many sizes; some are grey.
Format:
    `images/{training,validation}/*.jpg` and `annotations/{training,validation}/*.png` (grey; 0 is unlabelled, 1..150
    are the classes). The splits are called train and val here; training and validation are understood as well.
Classes:
    150, each called by the first of its names in objectInfo150.txt; the colors are those of color150.mat, in which
    road and skyscraper share one. Unlabelled pixels are ignored.
Licence:
    The annotations are BSD-3; the images are for non-commercial research and education (sceneparsing.csail.mit.edu).
"""

from pathlib import Path

from gffnet.data.dataset import DATASETS, IGNORE, Classes, Dataset, Files, LabelTable, Layout

_CLASSES = Classes.parse(
    """
    wall #787878, building #b47878, sky #06e6e6, floor #503232, tree #04c803, ceiling #787850, road #8c8c8c,
    bed #cc05ff, windowpane #e6e6e6, grass #04fa07, cabinet #e005ff, sidewalk #ebff07, person #96053d, earth #787846,
    door #08ff33, table #ff0652, mountain #8fff8c, plant #ccff04, curtain #ff3307, chair #cc4603, car #0066c8,
    water #3de6fa, painting #ff0633, sofa #0b66ff, shelf #ff0747, house #ff09e0, sea #0907e6, mirror #dcdcdc,
    rug #ff095c, field #7009ff, armchair #08ffd6, seat #07ffe0, fence #ffb806, desk #0aff47, rock #ff290a,
    wardrobe #07ffff, lamp #e0ff08, bathtub #6608ff, railing #ff3d06, cushion #ffc207, base #ff7a08, box #00ff14,
    column #ff0829, signboard #ff0599, chest of drawers #0633ff, counter #eb0cff, sand #a09614, sink #00a3ff,
    skyscraper #8c8c8c, fireplace #fa0a0f, refrigerator #14ff00, grandstand #1fff00, path #ff1f00, stairs #ffe000,
    runway #99ff00, case #0000ff, pool table #ff4700, pillow #00ebff, screen door #00adff, stairway #1f00ff,
    river #0bc8c8, bridge #ff5200, bookcase #00fff5, blind #003dff, coffee table #00ff70, toilet #00ff85,
    flower #ff0000, book #ffa300, hill #ff6600, bench #c2ff00, countertop #008fff, stove #33ff00, palm #0052ff,
    kitchen island #00ff29, computer #00ffad, swivel chair #0a00ff, boat #adff00, bar #00ff99, arcade machine #ff5c00,
    hovel #ff00ff, bus #ff00f5, towel #ff0066, light #ffad00, truck #ff0014, tower #ffb8b8, chandelier #001fff,
    awning #00ff3d, streetlight #0047ff, booth #ff00cc, television #00ffc2, airplane #00ff52, dirt track #000aff,
    apparel #0070ff, pole #3300ff, land #00c2ff, bannister #007aff, escalator #00ffa3, ottoman #ff9900, bottle #00ff0a,
    buffet #ff7000, poster #8fff00, stage #5200ff, van #a3ff00, ship #ffeb00, fountain #08b8aa, conveyer belt #8500ff,
    canopy #00ff5c, washer #b800ff, plaything #ff001f, swimming pool #00b8ff, stool #00d6ff, barrel #ff0070,
    basket #5cff00, waterfall #00e0ff, tent #70e0ff, bag #46b8a0, minibike #a300ff, cradle #9900ff, oven #47ff00,
    ball #ff00a3, food #ffcc00, step #ff008f, tank #00ffeb, trade name #85ff00, microwave #ff00eb, pot #f500ff,
    animal #ff007a, bicycle #fff500, lake #0abed4, dishwasher #d6ff00, screen #00ccff, blanket #1400ff,
    sculpture #ffff00, hood #0099ff, sconce #0029ff, vase #00ffcc, traffic light #2900ff, tray #29ff00, ashcan #ad00ff,
    fan #00f5ff, pier #4700ff, crt screen #7a00ff, plate #00ffb8, monitor #005cff, bulletin board #b8ff00,
    shower #0085ff, radiator #ffd600, glass #19c2c2, clock #66ff00, flag #5c00ff
    """
)
_FOLDERS = {"train": "training", "val": "validation"}
_TREE = "images/{training,validation}/*.jpg and annotations/{training,validation}/*.png"
_READS = "gffnet reads the SceneParsing challenge release (ADEChallengeData2016.zip); see docs/data.md#ade20k."
_FULL = f"This is the full ADE20K release, whose masks hold over 3000 classes as colors. {_READS}"


def _splits(root: Path) -> list[str]:
    """The splits whose images and labels have a folder."""
    parts = ("images", "annotations")
    return [split for split, folder in _FOLDERS.items() if all((root / part / folder).is_dir() for part in parts)]


def _pairs(root: Path, split: str) -> Files:
    images, labels = root / "images" / _FOLDERS[split], root / "annotations" / _FOLDERS[split]
    return [(image, labels / f"{image.stem}.png") for image in sorted(images.glob("*.jpg"))]


def _label_files(root: Path, split: str) -> list[Path]:
    return sorted((root / "annotations" / _FOLDERS[split]).glob("*.png"))


@DATASETS.register("ade20k")
class ADE20K(Dataset):
    """The images of `split`: train, val, or both as `train+val`."""

    classes = _CLASSES
    table = LabelTable(
        {0: IGNORE, **{stored: stored - 1 for stored in range(1, 151)}},
        legal="0..150",
        hint="the full ADE20K release numbers its classes otherwise, and converters shift the ids: "
        "restore the file from ADEChallengeData2016",
    )
    layout = Layout(
        name="ade20k",
        marker="annotations/*/ADE_*.png",
        remedy=f"It needs {_TREE}. {_READS}",
        splits=_splits,
        pairs=_pairs,
        label_files=_label_files,
        counts={"train": 20210, "val": 2000},
        others={
            "images/training/*/**/*_seg.png": f"images/training/**/*_seg.png exist. {_FULL}",
            "images/ADE/*": f"images/ADE exists. {_FULL}",
            "ADE20K_20*_*_*": f"It holds ADE20K_<date>. {_FULL}",
        },
    )
