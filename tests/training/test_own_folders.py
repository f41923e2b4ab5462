"""`gffnet data check` and training judge folders of one's own alike: what the check calls sound trains, and no other.

Folders are made at random: a layout and classes, and some mutations, each a mistake or an oddity of a file, a name, a
list or classes.yaml. Training is what it does before its first iteration, then every sample, a batch, its loss and a
prediction; the options are those of the command that the check prints.
"""

import shlex
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from gffnet.data.check import CheckResult, check_dataset, next_steps
from gffnet.errors import UserError
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import Predictor
from gffnet.models.gffnet import SegmentationModel, build_network
from gffnet.models.model_io import ModelConfig
from gffnet.recipe import LossRecipe
from gffnet.training.data import SegmentationDataModule
from gffnet.training.losses import SegmentationLoss
from gffnet.training.train import class_statistics, fit_inputs, open_data, read_recipe, resolve_and_show
from tests import tiny
from tests.data.trees import ids, picture, save

SIZE = (40, 48)


class Trained(NamedTuple):
    """What came of a training."""

    train: int
    """Images."""
    loss: float


def train(root: Path, recipe_file: Path, options: list[str]) -> Trained:
    """Train in the sense above. Raises whatever `gffnet train` prints as an error."""
    recipe, auto = read_recipe(recipe_file, options)
    train_set, val_set, size = open_data(recipe, root)
    recipe, train_set, val_set = fit_inputs(recipe, auto, train_set, val_set)
    recipe = resolve_and_show(recipe, auto, size)
    balance, _ = class_statistics(recipe, train_set)
    for dataset in (train_set, val_set):
        for index in range(len(dataset)):
            assert dataset[index].image.shape[1:] == dataset[index].labels.shape
    network, predictor = networks(recipe.model.backbone.in_channels, len(train_set.classes.names))
    batches = SegmentationDataModule(recipe, train_set, val_set, balance=balance)
    batch = next(iter(batches.train_dataloader()))
    criterion = SegmentationLoss(LossRecipe())
    loss = criterion(network(batch.image).logits, batch.labels) / criterion.weight(batch.labels).clamp(min=1)
    sample = val_set[0]
    window = predictor.window(recipe.evaluation, (sample.labels.shape[0], sample.labels.shape[1]))
    assert window.labels(sample.image).shape == sample.labels.shape
    return Trained(len(train_set), float(loss.detach()))


@cache
def networks(in_channels: int, classes: int) -> tuple[SegmentationModel, Predictor]:
    """A tiny network to train, and one to predict with; only their form matters."""
    model = {**tiny.PSPNET, "backbone": {**tiny.PSPNET["backbone"], "in_channels": in_channels}}
    recipe = tiny.recipe(model)
    names, palette = tuple(map(str, range(classes))), ((0, 0, 0),) * classes
    config = ModelConfig(recipe.model, names, palette, "folder", "tests", recipe.evaluation)
    training, predicting = (build_network(recipe.model, classes) for _ in range(2))
    precision = Precision(torch.float32, "for tests")
    return training.train(), Predictor(predicting.eval(), config, torch.device("cpu"), precision)


def check(root: Path) -> CheckResult:
    return check_dataset("folder", root, workers=1)


def options_of(result: CheckResult) -> list[str]:
    """The values of `--set` in the command that the check prints."""
    words = shlex.split(next_steps(result)[-1].removeprefix("train on it: "))
    return [words[i + 1] for i, word in enumerate(words) if word == "--set"]


STRICTER = {"count", "junk-sample", "classes-mostly-absent", "split-empty", "list-unreadable", "name-mismatch"}
"""Errors of the check that may concern what training passes over, such as a third split."""


def judge(root: Path, recipe_file: Path) -> str:
    """Hold the check and training to each other; says which it was."""
    result = check(root)
    codes = {finding.code for finding in result.of("error")}
    for finding in result.findings:
        assert "\n" not in finding.message + finding.remedy
        assert "{" not in finding.code
    if result.ok:
        trained = train(root, recipe_file, options_of(result))
        assert np.isfinite(trained.loss)
        return "sound"
    try:
        train(root, recipe_file, [])
    except UserError:
        return "refused"
    assert codes & STRICTER or third_split(result), codes
    return f"stricter: {sorted(codes)}"


