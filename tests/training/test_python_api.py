"""`gffnet.train` and `gffnet.evaluate` with data, loss, transform and task of the user's own."""

import dataclasses
import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Subset
from torchvision.transforms import v2

import gffnet
from gffnet.data.camvid import CamVid
from gffnet.data.map_style import as_dataset
from gffnet.errors import RunFailed, UserError
from gffnet.recipe import Recipe
from gffnet.training.callbacks import read_history
from gffnet.training.data import check_pickling
from gffnet.training.task import SegmentationTask
from gffnet.training.train import check_labels, check_loss, default_out, train
from tests import tiny
from tests.training.test_resume import PowerCut, history

CLASSES = ["ground", "square"]
FROZEN: dict[str, Any] = {"model": {**tiny.GFFNET, "dropout": 0.0}, "freeze_norms": True, "learning_rate": 1e-3}


def of_channels(channels: int, **training: Any) -> Recipe:
    backbone = {"name": "test_resnet", "weights": "none", "in_channels": channels}
    return tiny.recipe({"backbone": backbone, "mean": [120.0] * channels, "std": [60.0] * channels}, **training)


class Shapes:
    """Bright squares (1) on a dark ground (0), as pairs of an array and a tensor; two rows are ignored."""

    def __init__(self, count: int = 6) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rng = np.random.default_rng(index)
        image = rng.integers(0, 90, (40, 56, 3), dtype=np.uint8)
        labels = np.zeros((40, 56), np.int64)
        top, left = rng.integers(0, 20, 2)
        image[top : top + 16, left : left + 16] += 150
        labels[top : top + 16, left : left + 16] = 1
        labels[:2] = -1
        return image, torch.from_numpy(labels)


def fit(out: Path, recipe: Recipe | None = None, **options: Any) -> Path:
    options = {"train_data": Shapes(), "val_data": Shapes(2), "classes": CLASSES, **options}
    return train(recipe or tiny.recipe(), out=out, progress=False, **options)


def sha(run: Path, name: str = "model") -> str:
    return hashlib.sha256((run / name / "model.safetensors").read_bytes()).hexdigest()


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_history(run / "history.jsonl") if "loss" in line]


def python_of(run: Path) -> dict[str, str]:
    record: dict[str, str] = json.loads((run / "run.json").read_text())["python"]
    return record


# Data


LEARNS = tiny.recipe(
    {**tiny.PSPNET, "channels": 256},
    **{"iterations": 40, "validate_every": 40, "optimizer": "adamw", "learning_rate": 1e-3},
    new_layers_multiplier=1.0,
)


def test_own_data_train_a_model_that_scores_the_same_afterwards(tmp_path: Path) -> None:
    run = fit(tmp_path / "run", LEARNS)
    assert python_of(run) == {
        "train_data": "tests.training.test_python_api.Shapes, 6 samples",
        "val_data": "tests.training.test_python_api.Shapes, 2 samples",
    }
    assert json.loads((run / "run.json").read_text())["data"]["name"] == "Shapes"
    score = read_history(run / "history.jsonl")[-1]["miou"]
    assert score > 0.55  # 0.44 where all is ground
    predictor = gffnet.load(run)
    assert (predictor.config.classes, predictor.config.dataset) == (tuple(CLASSES), "Shapes")
    result = gffnet.evaluate(run, Shapes(2), out=tmp_path / "scores", precision="float32")
    assert result.scores.miou == pytest.approx(score)
    assert result.scores.protocol["dataset"] == "Shapes"
    assert json.loads((tmp_path / "scores/scores.json").read_text())["miou"] == result.scores.miou
    assert not (tmp_path / "scores/scored").exists()
    labels, found = zip(*((Shapes()[i][1].numpy(), predictor.predict(Shapes()[i][0])) for i in (0, 1)), strict=True)
    known = np.stack(labels) >= 0
    assert result.scores.pixel_accuracy == pytest.approx((np.stack(found) == labels)[known].mean(), abs=2e-3)


