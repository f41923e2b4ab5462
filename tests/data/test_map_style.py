"""Own data in Python: what images and labels may be, and what is said of those that may not."""

import random
from collections.abc import Callable
from pathlib import Path
from traceback import clear_frames
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, random_split
from torchvision import transforms as v1
from torchvision import tv_tensors
from torchvision.datasets import VOCSegmentation
from torchvision.transforms import v2

from gffnet.data.camvid import CamVid
from gffnet.data.custom_transform import CustomTransform, takes_keywords
from gffnet.data.dataset import Classes, Sample, fingerprint
from gffnet.data.loader import ClassBalance, TrainingStream, class_pixels
from gffnet.data.map_style import MapStyleDataset, as_dataset, describe, describe_data, parse_classes
from gffnet.data.transforms import Augmentation, seeded
from gffnet.errors import UserError
from gffnet.metrics.scores import ScoreAccumulator
from tests.data.trees import camvid_tree, save

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
TENSOR = torch.from_numpy(PICTURE).permute(2, 0, 1)
IDS = RNG.integers(0, 3, (6, 8), dtype=np.uint8)


def one(image: Any, labels: Any = IDS, **options: Any) -> Sample:
    return MapStyleDataset([(image, labels)], 3, **options)[0]


# Images


@pytest.mark.parametrize(
    "image",
    [
        PICTURE,
        TENSOR,
        tv_tensors.Image(TENSOR),
        Image.fromarray(PICTURE),
        PICTURE.astype(np.float32),
        PICTURE[..., ::-1].copy().astype(np.float32)[..., ::-1],  # BGR, turned round
        PICTURE.astype(">f4"),
        (TENSOR.double() - 0.4).clamp(0, 255),  # rounded
        TENSOR.float() / 255,
        v2.functional.to_dtype(tv_tensors.Image(TENSOR), torch.float32, scale=True),
        v1.functional.to_tensor(Image.fromarray(PICTURE)),
    ],
)
def test_images_of_all_kinds_are_the_same(image: Any) -> None:
    sample = one(image)
    assert isinstance(sample.image, tv_tensors.Image)
    assert isinstance(sample.labels, tv_tensors.Mask)
    assert sample.image.stride()[0] == 1  # channels last
    assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), PICTURE)
    assert np.array_equal(sample.labels.numpy(), IDS)


def test_grey_and_other_channels() -> None:
    grey = PICTURE[..., 0]
    for image in (grey, torch.from_numpy(grey), grey[..., None], Image.fromarray(grey)):
        assert np.array_equal(one(image, in_channels=1).image[0].numpy(), grey)
    assert np.array_equal(one(Image.fromarray(grey)).image.numpy(), np.stack([grey] * 3))  # as files are read
    four = RNG.integers(0, 256, (6, 8, 4), dtype=np.uint8)
    assert np.array_equal(one(Image.fromarray(four, "RGBA"), in_channels=4).image.permute(1, 2, 0).numpy(), four)
    palette = Image.fromarray(PICTURE[..., 0] % 3)
    palette.putpalette([0, 0, 0, 90, 90, 90, 255, 255, 255])
    levels = np.array([0, 90, 255])[PICTURE[..., 0] % 3]
    for image in (palette, palette.convert("PA")):
        assert np.array_equal(one(image, in_channels=1).image[0].numpy(), levels)
    assert np.array_equal(one(PICTURE, labels=palette).labels.numpy(), PICTURE[..., 0] % 3)  # labels are indices
    assert one(np.zeros((6, 8, 5), np.uint8), in_channels=5).image.shape == (5, 6, 8)


def test_the_range_of_floats_is_decided_once_for_all_samples(caplog: pytest.LogCaptureFixture) -> None:
    dark, bright = np.zeros((6, 8, 3), np.float32), PICTURE / np.float32(255)
    with caplog.at_level("WARNING", logger="gffnet"):
        data = MapStyleDataset([(dark, IDS), (bright, IDS)], 3, argument="train_data")
        for index in (0, 1, 1):
            _ = data[index]
    assert [record.message.split(";")[0] for record in caplog.records] == ["train_data: images are floats in 0..1"]
    assert np.array_equal(data[1].image.permute(1, 2, 0).numpy(), PICTURE)
    assert data[0].image.max() == 0
    whole = MapStyleDataset([(dark + 1, IDS), (PICTURE.astype(float), IDS)], 3)  # a dark one is 1 of 255 here
    assert whole[0].image.max() == 1
    late = MapStyleDataset([(bright, IDS)] * 9 + [(PICTURE.astype(np.float32), IDS), (bright, IDS)], 3)
    with pytest.raises(UserError, match=r"data\[9\]: the image has values from 0 to 2\d\d, where 0 to 1 is allowed"):
        _ = late[9]