def third_split(result: CheckResult) -> bool:
    """Whether all errors are in splits that training does not read."""
    return all(finding.split not in (None, "train", "val", "Train", "valid") for finding in result.of("error"))


# Folders


def scene(root: Path, name: str, seed: int) -> None:
    save(root / f"images/{name}.png", picture(seed, SIZE))
    save(root / f"masks/{name}.png", ids(seed, 3, SIZE))


def make(root: Path, layout: str, train: str, val: str) -> None:
    """Four images to train on and two to validate on, of three classes."""
    names = {train: ["a", "b", "c", "d"], val: ["e", "f"]}
    seed = 0
    for split, of_split in names.items():
        for name in of_split:
            scene(root, f"{split}/{name}" if layout == "subfolders" else name, seed := seed + 1)
        if layout == "lists":
            (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in of_split))
    (root / "classes.yaml").write_text("classes: [road, car, sky]\n")


def files(root: Path, folder: str) -> list[Path]:
    return sorted(path for path in (root / folder).rglob("*.*") if path.is_file())


Mutation = Callable[[Path, int], None]
MUTATIONS: dict[str, Mutation] = {}


def mutation(function: Mutation) -> Mutation:
    MUTATIONS[function.__name__] = function
    return function


def one(root: Path, folder: str, k: int) -> Path:
    """One of the files of a folder; a new one if there is none."""
    found = files(root, folder)
    return found[k % len(found)] if found else save(root / folder / "new.png", picture(0, SIZE))


def replace(file: Path, suffix: str) -> None:
    """Write ids in place of a file, with another suffix."""
    file.unlink()
    Image.fromarray(ids(1, 3, SIZE)).save(file.with_suffix(suffix))


def for_each(folder: str, change: Callable[[Path], None]) -> Mutation:
    def apply(root: Path, k: int) -> None:
        for file in files(root, folder):
            change(file)

    return apply


def for_one(folder: str, change: Callable[[Path], None]) -> Mutation:
    return lambda root, k: change(one(root, folder, k))


def write(file: Path, pixels: NDArray[Any]) -> None:
    """Write pixels as PNG, whatever the suffix; other kinds than 8 bits as TIFF."""
    Image.fromarray(pixels).save(file, "PNG" if pixels.dtype == np.uint8 or pixels.dtype == np.uint16 else "TIFF")


def exif(file: Path, orientation: int) -> None:
    tags = Image.Exif()
    tags[0x0112] = orientation
    image = Image.fromarray(picture(1, SIZE) if "images" in file.parts else ids(1, 3, SIZE))
    image.save(file, "PNG", exif=tags)


def palette(file: Path, transparency: int | None = None) -> None:
    image = Image.fromarray(ids(3, 3, SIZE)).convert("P")
    image.putpalette([1, 2, 3, 200, 0, 0, 0, 200, 0])
    image.save(file, "PNG", **({} if transparency is None else {"transparency": transparency}))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])


def garbage(file: Path) -> None:
    file.write_bytes(b"no image\n" * 9)


def dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere.png")


def upper(file: Path) -> None:
    file.rename(file.with_suffix(file.suffix.upper()))


def capital(file: Path) -> None:
    file.rename(file.with_name(file.name.upper()))


def double(file: Path) -> None:
    shutil.copy(file, file.with_suffix(".bmp" if file.suffix != ".bmp" else ".tif"))


def hidden(file: Path) -> None:
    (file.parent / f"._{file.name}").write_bytes(b"\0\5\x16\7")


def folder_instead(file: Path) -> None:
    file.unlink()
    file.mkdir()


def endless(file: Path) -> None:
    levels = picture(1, SIZE).astype(np.float32)
    np.save(file.with_suffix(".npy"), np.where(levels > 200, np.inf, levels))
    file.unlink()


def as_npy(file: Path) -> None:
    np.save(file.with_suffix(".npy"), ids(1, 3, SIZE))
    file.unlink()