@pytest.mark.slow
def test_a_part_of_a_gffnet_data_set_is_that_of_its_files(tmp_path: Path, camvid: Path) -> None:
    """The same run by recipe, with the data set as an object, and with all of it as a `Subset`."""
    by_name = train(tiny.recipe(), camvid, tmp_path / "a", progress=False)
    sets = CamVid(camvid, "train"), CamVid(camvid, "val")
    whole = train(tiny.recipe(), out=tmp_path / "b", train_data=sets[0], val_data=sets[1], progress=False)
    parts = [Subset(Subset(part, range(len(part))), list(range(len(part)))) for part in sets]
    subset = train(tiny.recipe(), out=tmp_path / "c", train_data=parts[0], val_data=parts[1], progress=False)
    assert sha(by_name) == sha(whole) == sha(subset)
    splits = [json.loads((run / "run.json").read_text())["data"] for run in (by_name, whole, subset)]
    assert splits[0] == splits[1] == splits[2]


def test_own_data_count_classes_balance_overfit_and_resolve_auto_values(tmp_path: Path) -> None:
    recipe = tiny.recipe(class_balance=0.5, loss={"class_weighting": "enet"}, iterations=2, workers=1)
    assert losses(fit(tmp_path / "a", recipe))
    run = fit(tmp_path / "b", overfit=2, val_data=None, overrides=["training.iterations=1"])
    record = json.loads((run / "run.json").read_text())
    assert {part["samples"] for part in record["data"]["splits"].values()} == {2}
    small = ["training.iterations=1", "model.backbone={name: test_resnet, weights: none}", "training.workers=0"]
    run = fit(tmp_path / "c", "folder/gffnet_r18", overrides=[*small, "training.batch=2"])  # type: ignore[arg-type]
    assert gffnet.load_recipe(run / "recipe.yaml").training.crop == (64, 64)


def test_own_data_of_one_and_of_four_channels(tmp_path: Path) -> None:
    for channels in (1, 4):
        data = [(torch.randint(0, 256, (channels, 40, 56)).byte(), torch.randint(0, 2, (40, 56))) for _ in range(3)]
        recipe = of_channels(channels, iterations=1, validate_every=1)
        run = fit(tmp_path / str(channels), recipe, train_data=data, val_data=data)
        assert gffnet.load(run).predict(data[0][0]).shape == (40, 56)


def refused(tmp_path: Path, message: str, **options: Any) -> None:
    """Before anything is written."""
    with pytest.raises(UserError, match=message):
        fit(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_data": None}, "val_data is missing: .*random_split"),
        ({"train_data": None}, "val_data is given, but not train_data"),
        ({"train_data": None, "val_data": None}, "classes is given, but not train_data"),
        ({"root": "x"}, "root 'x' is the folder of the recipe's data set"),
        ({"cache": "x"}, "cache 'x' is a cache of the recipe's data set, which train_data replaces: leave it out"),
        ({"classes": 255}, "classes: there are 255; allowed are 1 to 254"),
        ({"classes": None}, r"classes: train_data \(.*Shapes\) does not say"),
        ({"classes": ["ground"]}, r"train_data\[0\]: label 1 at row \d+, column \d+ is no class: allowed are 0 to 0"),
        ({"recipe": of_channels(4)},
         r"train_data\[0\]: the image is an array \(40, 56, 3\).* has 3 channels, and the network takes 4: set"),
        ({"transform": 5}, "transform 5 cannot be called"),
        ({"task": nn.Linear}, "task torch.nn.modules.linear.Linear is no subclass of gffnet.SegmentationTask"),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)  # fmt: skip
