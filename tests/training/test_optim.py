"""Parameter groups, every optimiser against its equation, schedules against torch's, the moving average."""

import copy
import io
from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import lr_scheduler

from gffnet.errors import UserError
from gffnet.models.gffnet import SegmentationModel, build_network
from gffnet.recipe import OptimizerName, Recipe, RecipeError, TrainingRecipe
from gffnet.training.optim import (
    ExponentialMovingAverage,
    Schedule,
    is_decayed,
    learning_rate_factor,
    make_optimizer,
    parameter_groups,
    poly,
)
from gffnet.training.task import AuxiliaryHead
from tests import tiny

OPTIMIZERS = get_args(get_args(OptimizerName)[0])


NORMS = (nn.BatchNorm2d, nn.LayerNorm, nn.GroupNorm)


def parts(recipe: Recipe) -> tuple[SegmentationModel, AuxiliaryHead]:
    torch.manual_seed(0)
    network = build_network(recipe.model, 5)
    return network, AuxiliaryHead(network.backbone.channels[2], 5)


def model(backbone: str) -> dict[str, Any]:
    return {**tiny.GFFNET, "backbone": {"name": backbone, "weights": "none", "output_stride": None}}


def groups_of(recipe: Recipe, *of: Any) -> dict[str, dict[str, Any]]:
    return {group["name"]: group for group in parameter_groups(*of, recipe.training)}


def ids(parameters: Any) -> list[int]:
    return sorted(map(id, parameters))


def test_two_groups_with_a_rate_each() -> None:
    recipe = tiny.recipe(tiny.GFFNET, learning_rate=0.01, backbone_multiplier=0.5, new_layers_multiplier=20)
    network, auxiliary = parts(recipe)
    groups = groups_of(recipe, network, auxiliary)
    assert list(groups) == ["backbone", "new layers"]
    assert [group["lr"] for group in groups.values()] == pytest.approx([0.005, 0.2])
    assert [group["weight_decay"] for group in groups.values()] == [1e-4, 1e-4]
    assert ids(groups["backbone"]["params"]) == ids(network.backbone.parameters())
    assert network.fusion is not None
    assert network.pyramid is not None
    new = [network.context, network.fusion, network.pyramid, network.head, auxiliary]
    assert ids(groups["new layers"]["params"]) == ids(p for module in new for p in module.parameters())


# resnet: batch normalisation; convnext: layer normalisation, LayerScale; swin: a table of relative positions
@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "swin_tiny_patch4_window7_224"])
def test_norms_biases_and_positions_may_do_without_decay(name: str) -> None:
    recipe = tiny.recipe(model(name), decay_norms_and_biases=False, weight_decay=0.05)
    with torch.device("meta"):
        network, auxiliary = parts(recipe)
    spared: set[int] = set()
    for root in (network, auxiliary):
        for module in root.modules():
            if isinstance(module, NORMS):
                spared |= {id(p) for p in module.parameters(recurse=False)}
            bias = getattr(module, "bias", None)
            if isinstance(bias, nn.Parameter):
                spared.add(id(bias))
        spared |= {id(p) for key, p in root.named_parameters() if key.endswith(("gamma", "position_bias_table"))}
    groups = groups_of(recipe, network, auxiliary)
    assert list(groups) == ["backbone", "backbone without decay", "new layers", "new layers without decay"]
    for part, roots in {"backbone": [network.backbone], "new layers": [*others(network), auxiliary]}.items():
        everything = {id(p) for root in roots for p in root.parameters()}
        assert set(map(id, groups[part]["params"])) == everything - spared
        assert set(map(id, groups[f"{part} without decay"]["params"])) == everything & spared
        assert groups[part]["weight_decay"] == 0.05
        assert groups[f"{part} without decay"]["weight_decay"] == 0
        assert groups[part]["lr"] == groups[f"{part} without decay"]["lr"]


def others(network: SegmentationModel) -> list[nn.Module]:
    return [module for key, module in network.named_children() if key != "backbone"]