BOTH: dict[str, Callable[[Path], None]] = {
    "missing": Path.unlink,
    "empty": empty,
    "cut_short": cut,
    "garbage": garbage,
    "dangling_link": dangling,
    "upper_suffix": upper,
    "upper_name": capital,
    "twice_with_other_suffixes": double,
    "beside_a_hidden_one": hidden,
    "a_folder": folder_instead,
    "upside_down": lambda file: exif(file, 3),
    "on_its_side": lambda file: exif(file, 6),
    "smaller": lambda file: write(file, ids(1, 3, (20, 24))),
    "one_pixel": lambda file: write(file, ids(1, 3, (1, 1))),
    "narrow": lambda file: write(file, ids(1, 3, (3, 200))),
    "palette": palette,
    "palette_with_alpha": lambda file: palette(file, 1),
    "rgba": lambda file: write(file, np.dstack([picture(1, SIZE), np.full(SIZE, 255, np.uint8)])),
    "partly_transparent": lambda file: write(file, np.dstack([picture(1, SIZE), ids(1, 2, SIZE) * np.uint8(255)])),
    "grey_and_alpha": lambda file: write(file, np.dstack([ids(1, 3, SIZE), np.full(SIZE, 255, np.uint8)])),
    "rgb_of_grey": lambda file: write(file, np.dstack([ids(1, 3, SIZE)] * 3)),
    "sixteen_bits": lambda file: write(file, ids(1, 3, SIZE).astype(np.uint16)),
    "float": lambda file: write(file, ids(1, 3, SIZE).astype(np.float32)),
    "32_bits": lambda file: write(file, ids(1, 3, SIZE).astype(np.int32)),
    "one_bit": lambda file: Image.fromarray(ids(1, 2, SIZE) > 0).save(file, "PNG"),
    "jpeg": lambda file: Image.fromarray(ids(1, 3, SIZE)).save(file, "JPEG"),
    "cmyk": lambda file: Image.fromarray(picture(1, SIZE)).convert("CMYK").save(file, "JPEG"),
    "as_gif": lambda file: replace(file, ".gif"),
    "as_bmp": lambda file: replace(file, ".bmp"),
    "as_npy": as_npy,
    "of_infinite_samples": endless,
}
for name, change in BOTH.items():
    MUTATIONS[f"an image is {name}"] = for_one("images", change)
    MUTATIONS[f"a mask is {name}"] = for_one("masks", change)
for name in ("palette", "rgba", "grey_and_alpha", "rgb_of_grey", "sixteen_bits", "float", "upper_suffix", "one_bit"):
    MUTATIONS[f"all images are {name}"] = for_each("images", BOTH[name])
    MUTATIONS[f"all masks are {name}"] = for_each("masks", BOTH[name])


def of_values(*values: int, dtype: type = np.uint8) -> Callable[[Path], None]:
    """A mask of such values."""
    return lambda file: write(file, np.array(values, dtype)[ids(2, len(values), SIZE)])


for name, values in {
    "3": (0, 1, 3),
    "0 and 255": (0, 255),
    "255": (255,),
    "1": (1,),
    "1 and 255": (1, 255),
    "0, 128 and 255": (0, 128, 255),
}.items():
    MUTATIONS[f"a mask holds {name}"] = for_one("masks", of_values(*values))
    MUTATIONS[f"all masks hold {name}"] = for_each("masks", of_values(*values))
MUTATIONS["a mask holds 300"] = for_one("masks", of_values(0, 300, dtype=np.uint16))
MUTATIONS["all images are black"] = for_each("images", lambda file: write(file, np.zeros((*SIZE, 3), np.uint8)))


@mutation
def all_images_are_tiny(root: Path, k: int) -> None:
    for number, (image, mask) in enumerate(zip(files(root, "images"), files(root, "masks"), strict=False)):
        size = (k % 7 + 1, number + 1)
        write(image, picture(number, size))
        write(mask, ids(number, 3, size))


@mutation
def a_pair_is_turned(root: Path, k: int) -> None:
    for folder in ("images", "masks"):
        exif(one(root, folder, k), 6)


