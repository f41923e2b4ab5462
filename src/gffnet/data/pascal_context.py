"""Pascal Context: PASCAL VOC 2010, every pixel labelled.

Features:
    4998 training and 5105 validation images of about 500x375 pixels, indoors and outdoors.
Format:
    `JPEGImages/*.jpg` of VOC 2010, and label maps; of those that are there, the first in this table are read:
    `trainval/*.mat`: as released. `LabelMap` holds the ids 1..459 of the list of 459 names.
    `trainval/*.png`: the same ids as 16-bit grey PNG, which eight bits cannot hold.
    `59_context_labels/*.png`: as released; 1..59 in the order of 59_labels.txt, and 0 for the rest.
    `SegmentationClassContext/*.png`: as mmsegmentation converts them; 1..59 in the order of the 459, which is the
    alphabet's, and 0 for the rest.
    The splits are those of VOC 2010, `ImageSets/SegmentationContext/{train,val}.txt` or
    `ImageSets/Main/{train,val}.txt`. The root is VOC2010 or a folder that holds VOC2010 or VOCdevkit/VOC2010; label
    maps and lists may lie in either.
Classes:
    59, in the order of 59_labels.txt whatever the label maps store: the 20 of PASCAL VOC first. Ids of the 459 are
    matched by name; three names differ between the lists. All other pixels are ignored. The colors are those of
    PASCAL VOC's color map.
Licence:
    The annotations are free for research; the images are under Flickr's terms of use.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gffnet.data.dataset import DATASETS, IGNORE, Classes, Dataset, Files, Incomplete, LabelTable, Layout, read_list
from gffnet.data.io import read_labels, read_mat
from gffnet.errors import UserError

_CLASSES = Classes.parse(
    """
    aeroplane #800000, bicycle #008000, bird #808000, boat #000080, bottle #800080, bus #008080, car #808080,
    cat #400000, chair #c00000, cow #408000, diningtable #c08000, dog #400080, horse #c00080, motorbike #408080,
    person #c08080, pottedplant #004000, sheep #804000, sofa #00c000, train #80c000, tvmonitor #004080, bag #804080,
    bed #00c080, bench #80c080, book #404000, building #c04000, cabinet #40c000, ceiling #c0c000, clothes #404080,
    computer #c04080, cup #40c080, door #c0c080, fence #000040, floor #800040, flower #008040, food #808040,
    grass #0000c0, ground #8000c0, keyboard #0080c0, light #8080c0, mountain #400040, mouse #c00040, curtain #408040,
    platform #c08040, sign #4000c0, plate #c000c0, road #4080c0, rock #c080c0, shelves #004040, sidewalk #804040,
    sky #00c040, snow #80c040, bedcloth #0040c0, track #8040c0, tree #00c0c0, truck #80c0c0, wall #404040,
    water #c04040, window #40c040, wood #c0c040
    """
)
_NAMES_459 = """
accordion, aeroplane, air conditioner, antenna, artillery, ashtray, atrium, baby carriage, bag, ball, balloon,
bamboo weaving, barrel, baseball bat, basket, basketball backboard, bathtub, bed, bedclothes, beer, bell, bench,
bicycle, binoculars, bird, bird cage, bird feeder, bird nest, blackboard, board, boat, bone, book, bottle,
bottle opener, bowl, box, bracelet, brick, bridge, broom, brush, bucket, building, bus, cabinet, cabinet door, cage,
cake, calculator, calendar, camel, camera, camera lens, can, candle, candle holder, cap, car, card, cart, case,
casette recorder, cash register, cat, cd, cd player, ceiling, cell phone, cello, chain, chair, chessboard, chicken,
chopstick, clip, clippers, clock, closet, cloth, clothes tree, coffee, coffee machine, comb, computer, concrete, cone,
container, control booth, controller, cooker, copying machine, coral, cork, corkscrew, counter, court, cow, crabstick,
crane, crate, cross, crutch, cup, curtain, cushion, cutting board, dais, disc, disc case, dishwasher, dock, dog,
dolphin, door, drainer, dray, drink dispenser, drinking machine, drop, drug, drum, drum kit, duck, dumbbell, earphone,
earrings, egg, electric fan, electric iron, electric pot, electric saw, electronic keyboard, engine, envelope,
equipment, escalator, exhibition booth, extinguisher, eyeglass, fan, faucet, fax machine, fence, ferris wheel,
fire extinguisher, fire hydrant, fire place, fish, fish tank, fishbowl, fishing net, fishing pole, flag, flagstaff,
flame, flashlight, floor, flower, fly, foam, food, footbridge, forceps, fork, forklift, fountain, fox, frame, fridge,
frog, fruit, funnel, furnace, game controller, game machine, gas cylinder, gas hood, gas stove, gift box, glass,
glass marble, globe, glove, goal, grandstand, grass, gravestone, ground, guardrail, guitar, gun, hammer, hand cart,
handle, handrail, hanger, hard disk drive, hat, hay, headphone, heater, helicopter, helmet, holder, hook, horse,
horse-drawn carriage, hot-air balloon, hydrovalve, ice, inflator pump, ipod, iron, ironing board, jar, kart, kettle,
key, keyboard, kitchen range, kite, knife, knife block, ladder, ladder truck, ladle, laptop, leaves, lid, life buoy,
light, light bulb, lighter, line, lion, lobster, lock, machine, mailbox, mannequin, map, mask, mat, match book,
mattress, menu, metal, meter box, microphone, microwave, mirror, missile, model, money, monkey, mop, motorbike,
mountain, mouse, mouse pad, musical instrument, napkin, net, newspaper, oar, ornament, outlet, oven, oxygen bottle,
pack, pan, paper, paper box, paper cutter, parachute, parasol, parterre, patio, pelage, pen, pen container, pencil,
person, photo, piano, picture, pig, pillar, pillow, pipe, pitcher, plant, plastic, plate, platform, player,
playground, pliers, plume, poker, poker chip, pole, pool table, postcard, poster, pot, pottedplant, printer,
projector, pumpkin, rabbit, racket, radiator, radio, rail, rake, ramp, range hood, receiver, recorder,
recreational machines, remote control, road, robot, rock, rocket, rocking horse, rope, rug, ruler, runway, saddle,
sand, saw, scale, scanner, scissors, scoop, screen, screwdriver, sculpture, scythe, sewer, sewing machine, shed,
sheep, shell, shelves, shoe, shopping cart, shovel, sidecar, sidewalk, sign, signal light, sink, skateboard, ski, sky,
sled, slippers, smoke, snail, snake, snow, snowmobiles, sofa, spanner, spatula, speaker, speed bump, spice container,
spoon, sprayer, squirrel, stage, stair, stapler, stick, sticky note, stone, stool, stove, straw, stretcher, sun,
sunglass, sunshade, surveillance camera, swan, sweeper, swim ring, swimming pool, swing, switch, table, tableware,
tank, tap, tape, tarp, telephone, telephone booth, tent, tire, toaster, toilet, tong, tool, toothbrush, towel, toy,
toy car, track, train, trampoline, trash bin, tray, tree, tricycle, tripod, trophy, truck, tube, turtle, tvmonitor,
tweezers, typewriter, umbrella, unknown, vacuum cleaner, vending machine, video camera, video game console,
video player, video tape, violin, wakeboard, wall, wallet, wardrobe, washing machine, watch, water, water dispenser,
water pipe, water skate board, watermelon, whale, wharf, wheel, wheelchair, window, window blinds, wineglass, wire,
wood, wool
"""
_IN_459 = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
"""Classes that the list of 459 calls otherwise."""

_ID_459 = {name: stored for stored, name in enumerate(" ".join(_NAMES_459.split()).split(", "), 1)}
_STORED = {_ID_459[_IN_459.get(name, name)]: train_id for train_id, name in enumerate(_CLASSES.names)}
TABLE_459 = LabelTable(
    {**dict.fromkeys(range(460), IGNORE), **_STORED}, "0..459", "restore the file from trainval.tar.gz"
)


_LISTS = ("SegmentationContext", "Main")
"""Where in ImageSets the lists of the splits lie."""


class Variant(NamedTuple):
    """One way in which label maps of Pascal Context come."""

    folder: str
    ending: str
    table: LabelTable


def _variant_59(folder: str, train_ids: list[int]) -> Variant:
    ids = {0: IGNORE, **dict(enumerate(train_ids, 1))}
    hint = "other ids mean that the map was converted once more, and its order is unknown: use trainval/*.mat"
    return Variant(folder, ".png", LabelTable(ids, "0..59", hint))


VARIANTS = (
    Variant("trainval", ".mat", TABLE_459),
    Variant("trainval", ".png", TABLE_459),
    _variant_59("59_context_labels", list(range(59))),
    _variant_59("SegmentationClassContext", [_STORED[stored] for stored in sorted(_STORED)]),
)
_READS = "gffnet reads trainval/*.mat of trainval.tar.gz (Pascal Context); see docs/data.md#pascal_context."


def _bases(root: Path) -> list[Path]:
    """The folders in which the parts of the data set may lie."""
    own = root.glob("VOCtrainval*/VOCdevkit/VOC2010")  # the archive, unpacked into a folder of its own
    return [root, root / "VOC2010", root / "VOCdevkit" / "VOC2010", *sorted(own), root / "trainval"]


def _label_maps(root: Path) -> tuple[Variant, Path] | None:
    """The label maps that are there, and their folder."""
    folders = ((variant, base / variant.folder) for variant in VARIANTS for base in _bases(root))
    return next((found for found in folders if any(found[1].glob(f"*{found[0].ending}"))), None)


def _images(root: Path) -> Path | None:
    return next((base / "JPEGImages" for base in _bases(root) if (base / "JPEGImages").is_dir()), None)


def _list(root: Path, split: str) -> Path | None:
    files = (base / "ImageSets" / name / f"{split}.txt" for name in _LISTS for base in _bases(root))
    return next((file for file in files if file.is_file()), None)


def _splits(root: Path) -> list[str]:
    """The splits that have a list, if images and label maps are there.

    Raises:
        Incomplete: only one of the two is there.
    """
    images, labels = _images(root), _label_maps(root)
    if labels and not images:
        raise Incomplete("there are label maps of Pascal Context, but no JPEGImages")
    if images and not labels:
        raise Incomplete("there are JPEGImages, as in every PASCAL VOC, but no label maps of Pascal Context")
    return [split for split in ("train", "val") if images and _list(root, split)]


def _pairs(root: Path, split: str) -> Files:
    images, labels, listing = _images(root), _label_maps(root), _list(root, split)
    if not images or not labels or not listing:
        return []
    variant, folder = labels
    return [(images / f"{name}.jpg", folder / f"{name}{variant.ending}") for name in read_list(listing)]


@DATASETS.register("pascal_context")
class PascalContext(Dataset):
    """The images of `split`: train, val, or both as `train+val`.

    Attributes:
        variant: of the label maps that are read.
    """

    classes = _CLASSES
    layout = Layout(
        name="pascal_context",
        marker="trainval/**/*.mat",
        remedy="It needs JPEGImages and ImageSets/Main/{train,val}.txt of VOC 2010 (VOCtrainval_03-May-2010.tar), and "
        f"trainval/*.mat of Pascal Context (trainval.tar.gz) beside them. {_READS}",
        splits=_splits,
        pairs=_pairs,
        list_file=_list,
        counts={"train": 4998, "val": 5105},
        others={
            "GroundTruth_trainval_png/*.png": "GroundTruth_trainval_png holds ids of 1..459 cut to eight bits, or "
            f"classes in an unknown order. {_READS}",
            "33_context_labels/*.png": f"33_context_labels holds 33 classes, not 59. {_READS}",
            "annotations_ctx59/*": f"annotations_ctx59 is made by a converter for detectron2. {_READS}",
            "annotations_detectron2/*": f"annotations_detectron2 is made by a converter. {_READS}",
        },
    )

    def __init__(self, root: str | Path, split: str, files: Files | None = None) -> None:
        super().__init__(root, split, files)
        found = _label_maps(self.root)
        self.variant = found[0] if found else VARIANTS[0]
        self.table = self.variant.table

    def read_ids(self, label_file: Path) -> tuple[NDArray[Any], LabelTable]:
        """The ids that a label file stores, and what they mean.

        Raises:
            UserError: the file cannot be read, or is a PNG of eight bits where ids go to 459.
        """
        if self.variant.ending == ".mat":
            return read_mat(label_file, "LabelMap")[0], self.table
        ids = read_labels(label_file)
        if self.table is TABLE_459 and ids.dtype == np.uint8:
            raise UserError(
                f"label map {label_file}: its eight bits cannot hold the ids 1..459, so those above 255 are lost. "
                "Use the trainval/*.mat that it was made from, or write its ids with 16 bits."
            )
        return ids, self.table