def test_what_is_not_as_it_must_be_is_refused_before_training(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    refused(tmp_path, message, **options)


def test_a_network_of_other_channels_than_the_files_have_is_refused(tmp_path: Path, camvid: Path) -> None:
    with pytest.raises(UserError, match=r"\.png has 3 bands, but the model takes 4: .*in_channels=3"):
        train(of_channels(4), camvid, tmp_path / "run", progress=False)


def test_the_run_folder_has_the_name_of_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_out("camvid/gffnet_r18") == Path("runs/camvid/gffnet_r18")
    assert default_out("mine/own.yaml", 4) == Path("runs/own_overfit_4")
    monkeypatch.chdir(tmp_path)
    options = {"train_data": Shapes(2), "val_data": Shapes(1), "classes": 2, "progress": False}
    run = train(tiny.recipe(), overrides=["training.iterations=1"], name="mine", **options)
    assert run == Path("runs/mine")
    assert gffnet.load(run).config.classes == ("class_0", "class_1")
    assert gffnet.load_recipe(run / "recipe.yaml").training.iterations == 1


# Transforms


def noise(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """A transform that draws from all three generators."""
    level = int(torch.randint(0, 20, ())) + np.random.randint(20) + random.randrange(20)
    return (image // 2 + level).clamp(0, 255), labels


SEVERAL = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomCrop((30, 30), pad_if_needed=True), noise])


@pytest.mark.slow
def test_a_random_transform_depends_on_neither_workers_nor_interruptions(tmp_path: Path) -> None:
    one = fit(tmp_path / "one", transform=SEVERAL)
    two = fit(tmp_path / "two", tiny.recipe(workers=2), transform=SEVERAL)
    assert sha(one) == sha(two) != sha(fit(tmp_path / "none"))
    assert python_of(one)["transform"] == "torchvision.transforms.v2._container.Compose"


def test_overfitting_leaves_a_transform_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    short: dict[str, Any] = {"overfit": 2, "val_data": None, "overrides": ["training.iterations=2"]}
    run = fit(tmp_path / "a", transform=SEVERAL, **short)
    assert "Compose is left out: images are overfitted without augmentation" in caplog.text
    assert "transform" not in python_of(run)
    assert losses(run) == losses(fit(tmp_path / "b", **short))


def test_what_other_processes_cannot_be_sent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(Shapes):
        pass

    def local(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return image, labels

    recipe = tiny.recipe(workers=1)
    with monkeypatch.context() as patch:
        patch.setattr("multiprocessing.get_start_method", lambda: "spawn")
        refused(
            tmp_path, r"train_data \(.*Local\) cannot be pickled.*training.workers=0", recipe=recipe, train_data=Local()
        )
        refused(
            tmp_path, r"transform \(.*local\) cannot be pickled.*training.workers=0", recipe=recipe, transform=local
        )
        check_pickling(0, {"transform": local})
        check_pickling(1, {"transform": SEVERAL, "train_data": Subset(Shapes(), [0])})  # type: ignore[arg-type]
    check_pickling(1, {"transform": local})  # a copy of this process


# Losses


class Weighted(nn.Module):
    """Cross-entropy with a temperature that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.tensor(2.0))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits / self.temperature, labels, ignore_index=255)


def test_cross_entropy_as_a_loss_of_ones_own_is_that_of_the_recipe(tmp_path: Path) -> None:
    """In micro-batches, too, of which one has no labelled pixel."""
    data = [Shapes()[i] for i in range(3)]
    data[1] = (data[1][0], torch.full_like(data[1][1], 255))
    for name, options in (("whole", {}), ("parts", {"device_batch": 1})):
        recipe = tiny.recipe(**FROZEN, batch=3, iterations=3, **options)
        own = fit(tmp_path / f"{name} own", recipe, train_data=data, loss=nn.CrossEntropyLoss(ignore_index=255))
        assert losses(own) == pytest.approx(losses(fit(tmp_path / name, recipe, train_data=data)), rel=1e-4)
    assert python_of(own)["loss"] == "torch.nn.modules.loss.CrossEntropyLoss"


def test_parameters_of_a_loss_are_trained_and_resumed(tmp_path: Path) -> None:
    run = fit(tmp_path, tiny.recipe(iterations=3), loss=Weighted())
    state = torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert state["criterion.function.temperature"] != 2.0
    assert not any("criterion" in name for name in gffnet.load(run).network.state_dict())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (nn.CrossEntropyLoss(), r"CrossEntropyLoss failed .* must ignore the label 255, such as torch\.nn\.Cross"),
        (nn.CrossEntropyLoss, "is no function and no module"),
        (lambda logits, labels: F.cross_entropy(logits, labels, ignore_index=255, reduction="none"),
         r"returned a tensor \(2, 8, 8\): it must return a scalar"),
        (lambda logits, labels: logits.detach().mean(), "has no gradient"),
        (lambda logits, labels: logits.mean() * float("nan"), "is nan where some labels are 255"),
        (lambda logits: logits.mean(), "takes 1 positional argument but 2 were given"),
    ],
)  # fmt: skip
def test_losses_that_cannot_be_used(loss: Any, message: str, tmp_path: Path) -> None:
    refused(tmp_path, message, loss=loss)


def test_losses_of_a_library_can_be_used() -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    check_loss(smp.losses.DiceLoss("multiclass", ignore_index=255), 5)
    check_loss(nn.CrossEntropyLoss(ignore_index=255), 5)
    check_loss(Weighted(), 5)


@pytest.mark.parametrize("classes", [1, 2, 19, 254])
def test_losses_with_a_weight_for_every_class(classes: int) -> None:
    check_loss(nn.CrossEntropyLoss(weight=torch.ones(classes), ignore_index=255), classes)


def test_class_weights_of_the_loss_are_as_many_as_classes(tmp_path: Path) -> None:
    weighted = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]), ignore_index=255)
    recipe = tiny.recipe(iterations=1, validate_every=1)
    assert losses(fit(tmp_path / "a", recipe, loss=weighted)) != losses(fit(tmp_path / "b", recipe))
    wrong = nn.CrossEntropyLoss(weight=torch.ones(3), ignore_index=255)
    refused(tmp_path, r"failed for logits \(2, 2, 8, 8\)", loss=wrong)


# Tasks


class OwnLoss(SegmentationTask):
    """The mean loss of a batch, twice that of the recipe."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return 2 * super().loss(logits, labels)


class DrawingLoss(OwnLoss):
    """A mean loss that draws from numpy and `random`."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return super().loss(logits, labels) * (np.random.rand() + random.random())


class Stepping(SegmentationTask):
    """An ordinary training step of Lightning: cross-entropy of the logits, without the auxiliary head."""

    def training_step(self, batch: Any, index: int) -> Tensor:
        logits = self(batch.image)
        loss = F.cross_entropy(logits, batch.labels.long(), ignore_index=255)
        self.log("accuracy", (logits.argmax(1) == batch.labels).float().mean())
        return loss


class Wrapping(SegmentationTask):
    """The step of the base class, with something logged in training and in validation."""

    def training_step(self, batch: Any, index: int) -> dict[str, Tensor]:
        out = super().training_step(batch, index)
        self.log("twice", 2 * out["main"])
        return out

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("images", 2.0)


class Manual(SegmentationTask):
    """A task that does the backward pass and the step itself."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.automatic_optimization = False

    def training_step(self, batch: Any, index: int) -> Tensor:
        optimizer: Any = self.optimizers()
        loss = F.cross_entropy(self(batch.image), batch.labels.long(), ignore_index=255)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.lr_schedulers().step()  # type: ignore[union-attr]
        return loss.detach()


def test_the_mean_loss_may_be_overridden(tmp_path: Path) -> None:
    """Twice the loss at half the learning rate, with SGD and no decay, is the same run."""
    rates = {"new_layers_multiplier": 1.0, "weight_decay": 0.0, "iterations": 3}
    plain = fit(tmp_path / "a", tiny.recipe(**{**FROZEN, **rates}))
    twice = fit(tmp_path / "b", tiny.recipe(**{**FROZEN, **rates, "learning_rate": 5e-4}), task=OwnLoss)
    assert losses(twice) == pytest.approx([2 * loss for loss in losses(plain)], rel=1e-4)
    assert python_of(twice)["task"] == "tests.training.test_python_api.OwnLoss"


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"ema": 0.9, "clip_gradients": 0.1}])
def test_a_training_step_around_that_of_the_base_class_trains_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    """Though Lightning does the backward pass and the step."""
    recipe = tiny.recipe(**{**FROZEN, **options})
    plain, wrapped = fit(tmp_path / "a", recipe), fit(tmp_path / "b", recipe, task=Wrapping)
    lines = [read_history(run / "history.jsonl") for run in (plain, wrapped)]
    for one, other in zip(*lines, strict=True):
        for key in ("loss", "auxiliary_loss", "learning_rate", "gradient_norm", "miou"):
            assert (key in one) == (key in other)
            assert one.get(key, 0) == pytest.approx(other.get(key, 0), rel=1e-4), key
        logged = {"twice": pytest.approx(2 * one["loss"], rel=1e-4)} if "loss" in one else {"images": 2.0}
        assert other["logged"] == logged
        assert "logged" not in one
    states = [gffnet.load(run, precision="float32").network.state_dict() for run in (plain, wrapped)]
    assert all(torch.allclose(value, states[1][name], atol=1e-5) for name, value in states[0].items())