@mutation
def a_mask_more(root: Path, k: int) -> None:
    shutil.copy(one(root, "masks", k), one(root, "masks", k).parent / "more.png")


@mutation
def an_image_more(root: Path, k: int) -> None:
    shutil.copy(one(root, "images", k), one(root, "images", k).parent / "more.png")


@mutation
def a_nested_pair(root: Path, k: int) -> None:
    for folder in ("images", "masks"):
        file = one(root, folder, k)
        (file.parent / "deeper/still").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, file.parent / "deeper/still" / file.name)


@mutation
def linked_folders(root: Path, k: int) -> None:
    for folder in ("images", "masks"):
        target = root / f"real_{folder}"
        if (root / folder).is_dir() and not target.exists():
            (root / folder).rename(target)
            (root / folder).symlink_to(target)


@mutation
def half_of_a_pair_is_a_copy(root: Path, k: int) -> None:
    found = files(root, "images")
    if found:
        shutil.copy(found[0], found[-1])


@mutation
def a_lone_pair(root: Path, k: int) -> None:
    for folder in ("images", "masks"):
        for file in files(root, folder)[1:]:
            file.unlink()


@mutation
def no_masks(root: Path, k: int) -> None:
    shutil.rmtree(root / "masks", ignore_errors=True)


@mutation
def images_in_capitals(root: Path, k: int) -> None:
    if (root / "images").is_dir():
        (root / "images").rename(root / "Images")


# classes.yaml

TEXTS: dict[str, bytes] = {
    "empty": b"",
    "no YAML": b"classes: [road, car",
    "a list": b"[road, car, sky]",
    "one class": b"classes: [road]",
    "no class": b"classes: []",
    "two classes": b"classes: [road, car]",
    "too many": yaml.safe_dump({"classes": [f"c{i}" for i in range(300)]}).encode(),
    "of which most do not occur": yaml.safe_dump({"classes": [f"c{i}" for i in range(20)]}).encode(),
    "one name twice": b"classes: [road, road, sky]",
    "one id twice": b"classes: [road, {name: car, id: 0}, sky]",
    "other ids": b"classes: [{name: road, id: 1}, {name: car, id: 0}, {name: sky, id: 2}]",
    "255 as a class": b"classes: [road, car, sky, {name: far, id: 255}]",
    "black and white": b"classes: [road, {name: car, id: 255}]",
    "an unknown key": b"classes: [road, car, sky]\ncolours: none",
    "an unknown key of a class": b"classes: [road, {nam: car}, sky]",
    "ignored 0": b"classes: [{name: car, id: 1}, {name: sky, id: 2}]\nignore: 0",
    "all ignored but one": b"classes: [{name: car, id: 1}, {name: sky, id: 9}]\nignore: [0, 2]",
    "all ignored": b"classes: [{name: car, id: 8}, {name: sky, id: 9}]\nignore: [0, 1, 2, 255]",
    "ignored class": b"classes: [road, car, sky]\nignore: 1",
    "nothing ignored": b"classes: [road, car, sky]\nignore: []",
    "255 ignored": b"classes: [road, car, sky]\nignore: 255",
    "colors": b"masks: colors\nclasses: [{name: road, color: [0, 0, 0]}, {name: car, color: [1, 1, 1]}]",
    "palette's colors": b"masks: colors\nclasses: [{name: a, color: '#010203'}, {name: b, color: '#c80000'}]\n"
    b"ignore: '#00c800'",
    "colors of all": b"masks: colors\nclasses: [{name: a, color: '#000000'}, {name: b, color: '#010101'}, "
    b"{name: c, color: '#020202'}]",
    "a fraction": b"classes: [road, car, sky]\nval_fraction: 0.3",
    "a large fraction": b"classes: [road, car, sky]\nval_fraction: 0.99",
    "a fraction of 1": b"classes: [road, car, sky]\nval_fraction: 1.0",
    "Windows lines": b"classes:\r\n- road\r\n- car\r\n- sky\r\n",
    "a tab": b"classes:\n\t- road\n",
    "a byte-order mark": "classes: [Straße, car, sky]".encode("utf-8-sig"),
    "UTF-16": "classes: [Straße, car, sky]".encode("utf-16"),
    "latin-1": "classes: [Straße, car, sky]".encode("latin-1"),
    "GBK": "classes: [道路, car, sky]".encode("gbk"),
    "Shift-JIS": "classes: [道路, car, sky]".encode("shift_jis"),
}


