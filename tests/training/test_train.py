"""Whole runs: what a run folder holds, `auto` values, overfitting, and several processes."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from gffnet.data.cache import build_cache
from gffnet.data.camvid import CamVid
from gffnet.data.datasets import open_dataset, open_files
from gffnet.errors import RunFailed, UserError
from gffnet.evaluation.evaluate import score_dataset
from gffnet.inference.precision import Precision
from gffnet.inference.predictor import load
from gffnet.metrics.confusion import ClassScores
from gffnet.recipe import AUTO_KEYS, INPUT_KEYS, DataSize, Recipe, load_recipe, recipe_from_mapping, resolve_auto
from gffnet.training.callbacks import read_history
from gffnet.training.optim import poly
from gffnet.training.run_folder import RECIPE
from gffnet.training.task import SegmentationTask
from gffnet.training.train import (
    SIZES_READ,
    Launch,
    data_size,
    find_launch,
    open_data,
    overfit_overrides,
    overfit_verdict,
    read_recipe,
    spread_subset,
    synchronize_norms,
    threads_of_processes,
    train,
)
from tests import tiny
from tests.data.trees import camvid_tree, folder_tree, ids, save
from tests.training.processes import Forked, free_port
from tests.training.test_resume import interrupt


def weights(run: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = load_file(run / "model/model.safetensors")
    return found


def same(a: Path, b: Path) -> bool:
    one, other = weights(a), weights(b)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_the_run_folder(tmp_path: Path, camvid: Path) -> None:
    recipe = tiny.recipe(tiny.GFFNET, validate_every=4)
    run = train(recipe, camvid, tmp_path / "run", name="tests/tiny", progress=False)
    assert recipe_from_mapping(yaml.safe_load((run / RECIPE).read_text()), "run") == recipe
    assert json.loads((run / "run.json").read_text())["recipe"] == "tests/tiny"
    lines = read_history(run / "history.jsonl")
    assert [line["iteration"] for line in lines if "miou" in line] == [4, 6]  # every fourth, and the last
    predictor = load(run, precision="float32")
    assert predictor.config.recipe == "tests/tiny"
    assert predictor.config.learned_from == open_dataset("camvid", camvid, "train")[0].labels.shape
    assert not any("auxiliary" in key for key in weights(run))
    scores = score_dataset(predictor, open_dataset("camvid", camvid, "val"), "camvid", "val", recipe.evaluation).scores
    assert scores.miou == lines[-1]["miou"]
    assert load(run / "best").config == predictor.config
    assert [path.name[:6] for path in (run / "tensorboard").iterdir()] == ["events"]


def test_the_history_of_a_run(tmp_path: Path, camvid: Path) -> None:
    """A line every ten iterations and at the end, with the rate of the poly schedule; one for every validation."""
    recipe = tiny.recipe(iterations=25, validate_every=8, learning_rate=0.02, power=0.9, new_layers_multiplier=10)
    lines = read_history(train(recipe, camvid, tmp_path, progress=False) / "history.jsonl")
    losses, scores = ([line for line in lines if key in line] for key in ("loss", "miou"))
    assert [line["iteration"] for line in losses] == [10, 20, 25]
    assert [line["iteration"] for line in scores] == [8, 16, 24, 25]
    assert [line["iteration"] for line in lines] == sorted(line["iteration"] for line in lines)
    assert [line["learning_rate"] for line in losses] == pytest.approx(
        [0.02 * (1 - i / 25) ** 0.9 for i in (10, 20, 25)]
    )
    for line in losses:
        assert 1 < line["loss"] < 10
        assert 1 < line["auxiliary_loss"] < 10
        assert line["images_per_second"] > 0
    for line in scores:
        known = [iou for iou in line["iou"] if iou is not None]
        assert len(line["iou"]) == 11
        assert line["miou"] == pytest.approx(sum(known) / len(known))
        assert 0 <= line["pixel_accuracy"] <= 1


def test_every_iteration_has_its_learning_rate(tmp_path: Path, camvid: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the optimiser's steps, after a warm-up: of the backbone, and ten times that of the new layers."""
    rates: list[list[float]] = []
    real = torch.optim.SGD.step

    def recording(self: torch.optim.SGD, closure: Any = None) -> Any:
        rates.append([group["lr"] for group in self.param_groups])
        return real(self, closure)

    recording.hooked = True  # type: ignore[attr-defined]  # as torch marks steps that it has wrapped
    monkeypatch.setattr(torch.optim.SGD, "step", recording)
    options: dict[str, Any] = {"learning_rate": 0.02, "power": 0.9, "new_layers_multiplier": 10, "warm_up": 3}
    train(tiny.recipe(validate_every=6, **options), camvid, tmp_path, progress=False)
    factors = [rise * poly(i, 6, 0.9) for i, rise in enumerate([1 / 3, 2 / 3, 1, 1, 1, 1])]
    assert rates == [pytest.approx([0.02 * factor, 0.2 * factor]) for factor in factors]


