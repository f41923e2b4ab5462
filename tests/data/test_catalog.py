import pytest

from gffnet.data.catalog import IGNORE, class_count, dataset_classes, thin_classes
from gffnet.errors import UserError
from gffnet.recipe import recipe_names


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("ade20k", 150),
        ("camvid", 11),
        ("cityscapes", 19),
        ("streets", 19),
        ("pascal_context", 59),
        ("coco_stuff_10k", 171),
    ],
)
def test_every_class_has_a_name_and_a_colour_of_its_own(name: str, count: int) -> None:
    classes = dataset_classes(name)
    assert len(classes.names) == len(set(classes.names)) == count
    assert len(classes.palette) == count
    shared = {classes.palette[classes.names.index("road")]} if name == "ade20k" else set()  # with skyscraper
    assert {colour for colour in classes.palette if classes.palette.count(colour) > 1} == shared
    assert all(0 <= level <= 255 for colour in classes.palette for level in colour)
    assert class_count(name) == count <= IGNORE


@pytest.mark.parametrize(
    ("name", "label", "class_name", "colour"),
    [
        ("camvid", 0, "sky", (128, 128, 128)),
        ("camvid", 4, "pavement", (60, 40, 222)),
        ("camvid", 10, "bicyclist", (0, 128, 192)),
        ("cityscapes", 0, "road", (128, 64, 128)),
        ("cityscapes", 6, "traffic light", (250, 170, 30)),
        ("streets", 18, "bicycle", (119, 11, 32)),
        ("ade20k", 0, "wall", (120, 120, 120)),
        ("ade20k", 44, "chest of drawers", (6, 51, 255)),
        ("ade20k", 89, "television", (0, 255, 194)),
        ("ade20k", 149, "flag", (92, 0, 255)),
        ("pascal_context", 0, "aeroplane", (128, 0, 0)),
        ("pascal_context", 19, "tvmonitor", (0, 64, 128)),
        ("pascal_context", 27, "clothes", (64, 64, 128)),
        ("pascal_context", 58, "wood", (192, 192, 64)),
        ("coco_stuff_10k", 0, "person", (255, 89, 0)),
        ("coco_stuff_10k", 11, "stop sign", None),
        ("coco_stuff_10k", 79, "toothbrush", None),
        ("coco_stuff_10k", 80, "banner", (128, 44, 0)),
        ("coco_stuff_10k", 170, "wood", None),
    ],
)
def test_order(name: str, label: int, class_name: str, colour: tuple[int, int, int] | None) -> None:
    classes = dataset_classes(name)
    assert classes.names[label] == class_name
    assert colour in (None, classes.palette[label])


def test_counts_as_the_paper_has_them() -> None:
    assert [class_count(name) for name in ("ade20k", "pascal_context", "coco_stuff_10k")] == [150, 59, 171]


@pytest.mark.parametrize("name", ["camvid", "cityscapes", "streets"])
def test_thin_classes_are_classes(name: str) -> None:
    assert set(thin_classes(name)) < set(dataset_classes(name).names)
    assert "pole" in thin_classes(name)


def test_nobody_has_said_which_are_thin() -> None:
    assert thin_classes("ade20k") == thin_classes("folder") == ()


def test_every_recipe_has_a_class_count() -> None:
    assert all(class_count(name.split("/")[0]) > 1 for name in recipe_names())


def test_unknown_data_set() -> None:
    with pytest.raises(UserError, match=r"data set 'citiscapes' is unknown. Did you mean 'cityscapes'"):
        class_count("citiscapes")
    with pytest.raises(
        UserError, match=r"data set 'folder' has no classes of its own: they stand in the classes\.yaml"
    ):
        dataset_classes("folder")
