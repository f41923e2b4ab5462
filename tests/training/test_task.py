"""The task: one iteration against the same written out, and what its options change."""

import copy
import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from lightning import Callback, Trainer
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gffnet.data.loader import Batch
from gffnet.errors import RunFailed
from gffnet.inference.precision import Precision
from gffnet.models.layers import Norm
from gffnet.training.callbacks import read_history
from gffnet.training.task import AuxiliaryHead, SegmentationTask, batch_norms
from gffnet.training.train import Launch, make_trainer
from tests import tiny
from tests.data.trees import camvid_tree


def test_the_auxiliary_head_is_a_block_a_classifier_and_a_resize() -> None:
    head = AuxiliaryHead(6, 5).double().eval()
    x = torch.randn(2, 6, 4, 7, dtype=torch.float64)
    block, _, classifier = head.layers
    hidden = F.relu(block.norm(F.conv2d(x, block.conv.weight, padding=1)))
    assert hidden.shape[1] == 256
    wanted = F.interpolate(
        F.conv2d(hidden, classifier.weight, classifier.bias), (31, 53), mode="bilinear", align_corners=False
    )
    assert torch.allclose(head(x, (31, 53)), wanted, atol=1e-12)


def test_dropout_of_the_auxiliary_head() -> None:
    head = AuxiliaryHead(6, 5, dropout=0.5)
    dropped = head.layers[1](torch.ones(1, 256, 2, 2))
    by_channel = dropped.flatten(2)[0]
    assert set(by_channel.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(by_channel.amin(1), by_channel.amax(1))
    assert torch.equal(head.eval().layers[1](torch.ones(1, 256, 2, 2)), torch.ones(1, 256, 2, 2))


def test_every_kind_of_batch_normalisation_is_found_and_no_other() -> None:
    first = nn.Sequential(nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.Sequential(Norm(3)))
    second = nn.Sequential(nn.SyncBatchNorm(3), BatchNormAct2d(3), nn.LayerNorm(3))
    assert batch_norms(first, second) == [first[0], first[2][0], second[0], second[1]]


PLAIN = {**tiny.GFFNET, "dropout": 0.0}


def make(model: dict[str, Any] = PLAIN, dtype: torch.dtype = torch.float32, **training: Any) -> SegmentationTask:
    recipe = tiny.recipe(model, **training)
    precision = Precision(dtype, "for tests")
    return SegmentationTask(tiny.network(recipe).train(), tiny.config(recipe), recipe.training, precision, recipe.seed)


def batch(seed: int = 0, images: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (images, 3, 32, 48), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 12, (images, 32, 48), dtype=torch.uint8, generator=generator)
    labels[labels == 11] = 255
    return Batch(image, labels, tuple("abcdefgh"[:images]))


class Outputs(Callback):
    """The outputs of every iteration."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, task: Any, outputs: Any, batch: Any, index: int) -> None:
        self.seen.append({name: value.clone() for name, value in outputs.items()})


def fit(task: SegmentationTask, batches: Sequence[Batch], folder: Path) -> list[dict[str, Tensor]]:
    """Train on the batches, one an iteration."""
    outputs = Outputs()
    task.training_recipe = dataclasses.replace(task.training_recipe, iterations=len(batches), validate_every=1000)
    trainer = make_trainer(task.training_recipe, Launch(torch.device("cpu")), torch.float32, [outputs], folder)
    trainer.fit(task, DataLoader(batches, batch_size=None))
    return outputs.seen


def weights(task: SegmentationTask) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in task.named_parameters() if not name.startswith("average")}


def naive_gradients(task: SegmentationTask, data: Batch, weight: float) -> tuple[float, float]:
    """Leave the gradients of `main + weight auxiliary`, of means over the labelled pixels; returns both losses."""
    network, labels = task.network, data.labels.long()
    main = F.cross_entropy(network(data.image).logits, labels, ignore_index=255)
    main.backward()
    if not weight:
        return main.item(), 0.0
    x3 = network.backbone(network.normalize(data.image))[2]
    logits = F.interpolate(task.auxiliary.layers(x3), (32, 48), mode="bilinear")
    auxiliary = F.cross_entropy(logits, labels, ignore_index=255)
    (weight * auxiliary).backward()
    return main.item(), auxiliary.item()


@pytest.mark.parametrize("weight", [0.4, 0.0])
def test_an_iteration_is_one_step_of_sgd(weight: float, tmp_path: Path) -> None:
    """On `main + 0.4 auxiliary`, with weight decay, the new layers at ten times the rate."""
    task = make(auxiliary_weight=weight, learning_rate=0.01, new_layers_multiplier=10, weight_decay=0.05)
    other, data = copy.deepcopy(task).train(), batch()
    main, auxiliary = naive_gradients(other, data, weight)
    (outputs,) = fit(task, [data], tmp_path)
    assert outputs["main"].item() == pytest.approx(main, rel=1e-5)
    assert outputs.get("auxiliary") == (pytest.approx(auxiliary, rel=1e-5) if weight else None)
    after = weights(task)
    for name, p in other.named_parameters():
        rate = 0.01 if name.startswith("network.backbone") else 0.1
        gradient = torch.zeros_like(p) if p.grad is None else p.grad
        wanted = p.detach() - rate * (gradient + 0.05 * p.detach())
        assert torch.allclose(after[name], wanted, rtol=1e-3, atol=2e-6), name


def test_a_batch_without_a_labelled_pixel_changes_nothing(tmp_path: Path) -> None:
    task = make(weight_decay=0)
    before, data = weights(task), batch()
    (outputs,) = fit(task, [data._replace(labels=torch.full_like(data.labels, 255))], tmp_path)
    assert (outputs["main"].item(), outputs["auxiliary"].item()) == (0, 0)
    assert all(torch.equal(value, before[name]) for name, value in weights(task).items())


def test_a_loss_that_is_not_finite_names_the_iteration_and_takes_no_step(tmp_path: Path) -> None:
    task = make()
    with torch.no_grad():
        task.network.head.classifier.weight[0, 0] = float("nan")
    before = weights(task)
    with pytest.raises(RunFailed, match=r"the loss of iteration 1 is not finite .* Its images: a, b\."):
        fit(task, [batch()], tmp_path)
    assert all(torch.equal(value, before[name]) or "classifier" in name for name, value in weights(task).items())


@pytest.mark.parametrize("limit", [0.5, 1e6])
def test_gradients_are_clipped_to_a_norm(limit: float, tmp_path: Path) -> None:
    task = make(clip_gradients=limit, learning_rate=0.01, new_layers_multiplier=1, weight_decay=0)
    before = weights(task)
    (outputs,) = fit(task, [batch()], tmp_path)
    moved = torch.stack([(value - before[name]).norm() for name, value in weights(task).items()]).norm()
    assert 0.6 < outputs["gradient_norm"] < 1e5  # before it is clipped
    assert moved.item() == pytest.approx(0.01 * min(limit, outputs["gradient_norm"].item()), rel=1e-3)


def test_gradients_are_accumulated_before_they_are_clipped(tmp_path: Path) -> None:
    frozen = {"freeze_norms": True, "clip_gradients": 0.5}
    whole, parts = make(**frozen), make(**frozen, device_batch=1)
    (one,), (two,) = fit(whole, [batch()], tmp_path), fit(parts, [batch()], tmp_path)
    for name, value in one.items():
        assert value.item() == pytest.approx(two[name].item(), rel=1e-4), name


def test_the_moving_average_is_what_is_validated_and_saved(tmp_path: Path) -> None:
    task = make(ema=0.9, learning_rate=0.05)
    assert task.average is not None
    assert task.model is task.average.network
    wanted = {name: value.double() for name, value in weights(task).items() if name.startswith("network.")}
    for n in (1, 2, 3):
        fit(task, [batch(n)], tmp_path)
        decay = min(0.9, (1 + n) / (10 + n))
        for name, value in weights(task).items():
            if name in wanted:
                wanted[name] = decay * wanted[name] + (1 - decay) * value.double()
    for name, p in task.model.named_parameters():
        assert torch.allclose(p.double(), wanted[f"network.{name}"], atol=1e-6), name
    assert make().average is None


def test_frozen_norms_stay_as_they_are(tmp_path: Path) -> None:
    task = make(freeze_norms=True, learning_rate=1e-5)
    norms = {
        name: {key: value.clone() for key, value in module.state_dict().items()}
        for name, module in task.named_modules()
        if isinstance(module, nn.BatchNorm2d)
    }
    gates = "network.fusion.gate_convs.0.weight"
    before = weights(task)[gates]
    fit(task, [batch(n) for n in range(3)], tmp_path)
    after = dict(task.named_modules())
    for name, state in norms.items():
        assert all(torch.equal(value, after[name].state_dict()[key]) for key, value in state.items()), name
    assert not torch.equal(before, weights(task)[gates])


def test_lower_precision_is_for_the_network_alone(tmp_path: Path) -> None:
    """Losses and weights stay in float32; the loss is near that of float32."""
    exact, lower = make(), make(dtype=torch.bfloat16)
    (one,), (two,) = fit(exact, [batch()], tmp_path), fit(lower, [batch()], tmp_path)
    assert two["main"].dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in weights(lower).values())
    assert one["main"].item() != two["main"].item()
    assert one["main"].item() == pytest.approx(two["main"].item(), rel=0.03)


def test_dropout_depends_on_the_seed_and_the_iteration_alone(tmp_path: Path) -> None:
    losses = []
    for global_seed, seed in ((1, 0), (2, 0), (1, 7)):
        task = make(tiny.GFFNET)
        task.seed = seed
        torch.manual_seed(global_seed)
        losses.append(fit(task, [batch()], tmp_path)[0]["main"].item())
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_micro_batches_have_dropout_of_their_own(tmp_path: Path) -> None:
    """Two micro-batches of the same image are dropped out differently."""
    twice = batch(images=1)
    data = Batch(twice.image.repeat(2, 1, 1, 1), twice.labels.repeat(2, 1, 1), ("a", "a"))
    losses: list[float] = []
    task = make({**tiny.GFFNET, "dropout": 0.5}, device_batch=1, freeze_norms=True)
    accumulate = task._accumulate

    def noting(*arguments: Any) -> Tensor:
        out = accumulate(*arguments)
        losses.append(out[0].item())
        return out

    task._accumulate = noting  # type: ignore[method-assign]
    fit(task, [data], tmp_path)
    assert len(losses) == 2
    assert losses[0] != losses[1]


@pytest.mark.slow
def test_a_compiled_network_learns_what_an_eager_one_does(tmp_path: Path) -> None:
    """In processes of their own: the shape checks of tests cannot be compiled."""
    root = camvid_tree(tmp_path / "CamVid")
    for name, compiled in (("eager", False), ("compiled", True)):
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump(tiny.recipe(PLAIN, compile=compiled).to_mapping()))
        command = [
            sys.executable,
            "-m",
            "gffnet",
            "train",
            str(file),
            "--root",
            str(root),
            "--out",
            str(tmp_path / name),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    eager, compiled_lines = (read_history(tmp_path / name / "history.jsonl") for name in ("eager", "compiled"))
    assert eager[-2]["loss"] == pytest.approx(compiled_lines[-2]["loss"], rel=1e-3)
