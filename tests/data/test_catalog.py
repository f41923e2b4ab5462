import pytest

from gffnet.data.catalog import IGNORE, class_count, dataset_classes
from gffnet.errors import UserError
from gffnet.recipe import recipe_names


@pytest.mark.parametrize(("name", "count"), [("camvid", 11), ("cityscapes", 19), ("streets", 19)])
def test_every_class_has_a_name_and_a_colour_of_its_own(name: str, count: int) -> None:
    classes = dataset_classes(name)
    assert len(classes.names) == len(set(classes.names)) == count
    assert len(classes.palette) == len(set(classes.palette)) == count
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
    ],
)
def test_order(name: str, label: int, class_name: str, colour: tuple[int, int, int]) -> None:
    classes = dataset_classes(name)
    assert (classes.names[label], classes.palette[label]) == (class_name, colour)


def test_counts_as_the_paper_has_them() -> None:
    assert [class_count(name) for name in ("ade20k", "pascal_context", "coco_stuff_10k")] == [150, 59, 171]


def test_every_recipe_has_a_class_count() -> None:
    assert all(class_count(name.split("/")[0]) > 1 for name in recipe_names())


def test_unknown_data_set() -> None:
    with pytest.raises(UserError, match=r"data set 'citiscapes' is unknown. Did you mean 'cityscapes'"):
        class_count("citiscapes")
    with pytest.raises(UserError, match="class names of data set 'ade20k' are not known to this version"):
        dataset_classes("ade20k")