@pytest.mark.parametrize(
    "name",
    [
        "swin_tiny_patch4_window7_224",
        "swinv2_tiny_window8_256",
        "mvitv2_tiny",
        "maxvit_rmlp_pico_rw_256",
        "coatnet_nano_cc_224",
    ],
)
def test_what_timm_does_not_decay_is_not_decayed(name: str) -> None:
    """timm's models say themselves what is not to be decayed, but not once they are made into a backbone."""
    recipe = tiny.recipe(decay_norms_and_biases=False)
    with torch.device("meta"):
        network, auxiliary = parts(recipe)
        network.backbone.net = timm.create_model(name)
    decayed = set(map(id, groups_of(recipe, network, auxiliary)["backbone"]["params"]))
    own = network.backbone.net.no_weight_decay()
    assert own
    wrong = [
        key for key, p in network.backbone.net.named_parameters() if (key in own or p.ndim < 2) and id(p) in decayed
    ]
    assert wrong == []
    right = [key for key, p in network.backbone.net.named_parameters() if p.ndim == 4 and id(p) in decayed]
    assert len(right) > 0


@pytest.mark.parametrize(
    ("module", "name", "decayed"),
    [
        (nn.Conv2d(3, 1, 1), "gate.weight", True),  # (1, 3, 1, 1): a map, though of one row
        (nn.Conv2d(3, 1, 1), "gate.bias", False),
        (nn.LayerNorm((2, 3)), "norm.weight", False),
        (nn.Linear(2, 3), "biased.weight", True),
        (nn.Linear(2, 3), "attention.pos_embed.weight", False),
        (nn.Bilinear(2, 2, 1), "block.weight", True),
    ],
)
def test_shape_owner_and_name_say_what_is_decayed(module: nn.Module, name: str, decayed: bool) -> None:
    parameter = module.get_parameter("bias" if name.endswith("bias") else "weight")
    assert is_decayed(module, name, parameter) is decayed


def test_every_trained_parameter_is_in_one_group_and_no_other_is() -> None:
    for decay in (True, False):
        recipe = tiny.recipe(tiny.GFFNET, decay_norms_and_biases=decay)
        network, auxiliary = parts(recipe)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)
        network.head.requires_grad_(False)
        auxiliary.tied = nn.Conv2d(256, 5, 1)
        auxiliary.tied.weight = auxiliary.layers[2].weight
        grouped = [id(p) for group in parameter_groups(network, auxiliary, recipe.training) for p in group["params"]]
        trained = [id(p) for part in (network, auxiliary) for p in part.parameters() if p.requires_grad]
        assert sorted(grouped) == sorted(trained)


