"""COCO-Stuff 10k: images of COCO with 80 kinds of things and 91 kinds of stuff.

Features:
    9000 training and 1000 test images of about 640x480 pixels; some are grey.
Format:
    `images/*.jpg`, `annotations/*.mat` and `imageLists/{train,test}.txt`. A MAT file holds the label map `S` and
    `names`, the classes that its ids stand for. There are two releases, and `names` tells which one a file is of:
    in 1.1 it has 182 entries, and 0 in `S` is unlabelled; in 1.0 it has 172, and the first of them, `unlabeled`, is
    id 1. Their ids differ, their images, masks and classes do not. Files of 1.0 are of MAT 7.3, for which h5py must be
    there: `python -m pip install 'gffnet[coco]'`. val is understood as the test split.
Classes:
    171, in the order of both releases. Release 1.1 counts 182, eleven of them (street sign, hat, shoe, eye glasses,
    plate, mirror, window, desk, door, blender, hair brush: things that COCO planned and never labelled) unused. The
    colors are those of the release's color map (cmapThingsStuff.m). Unlabelled pixels are ignored.
Licence:
    The annotations are CC BY 4.0; the images are under Flickr's terms of use.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from gffnet.data.dataset import DATASETS, IGNORE, Classes, Dataset, Files, LabelTable, Layout, read_list
from gffnet.data.io import read_mat
from gffnet.errors import UserError

_CLASSES = Classes.parse(
    """
    person #ff5900, bicycle #0000f4, car #59ffa6, motorcycle #fff400, airplane #00c8ff, bus #0000c8, train #de0000,
    truck #00e9ff, boat #ff2100, traffic light #ff8500, fire hydrant #f4ff0b, stop sign #ff0b00, parking meter #900000,
    bench #43ffbc, bird #006fff, cat #ff9b00, dog #0000bc, horse #0000b1, sheep #00deff, cow #0021ff, elephant #002cff,
    bear #a6ff59, zebra #ffff00, giraffe #ff6400, backpack #0016ff, umbrella #6fff90, handbag #0059ff, tie #007aff,
    suitcase #0037ff, frisbee #16ffe9, skis #d30000, snowboard #85ff7a, sports ball #c80000, kite #ffe900,
    baseball bat #e90000, baseball glove #ffbc00, skateboard #ff1600, surfboard #0085ff, tennis racket #000085,
    bottle #ffde00, wine glass #37ffc8, cup #0090ff, fork #9b0000, knife #4effb1, spoon #00b1ff, bowl #90ff6f,
    banana #0043ff, apple #ffa600, sandwich #9bff64, orange #00bcff, broccoli #deff21, carrot #0000a6, hot dog #0000de,
    pizza #00d3ff, donut #0064ff, cake #f40000, chair #b10000, couch #7aff85, potted plant #2cffd3, bed #ff4300,
    dining table #ff3700, toilet #ff2c00, tv #bcff43, laptop #009bff, mouse #ff9000, remote #0bfff4, keyboard #ff4e00,
    cell phone #ffc800, microwave #000bff, oven #ff0000, toaster #0000d3, sink #a60000, refrigerator #d3ff2c,
    book #e9ff16, clock #c8ff37, vase #00f4ff, scissors #000090, teddy bear #00ffff, hair drier #b1ff4e,
    toothbrush #0000ff, banner #802c00, blanket #00007a, branch #2c8053, bridge #807a00, building-other #006480,
    bush #000064, cabinet #6f0000, cage #007480, cardboard #801100, carpet #804300, ceiling-other #7a8006,
    ceiling-tile #11806f, cloth #800600, clothes #480000, clouds #21805e, counter #003780, cupboard #804e00,
    curtain #00005e, desk-stuff #000059, dirt #006f80, door-stuff #001180, fence #001680, floor-marble #53802c,
    floor-other #808000, floor-stone #803200, floor-tile #005380, floor-wood #000b80, flower #378048, fog #806900,
    food-other #805900, fruit #002c80, furniture-other #003d80, grass #001c80, gravel #0b8074, ground-other #690000,
    hill #43803d, house #640000, leaves #807400, light #740000, mat #805e00, metal #800b00, mirror-stuff #004380,
    moss #000043, mountain #806f00, mud #002780, napkin #1c8064, net #004880, paper #4e0000, pavement #278059,
    pillow #005980, plant-other #488037, plastic #002180, platform #805300, playingfield #4e8032, railing #005e80,
    railroad #6f8011, river #000053, road #00006f, rock #006980, roof #003280, rug #7a0000, salad #590000,
    sand #3d8043, sea #168069, shelf #802100, sky-other #000074, skyscraper #801c00, snow #5e0000, solid-other #00004e,
    stairs #801600, stone #803700, straw #5e8021, structural-other #004e80, table #804800, tent #06807a,
    textile-other #802700, towel #806400, tree #000680, vegetable #800000, wall-brick #000069, wall-concrete #530000,
    wall-other #698016, wall-panel #32804e, wall-stone #74800b, wall-tile #64801c, wall-wood #007a80,
    water-other #000048, waterdrops #008080, window-blind #598027, window-other #000080, wood #803d00
    """
)
_UNLABELLED = "unlabeled"
_UNUSED = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)
_LEGAL = {172: "1..172", 182: f"0..182 less {' '.join(map(str, _UNUSED))}"}
"""How many names a release has, and its ids."""

_HINT = "restore the file from cocostuff-10k-v1.1.zip"
_IDS = [stored for stored in range(1, 183) if stored not in _UNUSED]
_READS = "gffnet reads COCO-Stuff 10k as released (cocostuff-10k-v1.1.zip); see docs/data.md#coco_stuff_10k."
_BIG = f"holds COCO-Stuff of all of COCO (164k), whose label maps are PNG. {_READS}"


def _splits(root: Path) -> list[str]:
    return [split for split in ("train", "test") if _list_file(root, split).is_file()]


def _list_file(root: Path, split: str) -> Path:
    return root / "imageLists" / f"{split}.txt"


def _pairs(root: Path, split: str) -> Files:
    names = read_list(_list_file(root, split))
    return [(root / "images" / f"{name}.jpg", root / "annotations" / f"{name}.mat") for name in names]


def _table(names: tuple[str, ...], label_file: Path) -> LabelTable:
    """What ids mean in a file that holds these names."""
    table = _table_of(names)
    if table is None:
        other = next((name for name in names if name not in (*_CLASSES.names, _UNLABELLED)), "")
        raise UserError(
            f"label map {label_file}: its {len(names)} names are neither the 182 of COCO-Stuff 10k 1.1 nor the 172 of "
            f"1.0{f'; the first that is no class of them is {other!r}' if other else ''}. Restore the file from "
            "cocostuff-10k-v1.1.zip."
        )
    return table


@lru_cache(maxsize=4)
def _table_of(names: tuple[str, ...]) -> LabelTable | None:
    """What ids mean where the i-th name is that of id i, counted from 1; None if no release has these names."""
    train_ids = {name: train_id for train_id, name in enumerate(_CLASSES.names)}
    ids = {stored: train_ids[name] for stored, name in enumerate(names, 1) if name in train_ids}
    if len(names) not in _LEGAL or sorted(ids.values()) != sorted(train_ids.values()):
        return None
    unlabelled = names.index(_UNLABELLED) + 1 if _UNLABELLED in names else 0
    return LabelTable({unlabelled: IGNORE, **ids}, _LEGAL[len(names)], _HINT)


@DATASETS.register("coco_stuff_10k")
class COCOStuff10k(Dataset):
    """The images of `split`: train, test, or both as `train+test`; val is test."""

    classes = _CLASSES
    table = LabelTable({0: IGNORE, **{stored: train_id for train_id, stored in enumerate(_IDS)}}, _LEGAL[182], _HINT)
    """Of release 1.1."""
    layout = Layout(
        name="coco_stuff_10k",
        marker="imageLists/*.txt",
        remedy=f"It needs images/*.jpg, annotations/*.mat and imageLists/{{train,test}}.txt. {_READS}",
        splits=_splits,
        pairs=_pairs,
        list_file=_list_file,
        aliases={"val": "test"},
        counts={"train": 9000, "test": 1000},
        others={
            "stuffthingmaps*": f"stuffthingmaps {_BIG}",
            "train2017": f"train2017 {_BIG}",
            "images/train2017": f"images/train2017 {_BIG}",
            "annotations/train2017": f"annotations/train2017 {_BIG}",
            "images/train2014/*.jpg": "images/train2014 was made by a converter, which moves the images: move them "
            f"back into images. {_READS}",
        },
    )

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """The ids that a MAT file stores, and what they mean in its release.

        Raises:
            UserError: the file cannot be read, or its names are those of no release.
        """
        ids, names = read_mat(label_file, "S", "names")
        return ids, _table(names, label_file)
