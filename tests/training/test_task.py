"""The task: its losses, its optimiser's groups, its random numbers."""

import pytest
import torch

from gffnet.data.stream import Batch
from gffnet.inference.precision import Precision
from gffnet.training.losses import parsing_loss
from gffnet.training.task import ParsingTask
from tests import tiny


def make(**training: object) -> ParsingTask:
    recipe = tiny.recipe(tiny.GFFNET, **training)
    return ParsingTask(
        tiny.network(recipe), tiny.config(recipe), recipe.training, Precision(torch.float32, "for tests"), recipe.seed
    )


def batch() -> Batch:
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    return Batch(images, torch.randint(0, 11, (2, 32, 48), dtype=torch.uint8), ("a", "b"))


def test_losses_are_those_of_the_logits_and_of_the_auxiliary_head() -> None:
    task, data = make().eval(), batch()
    main, auxiliary = task.losses(data.image, data.labels)
    assert main.item() == pytest.approx(parsing_loss(task.network(data.image).logits, data.labels).item(), rel=1e-5)
    x3 = task.network.backbone(task.network.normalise(data.image))[2]
    assert auxiliary.item() == pytest.approx(parsing_loss(task.auxiliary(x3, (32, 48)), data.labels).item(), rel=1e-5)


@pytest.mark.parametrize("weight", [0.4, 0.0])
def test_the_auxiliary_loss_enters_with_its_weight(weight: float) -> None:
    task = make(auxiliary_weight=weight).eval()
    step = task.training_step(batch(), 0)
    assert step["loss"].item() == pytest.approx((step["main"] + weight * step["auxiliary"]).item(), rel=1e-6)
    step["loss"].backward()
    reached = [p.grad is not None and bool(p.grad.any()) for p in task.auxiliary.parameters()]
    assert any(reached) == (weight > 0)


def test_every_parameter_is_in_one_group_with_its_rate() -> None:
    task = make(learning_rate=0.01, new_layers_multiplier=10, momentum=0.8, weight_decay=0.02)
    optimizer = task.configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.SGD)
    rates = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(rates) == len(list(task.parameters()))
    assert all(rates[id(p)] == 0.01 for p in task.network.backbone.parameters())
    assert all(
        rates[id(p)] == pytest.approx(0.1) for p in [*task.network.head.parameters(), *task.auxiliary.parameters()]
    )
    assert all(group["momentum"] == 0.8 and group["weight_decay"] == 0.02 for group in optimizer.param_groups)


def test_adamw_is_an_option() -> None:
    assert isinstance(make(optimizer="adamw").configure_optimizers()["optimizer"], torch.optim.AdamW)


def test_dropout_depends_on_the_seed_and_the_iteration_alone() -> None:
    task, data = make().train(), batch()
    torch.manual_seed(1)
    first = task.training_step(data, 0)["loss"]
    torch.manual_seed(2)
    assert torch.equal(task.training_step(data, 0)["loss"], first)
    task.seed = 1
    assert not torch.equal(task.training_step(data, 0)["loss"], first)