def test_empty_groups_are_left_out() -> None:
    recipe = tiny.recipe(decay_norms_and_biases=False)
    network, auxiliary = parts(recipe)
    network.backbone.requires_grad_(False)
    assert list(groups_of(recipe, network, auxiliary)) == ["new layers", "new layers without decay"]
    make_optimizer(network, auxiliary, recipe.training)


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"momentum": 0.8, "nesterov": False}),
    "nesterov": ("SGD", {"momentum": 0.8, "nesterov": True}),
    "adam": ("Adam", {"decoupled_weight_decay": False}),
    "adamw": ("AdamW", {}),
    "lion": ("Lion", {}),
    "lamb": ("Lamb", {}),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_name_is_its_optimiser_with_the_groups_rates_and_decays(name: str) -> None:
    recipe = tiny.recipe(
        optimizer=name, momentum=0.8, weight_decay=0.02, decay_norms_and_biases=False, learning_rate=0.5
    )
    optimizer = make_optimizer(*parts(recipe), recipe.training)
    kind, options = KINDS[name]
    assert type(optimizer).__name__ == kind
    assert [(g["name"], g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [
        ("backbone", 0.5, 0.02),
        ("backbone without decay", 0.5, 0),
        ("new layers", 5, 0.02),
        ("new layers without decay", 5, 0),
    ]
    assert all(group[key] == value for group in optimizer.param_groups for key, value in options.items())


def first_step(name: str, w: float, g: float, decay: float, rate: float, norms: tuple[float, float]) -> float:
    """What a weight is after the first step, from the papers; `norms`: of all weights, and of LAMB's step for them."""
    match name:
        case "sgd":
            return w - rate * (g + decay * w)
        case "nesterov":
            return w - rate * 1.9 * (g + decay * w)  # looks 0.9 ahead
        case "adam":
            return w - rate * sign(g + decay * w)  # m / sqrt(v) of a single gradient
        case "adamw":
            return w - rate * sign(g) - rate * decay * w
        case "lion":
            return w - rate * (sign(g) + decay * w)
        case _:
            return w - rate * norms[0] / norms[1] * (sign(g) + decay * w)


def sign(x: float) -> float:
    return (x > 0) - (x < 0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_first_step_is_that_of_the_papers(name: str) -> None:
    """Gradients far above 1 too: LAMB's are not clipped unless the recipe says so."""
    recipe = tiny.recipe(optimizer=name, weight_decay=0.1, learning_rate=0.01, new_layers_multiplier=1)
    network, auxiliary = parts(recipe)
    network.requires_grad_(False)
    auxiliary.requires_grad_(False)
    classifier = auxiliary.layers[2].requires_grad_(True)
    optimizer = make_optimizer(network, auxiliary, recipe.training)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2]
    before, g = classifier.weight.detach().clone(), 100 * torch.randn_like(classifier.weight)
    classifier.weight.grad = g.clone()
    optimizer.step()
    step = g.sign() + 0.1 * before
    norms = before.norm().item(), step.norm().item()
    wanted = [
        first_step(name, w, d, 0.1, 0.01, norms)
        for w, d in zip(before.flatten().tolist(), g.flatten().tolist(), strict=True)
    ]
    torch.testing.assert_close(classifier.weight.flatten(), torch.tensor(wanted), rtol=1e-4, atol=1e-6)


def step(optimizer: torch.optim.Optimizer, gradients: list[Tensor]) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_resumed_optimiser_goes_on_exactly(name: str) -> None:
    recipe = tiny.recipe(optimizer=name, decay_norms_and_biases=False, learning_rate=1e-3)
    unbroken = parts(recipe)
    optimizer = make_optimizer(*unbroken, recipe.training)
    shapes = [p.shape for group in optimizer.param_groups for p in group["params"]]
    gradients = [[torch.randn(shape) for shape in shapes] for _ in range(4)]
    for some in gradients[:2]:
        step(optimizer, some)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    resumed = copy.deepcopy(unbroken)
    other = make_optimizer(*resumed, recipe.training)
    other.load_state_dict(torch.load(file, weights_only=True))
    for some in gradients[2:]:
        step(optimizer, some)
        step(other, some)
    for a, b in zip(unbroken, resumed, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_nesterov_needs_momentum() -> None:
    with pytest.raises(
        UserError, match=r"training\.momentum is 0\.0, .* 'nesterov' needs one above 0, .*optimizer sgd"
    ):
        tiny.recipe(optimizer="nesterov", momentum=0)


@given(iterations=st.integers(1, 10**6), share=st.floats(0, 1), power=st.floats(0.1, 3))
def test_poly_is_its_formula(iterations: int, share: float, power: float) -> None:
    iteration = int(share * iterations)
    assert poly(iteration, iterations, power) == pytest.approx((1 - iteration / iterations) ** power)


def test_poly_at_its_ends() -> None:
    assert poly(0, 100, 0.9) == 1
    assert poly(50, 100, 0.9) == pytest.approx(0.535887)
    assert poly(100, 100, 0.9) == poly(101, 100, 0.9) == 0


def factors(of: TrainingRecipe) -> list[float]:
    """The factor at each iteration, and after the last."""
    return [learning_rate_factor(i, of) for i in range(of.iterations + 1)]


def rates(schedule: Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler], iterations: int) -> Any:
    """The learning rate that a schedule of torch has at each iteration; that of the recipe is 1."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0, momentum=0.9)
    found, scheduler = [], schedule(optimizer)
    for i in range(iterations):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if i < iterations - 1:
            scheduler.step()
    return pytest.approx(found, rel=1e-9, abs=1e-12)


TORCH: dict[str, Callable[[int], Any]] = {
    "poly": lambda of: partial(lr_scheduler.PolynomialLR, total_iters=of, power=0.9),
    "cosine": lambda of: partial(lr_scheduler.CosineAnnealingLR, T_max=of),
    "one_cycle": lambda of: partial(lr_scheduler.OneCycleLR, max_lr=1.0, total_steps=of, cycle_momentum=False),
    "step": lambda of: partial(lr_scheduler.MultiStepLR, milestones=[round(0.6 * of), round(0.9 * of)], gamma=0.1),
}


@pytest.mark.parametrize("schedule", TORCH)
@pytest.mark.parametrize("iterations", [1, 2, 3, 4, 7, 10, 100, 999])
def test_a_schedule_is_that_of_torch(schedule: Any, iterations: int) -> None:
    recipe = TrainingRecipe(iterations=iterations, schedule=schedule)
    assert factors(recipe)[:-1] == rates(TORCH[schedule](iterations), iterations)


@pytest.mark.parametrize(("schedule", "last"), [("poly", 0), ("cosine", 0), ("one_cycle", 4e-6), ("step", 0.01)])
def test_after_the_last_iteration_a_schedule_stays(schedule: Any, last: float) -> None:
    recipe = TrainingRecipe(iterations=100, schedule=schedule)
    assert [learning_rate_factor(i, recipe) for i in (100, 101, 1000)] == [pytest.approx(last, abs=1e-12)] * 3


def test_milestones_of_ones_own() -> None:
    recipe = TrainingRecipe(iterations=10, schedule="step", milestones=(0.3, 0.5), step_factor=0.5)
    assert factors(recipe) == [1, 1, 1, 0.5, 0.5, *[0.25] * 6]


def test_warm_up_by_hand() -> None:
    wanted = [0.25 * 1.0, 0.5 * 0.9, 0.75 * 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]
    assert factors(TrainingRecipe(iterations=10, power=1.0, warm_up=4)) == pytest.approx(wanted)


@given(
    schedule=st.sampled_from(["poly", "cosine", "step"]),
    lengths=st.integers(1, 2000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    iteration=st.integers(0, 3000),
)
def test_warm_up_never_exceeds_the_schedule_and_ends(schedule: Any, lengths: tuple[int, int], iteration: int) -> None:
    iterations, warm_up = lengths
    warmed, plain = (TrainingRecipe(iterations=iterations, schedule=schedule, warm_up=n) for n in (warm_up, 0))
    factor, wanted = learning_rate_factor(iteration, warmed), learning_rate_factor(iteration, plain)
    assert 0 <= factor <= wanted
    assert (factor > 0) == (wanted > 0)
    if iteration >= warm_up - 1:
        assert factor == wanted


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"schedule": "cosine", "power": 0.5}, r"power 0\.5 belongs to the schedule 'poly', but .* is 'cosine'"),
        ({"milestones": (0.5,)}, r"milestones \[0\.5\] belongs to the schedule 'step'.* leave .* at \[0\.6, 0\.9\]"),
        ({"schedule": "one_cycle", "step_factor": 0.5}, r"step_factor 0\.5 belongs to the schedule 'step'"),
        ({"schedule": "one_cycle", "warm_up": 5}, r"'one_cycle' has a warm-up of its own: set training\.warm_up to 0"),
        ({"iterations": 100, "warm_up": 101}, r"warm_up 101 is longer .* are 100: .* to 5 or another number up to 100"),
        ({"schedule": "step", "milestones": (0.5, 1.0)}, r"must be less than 1, got 1\.0"),
        ({"schedule": "step", "step_factor": 0.0}, r"must be greater than 0, got 0\.0"),
        (
            {"schedule": "cosin"},
            r"must be 'poly', 'cosine', 'one_cycle' or 'step', got 'cosin'\. Did you mean 'cosine'",
        ),
    ],
)
def test_values_that_do_not_fit_the_schedule_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        TrainingRecipe(**options)


def test_a_restored_schedule_has_the_rates_of_its_recipe() -> None:
    """Not those in the checkpoint, which may be of fewer iterations."""

    def make(iterations: int) -> tuple[torch.optim.Optimizer, Schedule]:
        groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.5, 2.0)]
        optimizer = torch.optim.SGD(groups)
        return optimizer, Schedule(optimizer, TrainingRecipe(iterations=iterations, schedule="cosine"))

    def step(optimizer: torch.optim.Optimizer, schedule: Schedule, times: int) -> None:
        for _ in range(times):
            optimizer.step()
            schedule.step()

    short, whole, extended = make(4), make(8), make(8)
    step(*short, 4)
    step(*whole, 4)
    assert [group["lr"] for group in short[0].param_groups] == pytest.approx([0, 0])
    for new, old in zip(extended, short, strict=True):
        new.load_state_dict(old.state_dict())
    for times in (0, 1, 2):
        step(*whole, times)
        step(*extended, times)
        assert [group["lr"] for group in extended[0].param_groups] == [group["lr"] for group in whole[0].param_groups]
        assert extended[1].get_last_lr() == whole[1].get_last_lr()


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1))


@torch.no_grad()
def train_a_step(net: nn.Module) -> None:
    """Change everything in it, as a step of training does."""
    net.train()(torch.randn(2, 2, 5, 5))
    for p in net.parameters():
        p.add_(0.1 * torch.randn_like(p))


def trained(net: nn.Module, average: ExponentialMovingAverage, steps: int) -> list[list[Tensor]]:
    """The weights after each of some steps, which the average takes in."""
    seen = []
    for _ in range(steps):
        train_a_step(net)
        average.update(net)
        seen.append([p.detach().double().clone() for p in net.parameters()])
    return seen


@given(decay=st.floats(0.01, 1), steps=st.integers(1, 30), seed=st.integers(0, 1000))
def test_it_is_its_equation(decay: float, steps: int, seed: int) -> None:
    net = network(seed)
    average = ExponentialMovingAverage(net, decay)
    wanted = [p.detach().double().clone() for p in net.parameters()]
    for n, weights in enumerate(trained(net, average, steps), 1):
        d = min(decay, (1 + n) / (10 + n))
        wanted = [d * a + (1 - d) * w for a, w in zip(wanted, weights, strict=True)]
    for a, b in zip(average.network.parameters(), wanted, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-5, atol=1e-6)


def test_buffers_are_those_of_the_last_step() -> None:
    net = network()
    average = ExponentialMovingAverage(net, 0.9)
    trained(net, average, 3)
    buffers = dict(net.named_buffers())
    assert buffers["1.num_batches_tracked"] == 3
    assert {name: b.tolist() for name, b in average.network.named_buffers()} == {
        name: b.tolist() for name, b in buffers.items()
    }
    assert not {b.data_ptr() for b in buffers.values()} & {b.data_ptr() for b in average.network.buffers()}


def test_a_resumed_average_goes_on_exactly() -> None:
    net = network()
    average: ExponentialMovingAverage = ExponentialMovingAverage(net, 0.999)
    trained(net, average, 4)
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    resumed: ExponentialMovingAverage = ExponentialMovingAverage(network(1), 0.999)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(3):
        train_a_step(net)
        average.update(net)
        resumed.update(net)
    states = average.state_dict(), resumed.state_dict()
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))
    assert average.updates == resumed.updates == 7


def test_it_stays_in_evaluation_mode_and_untrained_within_what_is_trained() -> None:
    net = network().train()
    whole = nn.ModuleList([net, ExponentialMovingAverage(net, 0.9)])
    whole.train()
    average = whole[1]
    assert all(module.training for module in net.modules())
    assert not any(module.training for module in average.network.modules())
    assert all(p.requires_grad for p in net.parameters())
    assert not any(p.requires_grad for p in average.parameters())
    assert [id(p) for p in whole.parameters() if p.requires_grad] == [id(p) for p in net.parameters()]
    train_a_step(net)
    average.update(net)
    assert not any(p.requires_grad for p in average.parameters())


def test_weights_of_half_precision_are_averaged_in_float32() -> None:
    """A step of (1 - decay) of a difference is far below what half precision can tell apart."""
    net = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(net.weight)
    average = ExponentialMovingAverage(net, 0.999)
    average.updates = 100_000
    nn.init.constant_(net.weight, 2.0)
    average.update(net)
    assert average.network.weight.dtype == torch.float32
    assert average.network.weight.item() == pytest.approx(1.001)


def test_shared_weights_stay_shared_and_a_network_of_the_package_works() -> None:
    one = nn.Linear(2, 2)
    average = ExponentialMovingAverage(nn.Sequential(one, one), 0.9)
    assert average.network[0] is average.network[1]
    net = tiny.network(tiny.recipe(tiny.GFFNET)).to(memory_format=torch.channels_last)
    averaged = ExponentialMovingAverage(net, 0.9)
    averaged.update(net)
    image = torch.from_numpy(tiny.picture(0)).permute(2, 0, 1)[None]
    with torch.inference_mode():
        assert torch.allclose(averaged.network(image).logits, net.eval()(image).logits, atol=1e-5)
