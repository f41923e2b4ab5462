"""The plan of a run: what it adds up, what it needs not, and what it says where something does not fit."""

import dataclasses
import json
from typing import Any

import pytest
import torch

from gffnet.errors import UserError
from gffnet.inference.model_io import WEIGHTS, save_model
from gffnet.recipe import Recipe, load_recipe, recipe_names
from gffnet.training import dry_run as module
from gffnet.training.dry_run import Memory, Plan, Throughput, plan
from tests import tiny


def planned(devices: int = 1, throughput: float = 10.0, **training: Any) -> Plan:
    return plan(tiny.recipe(tiny.GFFNET, **training), throughput, devices)


def test_time_from_a_given_throughput() -> None:
    found = planned(throughput=4.0, iterations=100, batch=8)
    assert found.seconds == {1: 200.0, 2: 100.0, 4: 50.0, 8: 25.0}
    assert found.speed.measured is None
    assert found.speed.reason is None
    assert planned(throughput=4.0, iterations=100, batch=6, devices=3).seconds == {1: 150.0, 2: 75.0, 3: 50.0}


def test_flops_do_not_depend_on_how_the_batch_is_taken() -> None:
    whole, parts, shared = planned(batch=4), planned(batch=4, device_batch=1), planned(batch=4, devices=2)
    assert whole.iteration_flops == parts.iteration_flops == shared.iteration_flops == 4 * whole.flops.total
    assert (whole.memory.images, parts.memory.images, shared.memory.images) == (4, 1, 2)
    assert parts.memory.total(1) < shared.memory.total(2) < whole.memory.total(4)


def test_as_plain_values() -> None:
    found = planned(iterations=100, batch=2, keep_every=40, ema=0.9)
    mapping = found.to_mapping()
    assert json.loads(json.dumps(mapping)) == mapping
    assert mapping["parameters"]["network"] + mapping["parameters"]["auxiliary"] == sum(found.parameters.values())
    assert mapping["flops"]["run"] == 100 * mapping["flops"]["iteration"]
    memory = mapping["memory"]
    parts = ("weights", "gradients", "optimizer", "average", "activations", "temporary")
    assert memory["total"] == sum(memory[part] for part in parts) < memory["needed"]
    assert mapping["time"] == [{"devices": 1, "seconds": 20.0}, {"devices": 2, "seconds": 10.0}]
    assert mapping["disk"]["checkpoints"] == 3, "the last, and those of iterations 40 and 80"


def test_disk_is_what_files_take(tmp_path: Any) -> None:
    recipe = tiny.recipe(tiny.GFFNET)
    save_model(tmp_path, tiny.network(recipe), tiny.config(recipe))
    disk = plan(recipe, 1.0).disk
    assert (tmp_path / WEIGHTS).stat().st_size == pytest.approx(disk.model, rel=0.02)
    assert disk.model < disk.checkpoint
    assert disk.most == 2 * disk.checkpoint + 2 * disk.model


def test_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gffnet.training.dry_run.SECONDS", 0.3)
    found = plan(tiny.recipe(iterations=10, batch=2))
    assert found.speed.measured is not None
    assert found.speed.images_per_second == found.speed.measured.images_per_second
    assert found.seconds[1] == pytest.approx(20 / found.speed.measured.images_per_second)
    assert found.to_mapping()["measured"]["images"] == 2
    assert found.here


def refuse(*_: Any) -> Throughput:
    raise AssertionError("nothing is to be measured")


def test_a_machine_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure", refuse)
    recipe = tiny.recipe(batch=4, crop=[128, 128])
    memory: Memory = plan(recipe, 1.0).memory
    monkeypatch.setattr(module, "free_memory", lambda _: memory.needed(1) - 1)
    found = plan(recipe)
    assert found.room.images is None
    assert found.room.crop == (112, 112)
    assert found.seconds == {}
    assert found.speed.reason == "not even one image fits into the memory that is free here"
    mapping = found.to_mapping()
    assert mapping["images_per_second"] is None
    assert mapping["memory"]["fits"] is False
    monkeypatch.setattr(module, "free_memory", lambda _: 1)
    assert plan(recipe).room.crop is None
    monkeypatch.setattr(module, "free_memory", lambda _: None)
    assert plan(recipe, 1.0).room == (None, 4, None)


def test_fewer_images_at_a_time_are_measured_where_all_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe(batch=4, crop=[128, 128])
    memory = plan(recipe, 1.0).memory
    asked: list[int] = []

    def too_large(_: object, __: object, ___: object, images: int, *____: object) -> Throughput:
        asked.append(images)
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(module, "measure", too_large)
    monkeypatch.setattr(module, "free_memory", lambda _: memory.needed(2))
    found = plan(recipe)
    assert found.room == (memory.needed(2), 2, None)
    assert asked == [2]
    assert found.speed.reason == "the memory that is free here was not enough"


def test_other_failures_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Throughput:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(module, "measure", broken)
    with pytest.raises(RuntimeError, match="multiplied"):
        plan(tiny.recipe())


@pytest.mark.skipif(torch.cuda.is_available(), reason="float16 trains here")
def test_float16_on_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "measure", refuse)
    found = plan(dataclasses.replace(tiny.recipe(), precision="float16"))
    assert found.speed.reason == "float16 trains on NVIDIA GPUs only"
    assert found.memory.total(2) > 0


def test_processes_of_one_computer_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pick_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(module, "free_memory", lambda _: 10**12)
    assert planned(devices=2).room.free == 10**12 // 2


def test_mistakes() -> None:
    with pytest.raises(UserError, match=r"training\.batch 2 cannot be shared evenly by 3 processes"):
        planned(devices=3)
    with pytest.raises(UserError, match="--devices 0: it must be 1 or more"):
        planned(devices=0)


def test_own_classes() -> None:
    counts = [plan(tiny.recipe(), 1.0, classes=classes).parameters["head"] for classes in (11, 22)]
    assert counts[1] == 2 * counts[0]


def check(recipe: Recipe) -> None:
    found = plan(recipe, 1.0)
    assert 1.9 * found.flops.forward < found.flops.backward <= 2 * found.flops.forward
    one, whole = found.memory.one, found.memory.whole
    assert 0 < one.activations < one.peak < whole.peak


def test_the_largest_network_in_seconds() -> None:
    check(load_recipe("cityscapes/gffnet_r101"))


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_has_a_plan(name: str) -> None:
    check(load_recipe(name))


@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", ["convnext_tiny", "swin_tiny_patch4_window7_224", "efficientnet_b0", "densenet121"]
)
def test_other_backbones_have_a_plan(backbone: str) -> None:
    model = {"backbone": {"name": backbone, "weights": "none", "output_stride": None}, "fusion": "gff"}
    found = plan(tiny.recipe(model, crop=[224, 224]), 1.0)
    assert found.flops.backward > 1.5 * found.flops.forward