@pytest.mark.slow
@pytest.mark.parametrize("task", [Stepping, Manual])
def test_an_ordinary_step_of_lightning_is_one_of_cross_entropy(task: type[SegmentationTask], tmp_path: Path) -> None:
    """The same as the base class's without the auxiliary loss, with moving average and clipping."""
    options = {**FROZEN, "ema": 0.9, "clip_gradients": 0.1, "auxiliary_weight": 0.0, "weight_decay": 0.0}
    recipe = tiny.recipe(**options)
    # As many labelled pixels in every image, so that means of batches are those of pixels.
    plain, own = fit(tmp_path / "a", recipe), fit(tmp_path / "b", recipe, task=task)
    first, second = (read_history(run / "history.jsonl")[-2] for run in (plain, own))
    assert "auxiliary_loss" not in second
    for key in ("loss", "gradient_norm", "learning_rate"):
        assert first[key] == pytest.approx(second[key], rel=1e-3), key
    states = [gffnet.load(run, precision="float32").network.state_dict() for run in (plain, own)]
    assert all(torch.allclose(value, states[1][name], atol=1e-5) for name, value in states[0].items())
    assert ("accuracy" in second.get("logged", {})) == (task is Stepping)


def groups(task: SegmentationTask) -> torch.optim.Optimizer:
    return torch.optim.AdamW([{"params": list(task.network.parameters())}], lr=1e-3)