def classes_yaml(text: bytes) -> Mutation:
    def apply(root: Path, k: int) -> None:
        (root / "classes.yaml").write_bytes(text)

    return apply


MUTATIONS |= {f"classes.yaml with {name}": classes_yaml(text) for name, text in TEXTS.items()}
MUTATIONS["no classes.yaml"] = lambda root, k: (root / "classes.yaml").unlink(missing_ok=True)


# Splits


@mutation
def nothing_to_validate_on(root: Path, k: int) -> None:
    for split in ("val", "valid", "Val", "b"):
        for folder in ("images", "masks"):
            shutil.rmtree(root / folder / split, ignore_errors=True)
        (root / f"{split}.txt").unlink(missing_ok=True)


@mutation
def a_third_split(root: Path, k: int) -> None:
    name = ("test", "Test", "extra", "dev", "1", "day+night")[k % 6]
    for folder in ("images", "masks"):
        found = files(root, folder)
        if found:
            (root / folder / name).mkdir(exist_ok=True)
            shutil.copy(found[0], root / folder / name / "t.png")


@mutation
def a_split_without_masks(root: Path, k: int) -> None:
    (root / "images/valid").mkdir(parents=True, exist_ok=True)


@mutation
def masks_of_other_case(root: Path, k: int) -> None:
    if (root / "masks/train").is_dir() and not (root / "masks/Train").exists():
        (root / "masks/train").rename(root / "masks/Train")


def listed(name: str, text: bytes) -> Mutation:
    def apply(root: Path, k: int) -> None:
        (root / name).write_bytes(text)

    return apply


MUTATIONS |= {
    f"{name} with {what}": listed(name, text)
    for name in ("train.txt", "val.txt", "notes.txt")
    for what, text in {
        "two images": b"a\nb.png\n",
        "nothing": b"\n",
        "an unknown line": b"a\nzzz\n",
        "a line twice": b"a\na.png\n",
        "UTF-16": "a\nb".encode("utf-16"),
        "latin-1": "a\nStraße".encode("latin-1"),
    }.items()
}