def test_the_record_of_a_resumed_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root, out = camvid_tree(tmp_path / "CamVid"), tmp_path / "run"
    interrupt(out, root, None, 3)
    camvid_tree(root, train=6)  # the data set grows meanwhile
    with caplog.at_level("WARNING", logger="gffnet"):
        train(tiny.recipe(), root, out, resume=True, progress=False)
    assert "it has 6 samples and had 5" in caplog.text
    record = json.loads((out / "run.json").read_text())
    assert record["data"]["splits"]["train"]["samples"] == 5
    first, second = record["sessions"]
    assert (first["from_iteration"], first["outcome"]) == (0, "failed: PowerCut")
    assert (second["from_iteration"], second["to_iteration"], second["outcome"]) == (2, 6, "finished")
    assert second["images_per_second"] > 0
    assert len(list((out / "tensorboard").iterdir())) == 2


def test_a_run_that_initialises_another_replaces_pretrained_weights(
    tmp_path: Path, camvid: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not even fetched."""
    pretrained = {**tiny.GFFNET, "backbone": {"name": "test_resnet", "weights": "imagenet"}}

    def unreachable(name: str) -> Path:
        raise UserError(f"{name} cannot be fetched")

    monkeypatch.setattr("gffnet.models.backbones.pretrained_file", unreachable)
    with pytest.raises(UserError, match="test_resnet cannot be fetched"):
        train(tiny.recipe(pretrained, iterations=1), camvid, tmp_path / "a", progress=False)
    # A learning rate of almost nothing leaves the loaded weights as they are.
    recipe = tiny.recipe(pretrained, iterations=1, init_from=str(whole), learning_rate=1e-30)
    run = train(recipe, camvid, tmp_path / "b", progress=False)
    old, new = weights(whole), weights(run)
    parts = "backbone.", "context."
    loaded = [key for key in old if key.startswith(parts) and not any(part in key for part in ("running", "num"))]
    assert len(loaded) > 20
    assert all(torch.allclose(old[key], new[key], atol=1e-12) for key in loaded)


@pytest.mark.slow
def test_a_dead_worker_is_reported_and_the_run_resumes_with_fewer(tmp_path: Path, camvid: Path, whole: Path) -> None:
    """In a process of its own: torch raises that a worker died wherever the training process happens to be.

    Where that is in a check of shapes, jaxtyping would take the error for a wrong shape.
    """
    recipe, out = tmp_path / "tiny.yaml", tmp_path / "dead"
    recipe.write_text(yaml.safe_dump(tiny.recipe(workers=1).to_mapping()))

    def prepare() -> None:
        jaxtyping.config.update("jaxtyping_disable", True)
        real, read = CamVid.read, []

        def die(self: CamVid, index: int) -> Any:
            read.append(index)
            if get_worker_info() and len(read) == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, index)

        pytest.MonkeyPatch().setattr(CamVid, "read", die)

    code, output = Forked(["train", recipe, "--root", camvid, "--out", out], tmp_path / "log", prepare).wait()
    assert code == 1, output
    assert output.strip().splitlines()[-1] == (
        "error: a process that loads data died: it was killed, or ran out of memory. Resume with fewer of them: "
        f"gffnet train --resume {out} --set training.workers=0."
    )
    assert same(train(tiny.recipe(workers=0), camvid, out, resume=True, progress=False), whole)


def test_a_cache_does_not_change_the_result(tmp_path: Path, camvid: Path) -> None:
    recipe = tiny.recipe(class_balance=0.5, iterations=2)
    run = train(recipe, camvid, tmp_path / "run", progress=False)
    for split in ("train", "val"):
        build_cache(open_files("camvid", camvid, split), split, tmp_path / "cache", workers=1)
    assert same(train(recipe, camvid, tmp_path / "cached", progress=False, cache=tmp_path / "cache"), run)


def test_impossible_options(tmp_path: Path, camvid: Path) -> None:
    half = recipe_from_mapping({**tiny.recipe().to_mapping(), "precision": "float16"}, "tests")
    for recipe, devices, message in (
        (tiny.recipe(loss={"class_weights": [1.0, 2.0]}), None, r"training\.loss\.class_weights"),
        (half, None, r"'float16' trains on NVIDIA GPUs only\. Here, set precision to bfloat16"),
        (tiny.recipe(), 3, r"training\.batch 2 cannot be divided evenly among 3 processes"),
    ):
        with pytest.raises(UserError, match=message):
            train(recipe, camvid, tmp_path / "run", devices=devices, progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_on_a_gpu(precision: str, tmp_path: Path, camvid: Path) -> None:
    """In every precision, interrupted and resumed: losses are close to those of an uninterrupted run."""
    mapping = tiny.recipe(tiny.GFFNET, iterations=12, clip_gradients=5).to_mapping()
    recipe = recipe_from_mapping({**mapping, "precision": precision}, "x")
    one = train(recipe, camvid, tmp_path / "whole", devices=1, progress=False)
    interrupt(tmp_path / "broken", camvid, recipe, 5)
    other = train(recipe, camvid, tmp_path / "broken", resume=True, devices=1, progress=False)
    losses = [[line["loss"] for line in read_history(run / "history.jsonl") if "loss" in line] for run in (one, other)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


# The recipe and its `auto` values


OWN = "folder/gffnet_r18"


def sized_tree(root: Path, sizes: list[tuple[int, int]], orientation: int = 1) -> Path:
    """Images of given heights and widths for training, and two others for validation."""
    for split, there in (("train", sizes), ("val", [(96, 96)] * 2)):
        for i, (height, width) in enumerate(there):
            save(root / f"masks/{split}/{i:04d}.png", np.indices((height, width), np.uint8)[1] % 2)
            file = save(root / f"images/{split}/{i:04d}.png", np.zeros((height, width, 3), np.uint8))
            exif = Image.Exif()
            exif[0x0112] = orientation
            Image.open(file).save(file, exif=exif)
    (root / "classes.yaml").write_text("classes: [road, car]\n")
    return root


def size_of(root: Path) -> DataSize:
    return data_size(open_files("folder", root, "train"))


def test_the_size_of_the_data_is_the_median(tmp_path: Path) -> None:
    sizes = [(90, 70), (30, 50), (40, 60), (20, 300)]
    assert size_of(sized_tree(tmp_path / "a", sizes)) == (4, 30, 60)
    assert size_of(sized_tree(tmp_path / "b", [(30, 50)])) == (1, 30, 50)
    assert size_of(sized_tree(tmp_path / "c", [(30, 50)], orientation=6)) == (1, 50, 30)  # on its side


def test_evenly_spaced_images_of_a_large_data_set_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    root = folder_tree(tmp_path, train=250)
    monkeypatch.setattr("gffnet.data.dataset.read_header", read.append)
    dataset = open_files("folder", root, "train")
    data_size(dataset)
    assert SIZES_READ <= len(read) < 2 * SIZES_READ
    images = [image for image, _ in dataset.files]
    places = [images.index(file) for file in read]
    assert places[0] == 0
    assert {after - before for before, after in pairwise(places)} == {2}


def test_a_split_of_which_no_image_can_be_read(tmp_path: Path) -> None:
    root = sized_tree(tmp_path, [(30, 50)])
    file = root / "images/train/0000.png"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(UserError, match=r"0000\.png"):
        size_of(root)


def test_auto_values_follow_from_the_data_which_are_opened_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = sized_tree(tmp_path / "data", [(30, 50)] * 3)
    opened: list[str] = []

    def opening(name: str, root: Path, split: str, cache: Path | None = None) -> Any:
        opened.append(split)
        return open_dataset(name, root, split, cache)

    monkeypatch.setattr("gffnet.training.train.open_dataset", opening)
    small = ["training.batch=2", "training.iterations=2", "model.backbone={name: test_resnet, weights: none}"]
    with caplog.at_level("INFO", logger="gffnet"):
        run = train(OWN, root, tmp_path / "run", overrides=[*small, "training.workers=0"], progress=False)
    assert opened == ["train", "val"]
    assert (
        "auto values for 3 images of 30x50: training.crop 32x64, training.validate_every 1, evaluation.crop 32x64"
        in (caplog.text)
    )
    recipe = load_recipe(run / RECIPE)
    assert recipe == load_recipe(OWN, [*small, "training.workers=0"], DataSize(3, 30, 50))


def test_a_resumed_run_keeps_its_auto_values(tmp_path: Path) -> None:
    start, auto = read_recipe(OWN, [])
    assert auto == [*AUTO_KEYS, *INPUT_KEYS]
    start = resolve_auto(start, auto, DataSize(2, 30, 50))
    (tmp_path / RECIPE).write_text(yaml.safe_dump(start.to_mapping()))
    assert read_recipe(OWN, [], resumed=tmp_path) == (start, [])
    changed, auto = read_recipe(OWN, ["training.batch=3", "training.iterations=9"], resumed=tmp_path)
    assert (changed.training.batch, changed.training.iterations, changed.training.crop) == (3, 9, (32, 64))
    assert auto == []
    assert read_recipe("camvid/gffnet_r18", []) == (load_recipe("camvid/gffnet_r18"), [*INPUT_KEYS])


# Overfitting


def test_overfitting_trains_and_validates_on_the_same_images(
    tmp_path: Path, camvid: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny.recipe(jitter=7).to_mapping()))
    overrides = ["training.iterations=2", "training.validate_every=2"]
    with caplog.at_level("INFO", logger="gffnet"):
        run = train(file, camvid, tmp_path / "run", overrides=overrides, overfit=4, progress=False)
    used = load_recipe(run / RECIPE).training
    assert (used.jitter, used.batch, used.iterations) == (0, 2, 2)
    score = [line["miou"] for line in read_history(run / "history.jsonl") if "miou" in line][-1]
    assert f"mIoU {score:.1%} on the 4 training images" in caplog.text
    splits = json.loads((run / "run.json").read_text())["data"]["splits"]
    assert splits["train"] == {**splits["val"], "split": "train"}
    assert splits["val"]["samples"] == 4


@pytest.mark.parametrize(
    ("device", "devices", "given"), [("cpu", 2, None), ("cpu", 2, "3"), ("cpu", 1, None), ("cuda", 2, None)]
)
def test_processes_of_a_run_have_as_many_threads(
    device: str, devices: int, given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only while it trains: what comes after in the same process divides the cores anew."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    started = device == "cpu" and devices == 2 and given is None
    with threads_of_processes(Launch(torch.device(device), devices=devices)):
        assert os.environ.get("OMP_NUM_THREADS") == (str(torch.get_num_threads()) if started else given)
    assert os.environ.get("OMP_NUM_THREADS") == given


@pytest.mark.parametrize(
    ("train_split", "val_split", "said"),
    [
        ("train", "val", ""),
        ("without_D1", "only_D1", ""),
        ("train+val", "val", "3 of the 3 images of split 'val' are in split 'train+val', too, such as {root}/val/"),
        (
            "train",
            "without_D1",
            "2 of the 5 images of split 'without_D1' are in split 'train', too, such as {root}/train/",
        ),
    ],
)
def test_images_that_are_trained_and_validated_on_are_warned_of(
    train_split: str, val_split: str, said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = camvid_tree(tmp_path, listed=False)
    for file in sorted(root.glob("*/*.png")):  # drive D1 has three frames of train, D2 the others
        drive = "D1" if file.stem in {"train_000", "train_001", "train_002"} else "D2"
        file.rename(file.with_name(f"{drive}_{file.stem[-3:]:0>5}.png"))
    recipe = tiny.recipe()
    data = dataclasses.replace(recipe.data, train_split=train_split, val_split=val_split)
    open_data(dataclasses.replace(recipe, data=data), root)
    assert len(caplog.messages) == bool(said)
    assert all(message.startswith(said.format(root=root)) for message in caplog.messages)


def test_overfitting_turns_augmentation_off_and_overrides_win() -> None:
    recipe, _ = read_recipe("camvid/gffnet_r18", ["training.iterations=7"], overfit=4)
    training = recipe.training
    assert (training.scales, training.jitter, training.flip, training.class_balance) == ((1.0, 1.0), 0, False, 0)
    assert (training.iterations, training.batch, recipe.model.dropout) == (7, 4, 0)
    plain = load_recipe("camvid/gffnet_r18")
    assert (training.optimizer, training.learning_rate) == (plain.training.optimizer, plain.training.learning_rate)
    assert read_recipe("camvid/gffnet_r18", overfit=20)[0].training.batch == plain.training.batch < 20
    warmed, _ = read_recipe("camvid/long/gffnet_r18", ["training.iterations=7"], overfit=4)
    assert (load_recipe("camvid/long/gffnet_r18").training.warm_up, warmed.training.warm_up) == (200, 0)


@pytest.mark.parametrize("images", [0, -3])
def test_no_image_to_overfit(images: int) -> None:
    with pytest.raises(UserError, match=rf"--overfit {images}: the number of images must be 1 or more"):
        overfit_overrides(images)


def test_the_images_to_overfit_are_spread_over_the_split(camvid: Path) -> None:
    dataset = open_dataset("camvid", camvid, "train")
    subset = spread_subset(dataset, 2)
    names = [dataset.name(i) for i in range(len(dataset))]
    assert [subset.name(i) for i in range(len(subset))] == [names[0], names[len(names) // 2]]
    assert subset[1].name == names[len(names) // 2]
    assert len(spread_subset(dataset, len(dataset))) == len(dataset)
    with pytest.raises(UserError, match=rf"--overfit 99: the training split has {len(dataset)} images"):
        spread_subset(dataset, 99)


def test_the_verdict_of_overfitting() -> None:
    classes = ("road", "sky", "pole", "sign", "car")
    low = ClassScores(0.31, 0.5, (0.9, None, 0.1, 0.2, 0.04), (), 1)
    good = overfit_verdict(ClassScores(0.97, 1.0, (), (), 1), (), 4, Path("run"))
    assert good == "mIoU 97.0% on the 4 training images: data, labels and network fit each other."
    bad = overfit_verdict(low, classes, 1, Path("run"))
    assert bad.startswith("mIoU 31.0% on the 1 training image, where 90% is expected; ")
    assert "; lowest: car 4.0%, pole 10.0%, sign 20.0%. If the loss in run still falls" in bad
    assert "gffnet data check" in bad


# The processes of a run


CPU, CUDA = torch.device("cpu"), torch.device("cuda")
TORCHRUN_JOB = {
    **{"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3"},
    **{"RANK": "4", "LOCAL_RANK": "1"},
}
SLURM_JOB = {"SLURM_NTASKS": "8", "SLURM_NNODES": "2", "SLURM_PROCID": "5", "SLURM_JOB_NAME": "gff"}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str], int], None]:
    """A function that sets the environment of a process and the number of GPUs."""

    def launch(environment: dict[str, str], gpus: int) -> None:
        for name in {*TORCHRUN_JOB, *SLURM_JOB}:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)

    return launch


@pytest.mark.parametrize(
    ("environment", "gpus", "devices", "wanted"),
    [
        ({}, 0, None, Launch(CPU, 1, 1, 0, "gffnet")),
        ({}, 0, 2, Launch(CPU, 2, 1, 0, "gffnet")),
        ({"LOCAL_RANK": "1"}, 0, 2, Launch(CPU, 2, 1, 1, "gffnet")),  # started by the first process
        ({}, 4, None, Launch(CUDA, 4, 1, 0, "gffnet")),
        ({}, 4, 2, Launch(CUDA, 2, 1, 0, "gffnet")),
        (TORCHRUN_JOB, 0, None, Launch(CPU, 3, 2, 4, "torchrun")),
        (TORCHRUN_JOB, 0, 3, Launch(CPU, 3, 2, 4, "torchrun")),
        (SLURM_JOB, 0, None, Launch(CPU, 4, 2, 5, "SLURM")),
        ({**SLURM_JOB, "SLURM_JOB_NAME": "interactive"}, 0, None, Launch(CPU)),  # a shell in a job
    ],
)
def test_the_processes_follow_from_the_environment(
    environment: dict[str, str], gpus: int, devices: int | None, wanted: Launch, launched: Any
) -> None:
    launched(environment, gpus)
    assert find_launch(devices) == wanted
    assert wanted.world_size == wanted.devices * wanted.nodes


@pytest.mark.parametrize(
    ("environment", "devices", "message"),
    [
        ({}, 8, r"--devices 8: this machine has 4 GPUs\. Take at most that many\."),
        ({}, 0, r"--devices 0: it must be the number of devices that train, 1 or more"),
        (TORCHRUN_JOB, 2, r"--devices 2: torchrun started 3 on this node\. Leave --devices out\. .*per-node 2\."),
        (SLURM_JOB, 2, r"--devices 2: SLURM started 4 on this node\. Leave --devices out\. .*--ntasks-per-node 2\."),
    ],
)
def test_impossible_numbers_of_devices(environment: dict[str, str], devices: int, message: str, launched: Any) -> None:
    launched(environment, 4)
    with pytest.raises(UserError, match=message):
        find_launch(devices)


@given(batch=st.integers(1, 64), devices=st.integers(1, 8), nodes=st.integers(1, 4))
def test_a_batch_is_divided_evenly_or_not_at_all(batch: int, devices: int, nodes: int) -> None:
    launch = Launch(CPU, devices, nodes)
    if batch % (devices * nodes) == 0:
        assert launch.split(batch) * launch.world_size == batch
        return
    with pytest.raises(UserError, match=rf"training\.batch {batch} cannot be divided evenly") as caught:
        launch.split(batch)
    named = int(str(caught.value).rsplit(" ", 1)[1].rstrip("."))
    assert batch % named == 0
    assert 1 <= named < launch.world_size


TOLERANCE = 2e-5
"""Between the losses of one process and of several, relative: float32 sums in another order."""


FROZEN: dict[str, Any] = {
    "freeze_norms": True,
    "batch": 4,
    "learning_rate": 1e-3,
    "iterations": 12,
    "validate_every": 6,
    "init": "all",
}
"""Normalisation that does not see the batch, so that it may be split."""


def frozen_recipe(**training: Any) -> Recipe:
    return tiny.recipe({**tiny.GFFNET, "dropout": 0.0}, **{**FROZEN, **training})


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, camvid: Path) -> str:
    """A run to initialise from: frozen normalisation needs statistics that fit the weights."""
    first = tiny.recipe({**tiny.GFFNET, "dropout": 0.0}, iterations=4, validate_every=4)
    return str(train(first, camvid, tmp_path_factory.mktemp("start") / "run", progress=False))


OneProcess = Callable[[int], tuple[Path, Path]]


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory, start: str) -> OneProcess:
    """A data set with a number of validation images, and the run of one process on it."""

    @cache
    def run(images: int) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("one")
        root = camvid_tree(folder / "CamVid", val=images)
        return root, train(frozen_recipe(init_from=start), root, folder / "run", progress=False)

    return run


def same_run(one: Path, two: Path) -> None:
    """The same events, losses within the tolerance, weights that are close."""
    lines = [read_history(run / "history.jsonl") for run in (one, two)]
    assert [line["iteration"] for line in lines[0]] == [line["iteration"] for line in lines[1]]
    for a, b in zip(*lines, strict=True):
        if "loss" in a:
            assert (a["loss"], a["auxiliary_loss"]) == pytest.approx((b["loss"], b["auxiliary_loss"]), rel=TOLERANCE)
        else:  # a pixel on the edge may fall to the other side
            assert a["miou"] == pytest.approx(b["miou"], abs=5e-3)
    before, after = (load_file(run / "model/model.safetensors") for run in (one, two))
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.allclose(value, after[name], rtol=1e-3, atol=1e-5), name


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_micro_batches_are_one_batch(size: int, tmp_path: Path, start: str, one_process: OneProcess) -> None:
    """In one process: 1 image, or 3 and the remaining 1."""
    root, run = one_process(5)
    same_run(run, train(frozen_recipe(init_from=start, device_batch=size), root, tmp_path, progress=False))


COUNT = """
import sys
from gffnet.cli.main import main
from tests.training.test_train import count
count()
sys.exit(main(sys.argv[1:]))
"""


def count() -> None:
    """Let every process write down what a validation has counted."""
    end = SegmentationTask.on_validation_epoch_end

    def counted(self: SegmentationTask) -> None:
        end(self)
        assert self._confusion is not None
        file = Path(self.trainer.default_root_dir).with_name(f"counted_{self.global_rank}.json")
        file.write_text(json.dumps(self._confusion.counts.tolist()))

    pytest.MonkeyPatch().setattr(SegmentationTask, "on_validation_epoch_end", counted)


def words(folder: Path, root: Path, start: str, **training: Any) -> list[str]:
    """The command that trains in `folder`/two."""
    file = folder / "two.yaml"
    file.write_text(yaml.safe_dump(frozen_recipe(init_from=start, **training).to_mapping()))
    return ["train", str(file), "--root", str(root), "--out", str(folder / "two")]


def check(folder: Path, one: Path, images: int) -> None:
    """The run of two processes is that of one.

    Every labelled pixel of every validation image was counted once, and both processes know it.
    """
    same_run(one, folder / "two")
    labels = torch.cat([torch.from_numpy(ids(i, 12)).flatten() for i in range(images)])
    wanted = torch.bincount(labels, minlength=12)[:11]
    for rank in (0, 1):
        counted = torch.tensor(json.loads((folder / f"counted_{rank}.json").read_text()))
        assert torch.equal(counted.sum(1), wanted)


@pytest.mark.slow  # that of SLURM is nearly the same
def test_two_processes_learn_what_one_does(tmp_path: Path, start: str, one_process: OneProcess) -> None:
    """Started by the first of them; five images to validate on, which two do not divide."""
    root, one = one_process(5)
    script = tmp_path / "count.py"
    script.write_text(COUNT)
    command = [sys.executable, str(script), *words(tmp_path, root, start), "--devices", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    check(tmp_path, one, 5)
    record = json.loads((tmp_path / "two/run.json").read_text())
    assert (record["sessions"][0]["processes"], record["sessions"][0]["outcome"]) == (2, "finished")


SLURM = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "1",
    "SLURM_NODEID": "0",
    "SLURM_JOB_ID": "17",
    "SLURM_JOB_NAME": "gff",
    "SLURM_NODELIST": "localhost",
}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1", "LOCAL_RANK": "0"}


def two_processes(
    launcher: dict[str, str], ranks: tuple[str, str], start: Callable[[int, dict[str, str]], Forked]
) -> list[tuple[int | None, str]]:
    """The exit codes and outputs of two processes, started by rank in the environment that a launcher makes."""
    place = {**launcher, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [start(i, {**place, **dict.fromkeys(ranks, str(i))}) for i in range(2)]
    return [process.wait() for process in processes]


@pytest.mark.parametrize(
    ("launcher", "ranks", "images", "training"),
    [
        (SLURM, ("SLURM_PROCID", "SLURM_LOCALID"), 5, {}),
        pytest.param(TORCHRUN, ("RANK", "GROUP_RANK"), 1, {"device_batch": 1}, marks=pytest.mark.slow),
    ],
    ids=["SLURM", "torchrun on two nodes"],
)
def test_two_launched_processes_learn_what_one_does(
    launcher: dict[str, str],
    ranks: tuple[str, str],
    images: int,
    training: dict[str, Any],
    tmp_path: Path,
    start: str,
    one_process: OneProcess,
) -> None:
    """In the environment that the launcher makes. The second process may have no image to validate on."""
    root, one = one_process(images)
    command = words(tmp_path, root, start, **training)
    ends = two_processes(launcher, ranks, lambda i, place: Forked(command, tmp_path / f"log {i}", count, place))
    assert [code for code, _ in ends] == [0, 0], ends
    check(tmp_path, one, images)


class FailsOnOneRank(SegmentationTask):
    """A training step of the user's own: the loss is 1 on the first rank and 2 on the second, and there NaN at last."""

    def training_step(self, batch: Any, index: int) -> Tensor:
        failing = (self.global_rank, self.global_step) == (1, 10)
        return self(batch.image).mean() * 0 + (math.nan if failing else 1.0 + self.global_rank)


def train_until_it_fails(arguments: list[str]) -> int:
    root, out = map(Path, arguments)
    recipe = tiny.recipe(iterations=12, validate_every=12, checkpoint_every=1)
    with pytest.raises(RunFailed, match=r"the loss of iteration 11 is not finite .* Its images: \w+, \w+\. "):
        train(recipe, root, out, task=FailsOnOneRank, progress=False)
    return 0


def test_a_loss_that_is_not_finite_on_one_rank_stops_all(tmp_path: Path, camvid: Path) -> None:
    """That of a training step of the user's own, which is checked and recorded as the mean over the ranks."""
    run = tmp_path / "run"
    ends = two_processes(
        SLURM,
        ("SLURM_PROCID", "SLURM_LOCALID"),
        lambda i, place: Forked([camvid, run], tmp_path / f"log {i}", environment=place, program=train_until_it_fails),
    )
    assert [code for code, _ in ends] == [0, 0], ends
    assert [(line["iteration"], line["loss"]) for line in read_history(run / "history.jsonl")] == [(10, 1.5)]


def norms(launch: Launch, **training: Any) -> set[type]:
    """The kinds of batch normalisation that a task has on such processes."""
    of = tiny.recipe(tiny.GFFNET, **training)
    precision = Precision(torch.float32, "for tests")
    task = SegmentationTask(tiny.network(of), tiny.config(of), of.training, precision, 0)
    synchronize_norms(task, launch)
    return {type(module) for module in task.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}


def test_norms_are_synchronised_on_gpus_only() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert norms(Launch(cuda, 2)) == {nn.SyncBatchNorm}
    for launch in (Launch(cuda), Launch(cpu, 2), Launch(cpu)):
        assert nn.SyncBatchNorm not in norms(launch)
    assert nn.SyncBatchNorm not in norms(Launch(cuda, 2), freeze_norms=True)
