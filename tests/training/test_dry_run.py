"""The dry run: what it measures and prints, and that it leaves nothing behind."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gffnet import parallel
from gffnet.cli.main import main
from gffnet.cli.train import print_dry_run
from gffnet.errors import RunFailed, UserError
from gffnet.training import dry_run as module
from gffnet.training.dry_run import Disk, DryRun, Memory, dry_run, free_memory, largest_batch
from tests import tiny
from tests.data.trees import folder_tree

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS", 0.1)


def test_a_dry_run_of_real_images(whole: Path, camvid: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in camvid.rglob("*")}
    measured = dry_run(tiny.recipe(keep_every=3, workers=1), root=camvid)
    assert (measured.measured["data"], measured.classes, measured.devices, measured.precision) == (
        "real",
        11,
        1,
        "float32",
    )
    assert 2 <= measured.measured["iterations"] <= 10
    assert measured.time == [{"devices": 1, "seconds": 6 * measured.seconds_per_iteration}]
    memory = measured.memory
    assert (memory.images, memory.largest_device_batch, memory.tried_all) == (2, 2, True)
    assert memory.peak is None or memory.peak > 10e6
    disk = measured.disk
    assert disk.checkpoint == pytest.approx((whole / "checkpoints/last.ckpt").stat().st_size, rel=0.01)
    assert disk.model == pytest.approx((whole / "model/model.safetensors").stat().st_size, rel=0.05)
    assert (disk.checkpoints, disk.most) == (3, 4 * disk.checkpoint + 2 * disk.model)
    assert {path: path.stat().st_mtime_ns for path in camvid.rglob("*")} == before


def test_random_images_in_parts_on_two_devices() -> None:
    recipe = tiny.recipe(tiny.GFFNET, batch=4, device_batch=1, loss={"class_weighting": "enet"}, compile=False)
    measured = dry_run(recipe, devices=2)
    assert (measured.measured["data"], measured.classes, measured.devices) == ("random", 11, 2)
    assert (measured.memory.images, measured.memory.largest_device_batch) == (1, 2)
    assert measured.seconds_per_iteration == pytest.approx(2 / measured.images_per_second)
    network = tiny.network(recipe)
    parts = {"network": network, **dict(network.named_children())}
    assert {name: count for name, count in measured.parameters.items() if name != "auxiliary"} == {
        name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()
    }


def test_a_quick_one_measures_two_iterations(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, int]] = []
    short_run = module._short_run

    def counted(*given: Any) -> Any:
        sizes.append((given[-2], given[-1].iterations))
        return short_run(*given)

    monkeypatch.setattr(module, "_short_run", counted)
    measured = dry_run(tiny.recipe(batch=4, device_batch=2), quick=True)
    assert sizes == [(2, 3)]  # the first is not counted
    assert measured.measured["iterations"] == 2
    assert (measured.memory.largest_device_batch, measured.memory.tried_all) == (2, False)


def test_a_warm_up_that_is_longer_than_the_dry_run() -> None:
    assert dry_run(tiny.recipe(warm_up=5), quick=True).iterations == tiny.recipe().training.iterations


def test_auto_values_follow_from_the_data(tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder_tree(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(f"base: folder/gffnet_r18\nmodel: {tiny.PSPNET}\nprecision: float32\n")
    assert main(["train", "own.yaml", "--plan", "--json", "--root", str(root), "--set", "training.batch=2"]) == 0
    mapping = json.loads(capsys.readouterr().out)
    assert mapping["recipe"] == "own.yaml"
    assert (mapping["iterations"], mapping["crop"]) == (1000, [32, 32])
    assert mapping["classes"] == len((yaml.safe_load((root / "classes.yaml").read_text()))["classes"])
    assert mapping["time"] == [{"devices": 1, "seconds": 1000 * mapping["seconds_per_iteration"]}]
    assert mapping["measured"]["data"] == "real"
    assert (
        sum(mapping["parameters"].values()) == 2 * mapping["parameters"]["network"] + mapping["parameters"]["auxiliary"]
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "own.yaml"]


# The largest batch


def grows(monkeypatch: pytest.MonkeyPatch, per_image: int) -> list[int]:
    """Trials that are recorded, of which the peak of the process grows with the images."""
    tried: list[int] = []
    monkeypatch.setattr(module, "peak_memory", lambda _: 1000 + per_image * max(tried, default=0))
    return tried


def trial(tried: list[int], limit: int = 10**6) -> Any:
    def fits(images: int) -> bool:
        tried.append(images)
        return images <= limit

    return fits


@pytest.mark.parametrize(
    ("share", "free", "tried", "largest"),
    [
        (8, 10**6, [1, 2, 4, 8], 8),
        (6, 10**6, [1, 2, 4, 6], 6),
        (8, 500, [1, 2, 4], 4),
        (8, 150, [1], 1),
        (1, 0, [1], 1),
    ],
)
def test_on_a_cpu_batches_are_doubled_while_twice_their_memory_is_free(
    share: int, free: int, tried: list[int], largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = grows(monkeypatch, per_image=100)
    assert largest_batch(trial(seen), share, CPU, free) == (largest, True)
    assert seen == tried


def test_the_search_on_a_cpu_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = grows(monkeypatch, 0)
    assert largest_batch(trial(seen, limit=3), 8, CPU, None) == (2, True)
    monkeypatch.setattr(module, "SEARCH_SECONDS", -1)
    assert largest_batch(trial(seen), 8, CPU, None) == (1, False)


@pytest.mark.parametrize(("share", "limit", "tried"), [(8, 8, [8]), (8, 3, [8, 4, 2]), (6, 1, [6, 3, 1])])
def test_on_a_gpu_batches_are_halved_until_one_fits(
    share: int, limit: int, tried: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    assert largest_batch(trial(seen, limit), share, CUDA, None) == (tried[-1], True)
    assert seen == tried


def test_not_even_one_image_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("gffnet.training.task.SegmentationTask.training_step", full)
    with pytest.raises(RunFailed, match=r"out of memory with 1 image of 32x48 at a time\. Use smaller crops"):
        dry_run(tiny.recipe())


def test_other_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr("gffnet.training.task.SegmentationTask.training_step", broken)
    with pytest.raises(RuntimeError, match="multiplied"):
        dry_run(tiny.recipe())


@pytest.mark.parametrize(
    ("membership", "files", "free"),
    [
        ("0::/", {"memory.max": "max", "memory.current": "100"}, None),
        ("0::/", {"memory.max": "1100", "memory.current": "100"}, 1000),
        ("0::/", {"memory.max": "1100", "memory.current": "900", "memory.stat": "file 700\ninactive_file 500"}, 700),
        ("0::/", {"memory.max": "1100", "memory.current": "1200"}, 0),
        ("0::/a/b", {"a/memory.max": "1100", "a/memory.current": "100", "a/b/memory.max": "max"}, 1000),
        ("0::/docker/of the host", {"memory.max": "1100", "memory.current": "100"}, 1000),
        (
            "3:cpu:/a\n5:memory:/a",
            {
                "memory/a/memory.limit_in_bytes": "1100",
                "memory/a/memory.usage_in_bytes": "900",
                "memory/a/memory.stat": "inactive_file 100\ntotal_inactive_file 300",
            },
            500,
        ),
    ],
    ids=["no limit", "limit", "file cache", "above", "parent", "namespace", "version 1"],
)
def test_free_memory_of_a_container(
    membership: str, files: dict[str, str], free: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cgroup").write_text(f"{membership}\n")
    monkeypatch.setattr(parallel, "CGROUPS", (tmp_path / "cgroup", tmp_path / "fs"))
    machine = free_memory(CPU)
    for name, text in files.items():
        (tmp_path / "fs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fs" / name).write_text(f"{text}\n")
    if free is None:
        assert (free_memory(CPU) is None) == (machine is None)
    else:
        assert free_memory(CPU) == free


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    measured = dry_run(tiny.recipe(tiny.GFFNET, batch=8, crop=[256, 256]), devices=1)
    assert measured.memory.largest_device_batch == 8
    assert measured.memory.peak is not None
    assert measured.memory.free is not None
    assert 10e6 < measured.memory.peak < measured.memory.free


# The command


MEASURED = DryRun(
    iterations=86_400,
    batch=4,
    crop=(32, 48),
    classes=11,
    precision="float32",
    here="a CPU, 2 cores",
    devices=1,
    parameters={"network": 11_214_091, "backbone": 11_200_000, "head": 14_091, "auxiliary": 445_707},
    memory=Memory(images=4, peak=3_200_000_000, free=16_000_000_000, largest_device_batch=4, tried_all=True),
    images_per_second=2.0,
    seconds_per_iteration=2.0,
    measured={"data": "random", "iterations": 3, "images": 4},
    time=[{"devices": 1, "seconds": 172_800.0}],
    disk=Disk(checkpoint=56_000_000, checkpoints=1, model=26_000_000, most=164_000_000),
)


def test_the_text(capsys: Captured) -> None:
    print_dry_run("tests/tiny", MEASURED)
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "tests/tiny: 2 days, 0:00:00 on a CPU, 2 cores run 86,400 iterations of 4 images of 32x48, float32 ",
        "time 2.000 s an iteration, 2.00 images/s median of 3 iterations with random images",
        "memory 3.20 GB with 4 images at a time, 16.00 GB free before 4 images at a time fit here",
        "parameters 11.21 M: backbone 11, head 0.014; in training also auxiliary 0.45",
        "disk 0.16 GB at most: 1 checkpoint of 56.0 MB, 2 models of 26.0 MB",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json"], "--json goes with --plan only"),
        (["--plan", "--devices", "3"], "training.batch 2 cannot be divided evenly among 3"),
        (["--plan", "--devices", "0"], "--devices 0: it must be the number of devices"),
    ],
)
def test_mistakes(words: list[str], said: str, tmp_path: Path, capsys: Captured) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tiny.recipe().to_mapping()))
    assert main(["train", str(path), *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="float16 trains here")
def test_float16_on_a_processor() -> None:
    recipe = tiny.recipe_from_mapping({**tiny.recipe().to_mapping(), "precision": "float16"}, "tests")
    with pytest.raises(UserError, match="float16"):
        dry_run(recipe)