def test_looking_at_the_range_draws_no_random_number() -> None:
    class Random(list):  # type: ignore[type-arg]
        def __getitem__(self, index: Any) -> Any:
            return torch.rand(3, 6, 8) + np.random.rand() * 0, IDS

    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
    MapStyleDataset(Random([0, 0]), 3)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]


NORMALIZED = v2.functional.normalize(TENSOR.float() / 255, [0.5] * 3, [0.5] * 3)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (NORMALIZED, r"data\[0\]: the image has values from -[\d.]+ to .*leave Normalize out and give uint8"),
        (TENSOR.float() * float("nan"), "has values that are not finite"),
        (PICTURE.astype(np.float32) * 300, "has values from 0 to .*, where 0 to 255 is allowed"),
        (PICTURE.astype(np.uint16), "the image is uint16: it must be uint8.*Divide 16-bit images by 257"),
        (TENSOR.long(), r"the image is int64: .*\.to\(torch\.uint8\)"),
        (TENSOR > 9, "the image is bool.* Multiply it by 255"),
        (PICTURE.transpose(2, 0, 1), r"an array \(3, 6, 8\).*this looks swapped. Use array.transpose\(1, 2, 0\)"),
        (TENSOR.permute(1, 2, 0), r"a tensor \(6, 8, 3\).*this looks swapped. Use tensor.permute\(2, 0, 1\)"),
        (PICTURE[..., 0], r"an array \(6, 8\), which must be \(height, width, 3\).*1 channel, .* takes 3: set"),
        (TENSOR[None], r"a tensor \(1, 3, 6, 8\), which must be \(3, height, width\)"),
        (Image.fromarray(PICTURE[..., 0].astype(np.int32)), "PIL image of mode 'I': convert it to 8 bits"),
        ("photo.jpg", "the image is of type builtins.str: it must be a tensor, an array or a PIL image"),
        (PICTURE[:5], r"the image is 5x8 \(height x width\) and its labels are 6x8: they must be of one size"),
    ],
)  # fmt: skip
def test_images_that_are_refused(image: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        one(image)


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        IDS,
        torch.from_numpy(IDS).long(),
        torch.from_numpy(IDS)[None].int(),
        IDS.astype(np.uint16),
        tv_tensors.Mask(torch.from_numpy(IDS)),
        Image.fromarray(IDS),
        Image.fromarray(IDS, "P"),
        Image.fromarray(IDS.astype(np.int32)),
    ],
    ids=lambda labels: f"{type(labels).__name__} {getattr(labels, 'dtype', getattr(labels, 'mode', ''))}",
)
def test_labels_of_all_kinds_are_the_same(labels: Any) -> None:
    found = one(PICTURE, labels).labels
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), IDS)


def test_ignored_labels() -> None:
    labels = IDS.astype(np.int64)
    labels[0, :3] = 255, -1, -100
    assert one(PICTURE, labels).labels[0, :3].tolist() == [255] * 3
    assert np.array_equal(one(PICTURE, labels).labels[1:].numpy(), IDS[1:])
    assert one(PICTURE, labels.clip(-1).astype(np.int8)).labels[0, 1] == 255
    assert one(PICTURE, IDS > 0).labels.max() == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (IDS + np.uint8(1), r"data\[0\]: label 3 at row \d, column \d is no class: allowed are 0 to 2, and 255, -1"),
        (IDS.astype(int) - 2, "label -2 at row"),
        (IDS.astype(np.float32), r"the labels are float32: they must be integers.*ToTensor scales"),
        (np.stack([IDS] * 3), r"the labels are \(3, 6, 8\).*argmax over the classes"),
        (Image.fromarray(PICTURE), "the labels are a PIL image of mode 'RGB'.*Map colors to ids"),
        (IDS.tolist(), "the labels are a sequence of 6: they must be a tensor"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else type(value).__name__,
)
def test_labels_that_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        one(PICTURE, labels)