# The property


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network on `folder`, which finds its input channels by itself."""
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    training = {"iterations": 2, "batch": 2, "crop": [32, 48], "validate_every": 2, "workers": 0}
    file.write_text(yaml.safe_dump({"model": tiny.PSPNET, "data": {"name": "folder"}, "training": training}))
    return file


SPLITS = st.sampled_from(
    [("train", "val")] * 3 + [("Train", "Val"), ("training", "valid"), ("a", "b"), ("train", "test")]
)
FOLDERS = st.tuples(
    st.sampled_from(["flat", "lists", "subfolders"]),
    SPLITS,
    st.lists(st.tuples(st.sampled_from(sorted(MUTATIONS)), st.integers(0, 5)), max_size=3),
)


def judge_folder(recipe_file: Path, layout: str, splits: tuple[str, str], mutations: list[tuple[str, int]]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "own"
        make(root, layout, *splits)
        for name, k in mutations:
            if (root / "images").is_dir() and (root / "masks").is_dir():
                with suppress(OSError):  # of two that do not go together
                    MUTATIONS[name](root, k)
        return judge(root, recipe_file)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25)
@given(folder=FOLDERS)
def test_some_folders(recipe_file: Path, folder: tuple[str, tuple[str, str], list[tuple[str, int]]]) -> None:
    event(judge_folder(recipe_file, *folder))


@pytest.mark.parametrize(
    "mutations",
    [[("an image is float", 0)], [("all images are float", 0)], [("an image is of_infinite_samples", 0)]],
    ids=str,
)
def test_folders_that_were_judged_differently(recipe_file: Path, mutations: list[tuple[str, int]]) -> None:
    assert judge_folder(recipe_file, "flat", ("train", "val"), mutations) == "sound"


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=500, derandomize=False)
@given(folder=FOLDERS)
def test_many_folders(recipe_file: Path, folder: tuple[str, tuple[str, str], list[tuple[str, int]]]) -> None:
    event(judge_folder(recipe_file, *folder))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["flat", "lists", "subfolders"])
@pytest.mark.parametrize("name", sorted(MUTATIONS))
def test_every_mutation(recipe_file: Path, name: str, layout: str) -> None:
    judge_folder(recipe_file, layout, ("train", "val"), [(name, 1)])


# What training says before it starts


VOID, ROAD = np.full(SIZE, 255, np.uint8), np.zeros(SIZE, np.uint8)
HALF = np.where(np.arange(SIZE[1]) % 2, VOID, ROAD + np.uint8(1))
BLACK_IGNORED = b"masks: colors\nclasses: [{name: a, color: '#090909'}, {name: b, color: '#080808'}]\nignore: '#000000'"


@pytest.mark.parametrize(
    ("mask", "classes", "said"),
    [
        (
            VOID,
            "two classes",
            "every pixel of 4 label maps is ignored (255), so there is nothing to learn: label some. If",
        ),
        (
            ROAD,
            BLACK_IGNORED,
            "every pixel of 4 label maps is ignored (255), so there is nothing to learn: label some.",
        ),
        (ROAD, "two classes", "in its 4 label maps only 'road' is labelled, and a network needs two classes to tell"),
        (
            HALF,
            "two classes",
            "only 'car' is labelled and the other 50% of the pixels are ignored, and a network needs",
        ),
        (HALF, "two classes", "If 255 is a class, add {name: ..., id: 255} to `classes` in "),
        (ROAD, "colors", "in its 4 label maps only 'road' is labelled, and a network needs two classes to tell"),
    ],
    ids=["void", "void colors", "one class", "one class and 255", "the remedy", "one color"],
)
def test_training_labels_that_do_not_suffice(
    tmp_path: Path, recipe_file: Path, mask: NDArray[Any], classes: str | bytes, said: str
) -> None:
    make(tmp_path, "subfolders", "train", "val")
    (tmp_path / "classes.yaml").write_bytes(TEXTS[classes] if isinstance(classes, str) else classes)
    for file in files(tmp_path, "masks"):
        write(file, mask if file.parent.name == "train" else np.where(ids(0, 2, SIZE), ROAD, ROAD + mask.dtype.type(1)))
    with pytest.raises(UserError) as caught:
        train(tmp_path, recipe_file, [])
    assert str(caught.value).startswith(f"data set 'folder' at {tmp_path}, split 'train': ")
    assert said in str(caught.value)
    assert not check(tmp_path).ok


@pytest.mark.parametrize(("more", "read"), [(0, 4), (40, 33)])
def test_few_labelled_images(
    tmp_path: Path, recipe_file: Path, more: int, read: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The fourth is the only one, and of 44 not among the 32 that are read first: then further ones are, until it."""
    make(tmp_path, "subfolders", "train", "val")
    for number in range(more):
        scene(tmp_path, f"train/x{number}", number)
    for file in files(tmp_path, "masks/train"):
        if file.stem != "d":
            write(file, VOID)
    assert np.isfinite(train(tmp_path, recipe_file, []).loss)
    command = f"`gffnet data check folder --root {tmp_path}` lists them."
    assert f"{read - 1} of {read} label maps that were read have no labelled pixel. {command}" in caplog.text
    (finding,) = (finding for finding in check(tmp_path).findings if finding.code == "unlabelled-map")
    assert f"{3 + more} of {4 + more}" in finding.message


def test_nothing_to_score(tmp_path: Path, recipe_file: Path) -> None:
    make(tmp_path, "subfolders", "train", "val")
    for file in files(tmp_path, "masks/val"):
        write(file, VOID)
    with pytest.raises(UserError, match=r"split 'val': every pixel of 2 label maps is ignored .* is nothing to score"):
        train(tmp_path, recipe_file, [])
    assert not check(tmp_path).ok