SCHEDULES: list[Callable[[torch.optim.Optimizer], Any]] = [
    lambda optimizer: optimizer,
    lambda optimizer: ([optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]),
    lambda optimizer: {
        "optimizer": optimizer,
        "lr_scheduler": torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=6),
    },
    lambda optimizer: {
        "optimizer": optimizer,
        "lr_scheduler": {
            "scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=1.0),
            "monitor": "x",
        },
    },
]


@pytest.mark.parametrize("which", range(4))
@pytest.mark.parametrize("base", [SegmentationTask, pytest.param(Stepping, marks=pytest.mark.slow)])
def test_any_optimiser_and_schedule_that_lightning_takes(which: int, base: Any, tmp_path: Path) -> None:
    """Schedules step after every iteration: the rate of the last line is that after six steps."""
    if base is Stepping and which == 3:
        pytest.skip("Lightning steps it on the monitored value")

    class Own(base):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            return SCHEDULES[which](groups(self))

    run = fit(tmp_path, tiny.recipe(validate_every=6), task=Own)
    rate = read_history(run / "history.jsonl")[0]["learning_rate"]
    if which == 3:  # the loss never falls by as much as the threshold asks for: a tenth after every step but the first
        assert rate == pytest.approx(1e-3 * 0.1**5, rel=1e-2)
        return
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=1e-3)
    found = SCHEDULES[which](optimizer)
    schedule = found[1][0] if which == 1 else found["lr_scheduler"] if which == 2 else None
    for _ in range(6):
        optimizer.step()
        if schedule is not None:
            schedule.step()
    assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert (rate == 1e-3) == (which == 0)


@pytest.mark.parametrize("base", [SegmentationTask, Stepping])
def test_two_optimisers_are_refused(base: Any, tmp_path: Path) -> None:
    class Two(base):  # type: ignore[misc]
        def configure_optimizers(self) -> Any:
            return [groups(self), groups(self)]

    with pytest.raises(UserError, match=r"task Two: configure_optimizers returned .* optimizers: a run has"):
        fit(tmp_path / "run", task=Two)