# Data sets


def test_tuples_and_mappings() -> None:
    for sample in (
        (PICTURE, IDS),
        [PICTURE, IDS, "and more"],
        {"image": PICTURE, "mask": IDS},
        {"image": PICTURE, "labels": IDS, "name": "x"},
        {"image": PICTURE, "label": IDS},
    ):
        assert np.array_equal(MapStyleDataset([sample], 3)[0].labels.numpy(), IDS)
    for sample, message in (
        ({"image": PICTURE, "boxes": IDS}, r"data\[0\] is a mapping with 'image', 'boxes': it must have 'image' and"),
        (PICTURE, r"data\[0\] is of type numpy.ndarray: it must be a tuple \(image, labels\)"),
    ):
        with pytest.raises(UserError, match=message):
            MapStyleDataset([sample], 3)[0]


class Stream(IterableDataset):  # type: ignore[type-arg]
    def __iter__(self) -> Any:
        return iter([(PICTURE, IDS)])


def test_what_has_no_length_is_described_all_the_same() -> None:
    assert describe_data([(PICTURE, IDS)]) == "builtins.list, 1 samples"
    assert describe_data(DataLoader(Stream())) == "torch.utils.data.dataloader.DataLoader"


@pytest.mark.parametrize(
    ("source", "classes", "message"),
    [
        (DataLoader([(PICTURE, IDS)]), 3, "train_data is a DataLoader: give its data set, train_data=loader.dataset"),  # type: ignore[arg-type]
        (Stream(), 3, r"train_data \(tests.data.test_map_style.Stream\) is no map-style data set"),
        (iter([]), 3, "is no map-style data set"),
        ([], 3, r"train_data \(builtins.list\) has no samples"),
        ([(PICTURE, IDS)], None, r"classes: train_data \(builtins.list\) does not say what its classes are"),
        ([(PICTURE, IDS)], 0, "classes: there are 0; allowed are 1 to 254"),
        ([(PICTURE, IDS)], ["a", "b", "a"], "classes: 'a' is there twice"),
        ([(PICTURE, IDS)], "road", "classes 'road': allowed are a list of names, a number"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else type(value).__name__,
)
def test_data_that_are_refused(source: Any, classes: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_dataset(source, classes)


def test_classes() -> None:
    assert parse_classes(2).names == ("class_0", "class_1")
    assert parse_classes(["sky", "road"]) == Classes(("sky", "road"), ((128, 0, 0), (0, 128, 0)))  # PASCAL VOC's colors
    given = Classes(("a",), ((1, 2, 3),))
    assert parse_classes(given) is given
    assert len(set(parse_classes(254).palette)) == 254
    ScoreAccumulator(254)  # as many as can be scored
    for many in (255, Classes(("a",) * 255, ((1, 2, 3),) * 255)):
        with pytest.raises(UserError, match="classes: there are 255; allowed are 1 to 254"):
            parse_classes(many)


def test_a_data_set_of_gffnet_stays_as_it_is(tmp_path: Path) -> None:
    camvid = CamVid(camvid_tree(tmp_path), "train")
    assert as_dataset(camvid) is camvid
    part = as_dataset(Subset(Subset(camvid, [4, 2, 0]), [2, 1]))
    assert isinstance(part, CamVid)
    assert [part.name(i) for i in range(len(part))] == ["train_000", "train_002"]
    assert as_dataset(camvid, camvid.classes.names) is camvid
    with pytest.raises(UserError, match=r"is a data set of gffnet, with 11 classes .* Leave classes out"):
        as_dataset(camvid, ["a"])


def test_splits_of_torch(tmp_path: Path) -> None:
    images, labels = torch.stack([TENSOR + i for i in range(5)]), torch.from_numpy(np.stack([IDS] * 5))
    whole = TensorDataset(images, labels)
    parts = [as_dataset(part, 3) for part in random_split(whole, [3, 2], torch.Generator().manual_seed(1))]
    first = [int(sample.image[0, 0, 0]) for part in parts for sample in part]  # type: ignore[attr-defined]
    assert sorted(first) == sorted(int(image[0, 0, 0]) for image in images)
    assert [part.meaning() for part in parts] == ["torch.utils.data.dataset.TensorDataset"] * 2


def test_a_data_set_of_torchvision(tmp_path: Path) -> None:
    """PASCAL VOC: palette masks, 255 along the boundaries."""
    root = tmp_path / "VOCdevkit/VOC2012"
    save(root / "JPEGImages/a.jpg", PICTURE)
    mask = Image.fromarray(np.where(IDS == 2, 255, IDS).astype(np.uint8), "P")
    mask.putpalette(bytes(range(256)) * 3)
    (root / "SegmentationClass").mkdir()
    mask.save(root / "SegmentationClass/a.png")
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\n")
    data = as_dataset(VOCSegmentation(str(tmp_path), image_set="train"), 21)
    assert np.array_equal(data[0].labels.numpy(), np.where(IDS == 2, 255, IDS))


def test_what_the_package_asks_of_a_data_set() -> None:
    data = MapStyleDataset([(PICTURE, IDS), (PICTURE[:4], IDS[:4] * 0)], ["a", "b", "c"])
    assert (len(data), data.name(1), data.size(1), data.file_sizes(0)) == (2, "000001", (4, 8), [])
    assert np.array_equal(data.labels(0), IDS)
    counted = class_pixels(data, workers=4)
    assert counted.tolist() == [np.bincount(IDS.ravel()).tolist(), [32, 0, 0]]
    part = data.subset([1])
    assert (len(part), part[0].image.shape[1:]) == (1, (4, 8))
    prints = {fingerprint(data), fingerprint(part), fingerprint(MapStyleDataset(data.source, ["a", "b", "d"]))}
    assert len(prints) == 3
    assert fingerprint(MapStyleDataset(list(data.source), ["a", "b", "c"])) == fingerprint(data)


def test_data_of_other_contents_have_another_fingerprint() -> None:
    """Though type, length and names are the same; which a transform that draws random numbers does not change."""
    samples = [(np.full((6, 8, 3), i, np.uint8), IDS) for i in range(20)]
    before = fingerprint(MapStyleDataset(samples, 3))
    for i, changed in (0, (PICTURE, IDS)), (19, (samples[19][0], IDS * 0)):
        other = [*samples[:i], changed, *samples[i + 1 :]]
        assert fingerprint(MapStyleDataset(other, 3)) != before
    turned = [(image.transpose(1, 0, 2), labels.T * 0) for image, labels in samples]
    assert fingerprint(MapStyleDataset(turned, 3)) != fingerprint(
        MapStyleDataset([(a, IDS * 0) for a, _ in samples], 3)
    )

    class Noisy(list):  # type: ignore[type-arg]
        def __init__(self, own: bool) -> None:
            super().__init__([0] * 20)
            self.generator = np.random.default_rng() if own else np.random

        def __getitem__(self, index: Any) -> Any:
            return (256 * self.generator.random((6, 8, 3))).astype(np.uint8), IDS

    for own in (False, True):
        torch.manual_seed(own)
        np.random.seed(own)
        first = fingerprint(MapStyleDataset(Noisy(own), 3))
        np.random.seed(5)
        assert fingerprint(MapStyleDataset(Noisy(own), 3)) == first


# Transforms of one's own

CROP, MEAN = (6, 8), (124.0, 116.0, 104.0)


class Keywords:
    """As albumentations: keywords, arrays, a mapping; random numbers of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng()

    def set_random_seed(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, *, image: np.ndarray, mask: np.ndarray, **more: Any) -> dict[str, Any]:
        assert image.shape[2] == 3
        assert image.dtype == mask.dtype == np.uint8
        left = int(self.rng.integers(3))
        return {"image": image[:, left : left + 5], "mask": mask[:, left : left + 5]}


def view(
    transform: Any, crop: tuple[int, int] = CROP, seed: int = 0, focus: Any = None, image: Any = PICTURE
) -> Sample:
    return CustomTransform(transform, crop, MEAN, 3).view(one(image), np.random.default_rng(seed), focus)


def same(a: Sample, b: Sample) -> bool:
    return torch.equal(a.image, b.image) and torch.equal(a.labels, b.labels)


def drawing(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    shift = int(torch.randint(4, ())) + np.random.randint(4) + random.randrange(4)
    return image.roll(shift, -1), labels.roll(shift, -1)


@pytest.mark.parametrize(
    "transform", [drawing, v2.RandomCrop((6, 5)), Keywords(), nn.Identity()], ids=lambda t: type(t).__name__
)
def test_a_view_depends_on_its_seed_alone_and_image_and_labels_move_together(transform: Any) -> None:
    if isinstance(transform, nn.Identity):
        transform = v2.Identity()
    image = np.stack([IDS * 60] * 3, -1)  # so that they can be compared
    views = []
    for number in (1, 2):
        torch.manual_seed(number)
        state = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index]
        views.append([view(transform, seed=seed, image=image) for seed in range(12)])
        assert torch.equal(torch.get_rng_state(), state[0])
        assert np.random.get_state()[1].tolist() == state[1]  # type: ignore[index]
    assert all(same(a, b) for a, b in zip(*views, strict=True))
    for sample in views[0]:
        assert sample.image.shape == (3, 6, 8)
        inside = sample.labels != 255
        assert torch.equal(sample.image[0][inside], (sample.labels * 60)[inside])
        assert sample.image[:, ~inside].unique(dim=1).tolist() in ([[124], [116], [104]], [[], [], []])
    if not isinstance(transform, v2.Identity):
        assert len({sample.labels.numpy().tobytes() for sample in views[0]}) > 1


def test_a_result_that_is_larger_is_cropped_at_random() -> None:
    views = [view(lambda image, labels: (image, labels), (3, 4), seed) for seed in range(30)]
    crops = {PICTURE[r : r + 3, c : c + 4].tobytes() for r in range(4) for c in range(5)}
    found = {sample.image.permute(1, 2, 0).contiguous().numpy().tobytes() for sample in views}
    assert found <= crops
    assert len(found) > 8
    whole = view(lambda image, labels: (image, labels))
    assert np.array_equal(whole.image.permute(1, 2, 0).numpy(), PICTURE)


def test_a_crop_shows_the_class_that_was_drawn() -> None:
    """A rare class, whose pixel the transform moves to the other side."""
    labels = np.zeros((30, 40), np.uint8)
    labels[3, 5] = 2
    data = MapStyleDataset([(np.zeros((30, 40, 3), np.uint8), labels)], 3)
    flip = CustomTransform(v2.RandomHorizontalFlip(p=1.0), (6, 8), MEAN, 3)
    balance = ClassBalance(class_pixels(data), 1.0)
    stream = TrainingStream(data, flip, 0, 40, balance=balance)
    rare = [k for k in range(40) if (pick := stream._pick(k)) and pick.label == 2]
    assert len(rare) > 10
    assert all((stream[k].labels == 2).any() for k in rare)
    gone = CustomTransform(lambda image, labels: (image, labels * 0), (6, 8), MEAN, 3)
    assert TrainingStream(data, gone, 0, 40, balance=balance)[rare[0]].labels.max() == 0


def keyword_function(**data: Any) -> Any:
    return data


def named_function(image: Any, mask: Any) -> Any:
    return image, mask


def test_how_a_transform_is_called() -> None:
    library = type("Compose", (), {"__module__": "albumentations.core", "__call__": lambda self, *args, **data: data})
    wanted: list[tuple[Callable[..., Any], bool]] = [
        (library(), True),
        (type("Own", (library,), {})(), True),
        (keyword_function, True),
        (Keywords(), True),
        (named_function, False),
        (v2.Compose([v2.RandomHorizontalFlip()]), False),
        (v2.ColorJitter(), False),
        (lambda image, labels, strength=2: (image, labels), False),
    ]
    assert [takes_keywords(transform) for transform, _ in wanted] == [keywords for _, keywords in wanted]
    for transform in (v1.Compose([]), v1.RandomHorizontalFlip(), lambda image: image):
        with pytest.raises(UserError, match=r"takes \(.*\): it must take \(image, labels\).*use transforms\.v2"):
            takes_keywords(transform)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (v2.ToDtype(torch.float32, scale=True),
         r"ToDtype returned a float32 image: it must be uint8, in 0\.\.255\. Leave ToDtype and Normalize out"),
        (lambda image, labels: image, r"returned Image: it must return \(image, labels\)"),
        (lambda image, labels: (image[:1], labels), r"\(1, 6, 8\) as the image: allowed are a tensor \(3, H, W\)"),
        (lambda image, labels: (image[:, 1:], labels), r"an image of \(5, 8\) and labels of \(6, 8\)"),
        (lambda image, labels: (image, labels + 1), "label 3 at row"),
        (lambda **data: None, "must return a mapping with both"),
        (lambda **data: {"image": data["image"]}, "must return a mapping with both"),
    ],
)  # fmt: skip
def test_transforms_that_return_something_else(transform: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        view(transform)


def test_an_error_in_a_loading_process_is_one_line() -> None:
    data = MapStyleDataset([(PICTURE, IDS)], 3)
    stream = TrainingStream(data, CustomTransform(v2.ToDtype(torch.float32), CROP, MEAN, 3), 0, 1)
    with pytest.raises(UserError) as caught:
        list(DataLoader(stream, batch_size=None, num_workers=1))
    clear_frames(caught.tb)  # or some later test waits 5 s for the process, as garbage
    assert str(caught.value).startswith("transform torchvision.transforms.v2._misc.ToDtype returned a float32 image")


def test_albumentations() -> None:
    library = pytest.importorskip("albumentations")
    transform = library.Compose([library.HorizontalFlip(p=0.5), library.RandomCrop(6, 5), library.ColorJitter(p=1.0)])
    views = [[view(transform, seed=seed) for seed in range(8)] for _ in range(2)]
    assert all(same(a, b) for a, b in zip(*views, strict=True))
    assert len({sample.image.numpy().tobytes() for sample in views[0]}) == 8
    assert views[0][0].image.shape == (3, 6, 8)


def test_random_data_are_read_anew_and_reproducibly() -> None:
    """The same item is the same in every stream; two items of one sample differ."""

    class Random(list):  # type: ignore[type-arg]
        def __getitem__(self, index: Any) -> Any:
            return np.full((6, 8, 3), np.random.randint(256), np.uint8), IDS

    view = Augmentation(CROP, (1.0, 1.0), 0, False, MEAN)
    streams = [TrainingStream(MapStyleDataset(Random([0]), 3), view, 0, 20) for _ in range(2)]
    levels = [int(streams[0][k].image[0, 0, 0]) for k in range(20)]
    assert levels == [int(streams[1][k].image[0, 0, 0]) for k in reversed(range(20))][::-1]
    assert len(set(levels)) > 10


def test_labels_and_sizes_of_random_data_do_not_depend_on_what_was_drawn_before() -> None:
    class Random(list):  # type: ignore[type-arg]
        def __getitem__(self, index: Any) -> Any:
            side = int(torch.randint(2, 200, ()))
            return np.zeros((side, 8, 3), np.uint8), np.full((side, 8), random.randrange(3))

    data = MapStyleDataset(Random([0] * 9), 3)
    first = [class_pixels(data), [data.size(i) for i in range(9)]]
    torch.rand(1), np.random.rand(), random.random()
    second = [class_pixels(data), [data.size(i) for i in reversed(range(9))][::-1]]
    assert np.array_equal(first[0], second[0])
    assert first[1] == second[1] == [(sum(row) // 8, 8) for row in first[0]]
    assert len(set(first[1])) > 5


def test_generators_are_seeded_and_restored_after_an_error() -> None:
    state = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(1):
        int(torch.rand(1)) // 0
    assert torch.equal(torch.get_rng_state(), state)
    with seeded(7):
        drawn = float(torch.rand(1)), np.random.rand(), random.random()
    assert drawn == (
        float(torch.rand(1, generator=torch.Generator().manual_seed(7))),
        np.random.RandomState(7).rand(),
        random.Random(7).random(),
    )
    random.seed(3)
    wanted = random.Random(3).random()
    with seeded(1):
        random.random()
    assert random.random() == wanted


def test_names_in_a_record() -> None:
    assert describe(named_function) == "tests.data.test_map_style.named_function"
    assert describe(Keywords()) == describe(Keywords) == "tests.data.test_map_style.Keywords"
    assert describe(torch.nn.functional.cross_entropy) == "torch.nn.functional.cross_entropy"
