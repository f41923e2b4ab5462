"""Own data of other bands than red, green and blue, or of more than 8 bits: from a folder to predictions."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

import gffnet
from gffnet.app.session import open_session, reduce_image
from gffnet.app.uploads import read_upload
from gffnet.cli.main import main
from gffnet.data.cache import build_cache
from gffnet.data.colors import displayable, overlay
from gffnet.data.custom_transform import CustomTransform
from gffnet.data.dataset import Dataset
from gffnet.data.datasets import open_dataset
from gffnet.errors import UserError
from gffnet.models.gffnet import build_network
from gffnet.recipe import ModelRecipe, from_mapping, load_recipe
from gffnet.recipe.schema import IMAGENET_MEAN, IMAGENET_STD
from gffnet.training.run_folder import resume_point
from gffnet.training.train import fit_inputs, open_data, read_recipe, train
from tests.data.trees import ids, save

SMALL = [
    *("model.backbone.name=test_resnet", "model.backbone.weights=none", "model.channels=32", "training.workers=0"),
    *("training.batch=2", "training.iterations=2", "training.validate_every=2", "precision=float32"),
]
RECIPE = "folder/gffnet_r18"
SIZE = (48, 64)


def bands(seed: int, channels: int, highest: int, dtype: type) -> NDArray[Any]:
    """An image of so many bands, each brighter than the one before; the largest sample is `highest`."""
    rng = np.random.default_rng(seed)
    level = np.linspace(0.2, 0.8, channels) * highest
    values = rng.normal(level, 0.05 * highest, (*SIZE, channels)).clip(0, highest)
    values[0, 0] = highest
    return np.rint(values).astype(dtype)


def write(file: Path, values: NDArray[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".npy":
        np.save(file, values)
    elif file.suffix == ".tif":
        layout: dict[str, Any] = {"planarconfig": "contig"} if values.shape[2] > 1 else {}
        tifffile.imwrite(file, values.squeeze(), photometric="minisblack", **layout)
    else:
        Image.fromarray(values).save(file)
    return file


def tree(root: Path, channels: int, highest: int, dtype: type = np.uint16, suffix: str = ".tif") -> Path:
    for split, count in (("train", 4), ("val", 2)):
        for i in range(count):
            write(root / f"images/{split}/{i}{suffix}", bands(i + 10 * (split == "val"), channels, highest, dtype))
            save(root / f"masks/{split}/{i}.png", ids(i, 2, SIZE))
    (root / "classes.yaml").write_text("classes: [a, b]\n")
    return root


def inputs(root: Path, *overrides: str) -> tuple[ModelRecipe, Dataset]:
    """The network of a recipe as it is trained on a folder, and the training images as it takes them."""
    recipe, auto = read_recipe(RECIPE, [*SMALL, *overrides])
    train_set, val_set, _ = open_data(recipe, root)
    recipe, train_set, _ = fit_inputs(recipe, auto, train_set, val_set)
    return recipe.model, train_set


@pytest.mark.parametrize(
    ("channels", "highest", "dtype", "suffix", "white_level"),
    [
        (1, 900, np.uint16, ".tif", 1023),
        (2, 200, np.uint8, ".npy", None),
        (3, 60000, np.uint16, ".npy", 65535),
        (4, 3800, np.uint16, ".tif", 4095),
        (5, 255, np.int32, ".npy", 255),
        (16, 250, np.uint8, ".tif", None),
    ],
)
def test_channels_and_statistics_are_those_of_the_training_images(
    tmp_path: Path, channels: int, highest: int, dtype: type, suffix: str, white_level: int | None
) -> None:
    root = tree(tmp_path, channels, highest, dtype, suffix)
    model, dataset = inputs(root)
    in_channels = 3 if channels == 1 else channels
    levels = np.stack([bands(i, channels, highest, dtype) for i in range(4)]) * (255 / (white_level or 255))
    assert (model.backbone.in_channels, model.white_level) == (in_channels, white_level)
    assert model.mean == pytest.approx(np.broadcast_to(levels.mean((0, 1, 2)), in_channels), abs=1e-3)
    assert model.std == pytest.approx(np.broadcast_to(levels.std((0, 1, 2)), in_channels), abs=1e-3)
    build_cache(dataset, "train", root / "gffnet_cache", workers=1)
    cached = open_dataset("folder", root, "train").for_model(model)
    assert cached.cache is not None
    for i, expected in enumerate(levels):
        seen = dataset[i].image.permute(1, 2, 0).numpy()
        assert seen.dtype == (np.uint8 if white_level is None else np.float32)
        assert np.allclose(seen, np.broadcast_to(expected, seen.shape), rtol=1e-5)
        hit = cached.cache.read(cached, i)
        assert hit is not None
        assert torch.equal(hit.image, dataset[i].image)


def test_a_sample_above_the_white_level_is_clipped_and_one_that_is_given_is_kept(tmp_path: Path) -> None:
    root = tree(tmp_path, 4, 3800)
    model, dataset = inputs(root, "model.white_level=1900", "model.std=[9, 9, 9, 9]", "model.backbone.in_channels=4")
    assert (model.white_level, model.std) == (1900, (9,) * 4)
    expected = np.clip(bands(0, 4, 3800, np.uint16) / 1900, 0, 1) * 255
    assert np.allclose(dataset[0].image.permute(1, 2, 0), expected, rtol=1e-5)
    assert model.mean[3] == pytest.approx(255, abs=0.5)


def test_images_of_8_bits_and_three_channels_have_the_statistics_of_imagenet(tmp_path: Path) -> None:
    for suffix in (".png", ".tif", ".npy"):
        model, _ = inputs(tree(tmp_path / suffix, 3, 200, np.uint8, suffix))
        assert (model.mean, model.std, model.white_level) == (IMAGENET_MEAN, IMAGENET_STD, None)


def test_samples_that_are_all_alike_do_not_divide_by_zero(tmp_path: Path) -> None:
    root = tree(tmp_path, 4, 1000)
    for file in root.glob("images/*/*.tif"):
        write(file, np.broadcast_to(np.array([0, 7, 500, 1000], np.uint16), (*SIZE, 4)))
    assert inputs(root)[0].std == (1,) * 4


def test_alpha_that_is_dropped_does_not_decide_on_white(tmp_path: Path) -> None:
    root = tree(tmp_path, 4, 3800)
    alpha = np.full((*SIZE, 1), 65535, np.uint16)
    for i, file in enumerate(sorted(root.glob("images/*/*.tif"))):
        pixels = np.dstack([bands(i, 3, 3800, np.uint16), alpha])
        tifffile.imwrite(file, pixels, photometric="rgb", extrasamples=["unassalpha"])
    model, _ = inputs(root)
    assert (model.backbone.in_channels, model.white_level) == (3, 4095)
    assert 40 < min(model.mean) < max(model.mean) < 210


def test_four_bands_of_which_one_is_marked_as_alpha_are_rgb_unless_four_are_asked_for(tmp_path: Path) -> None:
    root = tree(tmp_path, 4, 3800)
    for i, file in enumerate(sorted(root.glob("images/*/*.tif"))):
        tifffile.imwrite(file, bands(i, 4, 3800, np.uint16), photometric="rgb", extrasamples=["unassalpha"])
    assert inputs(root)[0].backbone.in_channels == 3
    model, dataset = inputs(root, "model.backbone.in_channels=4")
    assert (len(model.mean), len(dataset[0].image)) == (4, 4)


def test_a_transform_of_ones_own_has_deep_images_as_floats(tmp_path: Path) -> None:
    _, dataset = inputs(tree(tmp_path, 4, 3800))
    mean, rng = (1.5,) * 4, np.random.default_rng(0)
    view = CustomTransform(lambda image, labels: (image.flip(-1), labels), (60, 80), mean, 2).view(dataset[0], rng)
    assert (view.image.dtype, view.image.shape) == (torch.float32, (4, 60, 80))
    assert set(view.image[:, view.labels == 255].unique().tolist()) >= {1.5}
    with pytest.raises(UserError, match=r"returned a uint8 image: it must be float32, in 0\.\.255"):
        CustomTransform(lambda image, labels: (image.byte(), labels), (60, 80), mean, 2).view(dataset[0], rng)


def test_dark_deep_images_are_not_taken_for_normalised_ones(recwarn: pytest.WarningsRecorder) -> None:
    for white_level in (65535, None):
        backbone = {"name": "test_resnet", "weights": "none"}
        model = from_mapping(ModelRecipe, {"backbone": backbone, "channels": 8, "white_level": white_level}, "tests")
        build_network(model, 2).eval()(torch.rand(1, 3, 64, 64))
        assert len(recwarn) == (white_level is None)


# A run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tree(tmp_path_factory.mktemp("channels") / "data", 4, 3800)


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    return train(RECIPE, data, data.parent / "run", overrides=SMALL, progress=False)


def test_a_run_predicts_and_evaluates_what_it_was_trained_on(data: Path, run: Path, tmp_path: Path) -> None:
    predictor, file = gffnet.load(run), data / "images/val/1.tif"
    assert predictor.config.model == load_recipe(run / "recipe.yaml").model
    assert len(predictor.config.model.mean) == 4
    pixels = bands(11, 4, 3800, np.uint16) * np.float32(255 / 4095)
    labels = predictor.predict(pixels)
    assert np.array_equal(predictor.predict(file), labels)
    command(f"predict {file} --model {run} --out {tmp_path}")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "labels/1.png")), labels)
    shown = overlay(displayable(pixels), labels, predictor.config.palette)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "overlay/1.png")), shown)
    assert np.array_equal(np.asarray(predictor.overlay(file)), shown)
    truth = [np.asarray(Image.open(data / f"masks/val/{i}.png")) for i in range(2)]
    right = [(predictor.predict(data / f"images/val/{i}.tif") == each)[each < 2] for i, each in enumerate(truth)]
    assert gffnet.evaluate(predictor, root=data).scores.pixel_accuracy == pytest.approx(np.concatenate(right).mean())


def test_figures_of_gates_and_comparisons(data: Path, run: Path, tmp_path: Path) -> None:
    file, truth = data / "images/val/1.tif", f"--dataset folder --root {data}"
    command(f"gates {file} --model {run} --out {tmp_path}/gates {truth}")
    command(f"compare {file} --models {run} {run}/best --names a b --panels --insets 0 --out {tmp_path}/two {truth}")
    assert (tmp_path / "gates/1/gates.png").is_file()
    image = np.asarray(Image.open(tmp_path / "two/1/image.png"))
    assert np.array_equal(image, displayable(gffnet.load(run).tensor(file).permute(1, 2, 0).numpy()))


def test_the_explorer_opens_an_uploaded_image(data: Path, run: Path) -> None:
    predictor, file = gffnet.load(run), data / "images/val/1.tif"
    image = read_upload(file.read_bytes(), 64, predictor.config.model)
    session = open_session(predictor, reduce_image(image, 64))
    assert np.array_equal(session.image, displayable(image))
    labels = predictor.predict(file, crop="none")
    assert np.array_equal(session.learned.labels, labels)
    assert reduce_image(image, 32).shape == (24, 32, 4)


def test_a_resumed_run_keeps_the_statistics_that_it_started_with(run: Path) -> None:
    recipe, auto = read_recipe(RECIPE, SMALL, resumed=run)
    assert (recipe, auto) == (load_recipe(run / "recipe.yaml"), [])
    wider, _ = read_recipe(RECIPE, [*SMALL, "model.backbone.in_channels=5"], resumed=run)
    with pytest.raises(UserError, match=r"holds a run of another recipe: it differs in model.backbone.in_channels"):
        resume_point(run, wider, resume=True)


def test_a_run_that_starts_from_another_has_its_statistics(data: Path, run: Path, tmp_path: Path) -> None:
    other = tree(tmp_path, 4, 2500)
    assert inputs(other, f"training.init_from={run}")[0].mean == load_recipe(run / "recipe.yaml").model.mean
    assert inputs(other)[0].mean != load_recipe(run / "recipe.yaml").model.mean


# What does not fit is one line, before anything is written


def command(line: str) -> int:
    return main(line.split())


MISFITS = [
    "train folder/gffnet_r18 --root {rgb} --out {out} --set model.backbone.in_channels=4",
    "train folder/gffnet_r18 --root {rgb} --plan --set model.backbone.in_channels=4",
    "evaluate --model {run} --dataset folder --root {rgb} --out {out}",
    "gates-ablation --model {run} --dataset folder --root {rgb} --out {out}",
    "predict {rgb}/images/train/0.png --model {run} --out {out}/predicted",
    "gates {rgb}/images/train/0.png --model {run} --out {out}",
    "compare {rgb}/images/train/0.png --models {run} {run}/best --names a b --out {out}",
]


@pytest.mark.parametrize("line", MISFITS, ids=lambda line: line.split()[0])
def test_images_of_other_bands_than_the_network_takes(
    run: Path, tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rgb, out = tree(tmp_path / "rgb", 3, 200, np.uint8, ".png"), tmp_path / "out"
    assert command(line.format(run=run, rgb=rgb, out=out)) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert re.match(rf"error: (image )?{rgb}/images/\w+/0.png:? has 3 bands, but the model takes 4: ", error)
    assert "--set model.backbone.in_channels=3" in error
    assert not list(out.rglob("*.png"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("", "val/1.tif has 5 bands, but the model takes 4: .*--set model.backbone.in_channels=5"),
        ("model.backbone.in_channels=4", "/3.tif has 5 bands, but the model takes 4: .* model.backbone.in_channels=5"),
        ("model.backbone.in_channels=3", "/0.tif has 4 bands, but the model takes 3: .* model.backbone.in_channels=4"),
        ("model.mean=[1, 2, 3]", "model.mean has 3 values, and image .*/.*.tif has . channels: .*in_channels=."),
    ],
)
def test_mixed_bands_and_statistics_of_other_channels(tmp_path: Path, options: str, message: str) -> None:
    root = tree(tmp_path, 4, 3800)
    write(root / f"images/{'train/3' if options else 'val/1'}.tif", bands(0, 5, 3800, np.uint16))
    with pytest.raises(UserError, match=message):
        inputs(root, *[options] * bool(options))


def test_floats_are_refused_until_their_white_level_is_given(tmp_path: Path) -> None:
    root = tree(tmp_path, 4, 1, np.float32)
    with pytest.raises(UserError, match=r"0\.tif: 32-bit float samples have no known white level .* model.white_"):
        inputs(root)
    model, dataset = inputs(root, "model.white_level=1")
    assert (model.white_level, round(float(dataset[0].image.max()), 3)) == (1, 255)