def test_a_step_of_ones_own_that_diverges_stops_the_run_before_its_checkpoint(tmp_path: Path) -> None:
    class Broken(Stepping):
        def training_step(self, batch: Any, index: int) -> Tensor:
            return super().training_step(batch, index) * (float("nan") if self.global_step == 2 else 1)

    with pytest.raises(RunFailed, match=r"the loss of iteration 3 is not finite"):
        fit(tmp_path, tiny.recipe(checkpoint_every=1), task=Broken)
    assert torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 2


def test_a_step_of_ones_own_is_computed_in_the_precision_of_the_recipe_and_validation_is_not_autocast(
    tmp_path: Path,
) -> None:
    autocast = []

    class Noting(Stepping):
        def validation_step(self, sample: Any, index: int) -> None:
            autocast.append(torch.is_autocast_enabled("cpu"))
            super().validation_step(sample, index)

    short = tiny.recipe(iterations=1, validate_every=1)
    half = dataclasses.replace(short, precision="bfloat16")
    (one,), (two,) = losses(fit(tmp_path / "a", short, task=Noting)), losses(fit(tmp_path / "b", half, task=Noting))
    assert one != two
    assert one == pytest.approx(two, rel=0.02)
    assert autocast == [False] * 4


def test_a_step_of_ones_own_gets_the_whole_batch(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"training\.device_batch 1: Stepping has its own training_step"):
        fit(tmp_path / "run", tiny.recipe(device_batch=1), task=Stepping)


# Interrupted runs


class Dropping(Stepping):
    """A step that draws random numbers, with a loss of its own."""

    def training_step(self, batch: Any, index: int) -> Tensor:
        if self.interrupt == self.global_step:
            raise PowerCut
        self.log("drawn", float(np.random.rand()))
        return self.loss(F.dropout(self(batch.image), 0.5), batch.labels) * (0.5 + random.random())

    interrupt = -1


@pytest.mark.parametrize("base", [Dropping, pytest.param(DrawingLoss, marks=pytest.mark.slow)])
def test_a_resumed_run_equals_an_uninterrupted_one(base: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With data that are random themselves, a random transform, a loss with parameters, and a task."""

    class Random(Shapes):
        def __getitem__(self, index: int) -> Any:
            image, labels = super().__getitem__(index)
            if random.random() < 0.5:
                labels[20:] = -1
            return np.roll(image, np.random.randint(9)), labels * int(torch.randint(2, ()))

    recipe = tiny.recipe(tiny.GFFNET, ema=0.9, class_balance=0.9, validate_every=4, checkpoint_every=1)
    options = {"train_data": Random(), "val_data": Random(2), "transform": SEVERAL}
    whole = fit(tmp_path / "whole", recipe, loss=Weighted(), task=base, **options)
    if base is DrawingLoss:  # whose step is the base class's own
        monkeypatch.setattr(SegmentationTask, "training_step", interrupt_at(3))
    else:
        monkeypatch.setattr(Dropping, "interrupt", 3)
    with pytest.raises(PowerCut):
        fit(tmp_path / "run", recipe, loss=Weighted(), task=base, **options)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"the run started in Python with loss=tests.*Weighted: give loss= again"):
        fit(tmp_path / "run", recipe, task=base, resume=True, **options)
    run = fit(tmp_path / "run", recipe, loss=Weighted(), task=base, resume=True, **options)
    assert history(run) == history(whole)
    assert (sha(run), sha(run, "best")) == (sha(whole), sha(whole, "best"))


def interrupt_at(iteration: int) -> Any:
    real = SegmentationTask.training_step

    def step(self: SegmentationTask, batch: Any, index: int) -> Any:
        if self.global_step == iteration:
            raise PowerCut
        return real(self, batch, index)

    return step


SCRIPT = """
import sys
from tests.training.test_python_api import train_with_everything, train_without_auxiliary_head

train_with_everything(sys.argv[1], devices=2)
train_without_auxiliary_head(sys.argv[1] + "_main", devices=2)
"""


def train_with_everything(out: Any, devices: int) -> Path:
    torch.set_num_threads(1)
    loss = nn.CrossEntropyLoss(ignore_index=255)
    recipe = tiny.recipe(**FROZEN, batch=4)
    return fit(Path(out), recipe, val_data=Shapes(3), transform=SEVERAL, task=Wrapping, loss=loss, devices=devices)


class MainLoss(SegmentationTask):
    """Leaves the auxiliary head unused."""

    def losses(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        main: Tensor = self.criterion(self(images), labels)
        return main, main.new_zeros(())


def train_without_auxiliary_head(out: Any, devices: int) -> Path:
    recipe = tiny.recipe(**FROZEN, batch=4)
    return fit(Path(out), recipe, val_data=Shapes(3), task=MainLoss, devices=devices)


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    """Each of them runs the user's script."""
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    place = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, str(script), str(tmp_path / "two")]
    done = subprocess.run(command, env=place, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-5000:]
    one = train_with_everything(tmp_path / "one", devices=1)
    assert losses(tmp_path / "two") == pytest.approx(losses(one), rel=1e-4)
    alone = train_without_auxiliary_head(tmp_path / "one_main", devices=1)
    assert losses(tmp_path / "two_main") == pytest.approx(losses(alone), rel=1e-4)
    assert json.loads((tmp_path / "two/run.json").read_text())["sessions"][0]["processes"] == 2


# Evaluation


def test_evaluating_by_name_and_by_object_is_the_same(tmp_path: Path, camvid: Path, whole: Path) -> None:
    predictor = gffnet.load(whole, precision="float32")
    by_name = gffnet.evaluate(whole, "camvid", camvid, scales=(0.5, 1.0), flip=True, precision="float32").scores
    own = gffnet.evaluate(predictor, CamVid(camvid, "val"), scales=(0.5, 1.0), flip=True).scores
    default = gffnet.evaluate(predictor, root=camvid).scores  # the data set that it was trained on
    plain = gffnet.evaluate(predictor, [tuple(sample) for sample in CamVid(camvid, "val")]).scores
    assert by_name.per_class == own.per_class != default.per_class == plain.per_class
    assert (by_name.protocol["scales"], by_name.protocol["flip"]) == ([0.5, 1.0], True)
    assert (default.protocol["dataset"], plain.protocol["dataset"]) == ("camvid", "list")


def test_evaluations_that_make_no_sense(tmp_path: Path, camvid: Path, whole: Path) -> None:
    for options, message in (
        ({"data": CamVid(camvid, "val"), "root": camvid}, "root .* is the folder of a data set by name"),
        ({"data": Shapes(), "classes": CLASSES}, "the model has 11 classes and Shapes 2"),
        ({"data": "camvid", "root": camvid, "resume": True}, "resume .* reads the partial results in out"),
        ({"data": "camvid", "root": camvid, "overlap": 2.0}, "overlap"),
    ):
        with pytest.raises(UserError, match=message):
            gffnet.evaluate(whole, **options)  # type: ignore[arg-type]


def test_labels_of_0_and_255_and_labels_that_are_all_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def masks(value: int) -> list[tuple[np.ndarray, np.ndarray]]:
        image = np.zeros((32, 32, 3), np.uint8)
        return [(image, np.pad(np.full((16, 16), value, np.uint8), 8, constant_values=min(value, 0)))] * 4

    check_labels(as_dataset(masks(1), 2, 3, "train_data"), "train_data")
    assert not caplog.records
    check_labels(as_dataset(masks(255), 2, 3, "train_data"), "train_data")
    assert "only 'class_0' is labelled, and all else is 255" in caplog.text
    nothing = [(image, np.full_like(labels, 255)) for image, labels in masks(0)]
    with pytest.raises(UserError, match=r"train_data: every pixel of 4 label maps is ignored \(255, -1 or -100\)"):
        check_labels(as_dataset(nothing, 2, 3, "train_data"), "train_data")
