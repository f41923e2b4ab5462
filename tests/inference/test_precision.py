"""Device and precision on any hardware, and the memory allocator."""

import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import product
from math import inf, isinf
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from gffnet.errors import UserError
from gffnet.inference import precision
from gffnet.inference.precision import pick_device, pick_precision, resumed_precision
from gffnet.models.gffnet import SegmentationModel
from tests import tiny

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BOTH = {"float32", "bfloat16"}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache for this test, which measures."""
    monkeypatch.delenv("GFFNET_PRECISION")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(precision, "_known", {})
    return tmp_path / "gffnet/precision.json"


@pytest.fixture
def network() -> SegmentationModel:
    return tiny.network(tiny.recipe())


class Measured:
    """Stands in for `measure`: pretends these seconds, and counts how often it is asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, float32: float, bfloat16: float) -> None:
        self.seconds = {"float32": float32, "bfloat16": bfloat16}
        self.times = 0
        monkeypatch.setattr(precision, "measure", self)

    def __call__(self, *_: object) -> dict[str, float]:
        self.times += 1
        return self.seconds


@pytest.mark.parametrize(
    ("float32", "bfloat16", "dtype", "reason"),
    [
        (0.19, 0.1, torch.bfloat16, "1.9 times as fast as float32 here"),
        (0.1, 0.19, torch.float32, "1.9 times as fast as bfloat16 here"),
        (0.1, 1.23, torch.float32, "12 times as fast as bfloat16 here"),
        (0.102, 0.1, torch.float32, "as fast as bfloat16 here, and more exact"),
        (0.1, 0.102, torch.float32, "as fast as bfloat16 here, and more exact"),
        (0.1, inf, torch.float32, "bfloat16 does not run here"),
        (inf, inf, torch.float32, "the safe choice: the network could not be timed"),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_the_faster_one_is_taken(
    monkeypatch: pytest.MonkeyPatch,
    network: SegmentationModel,
    float32: float,
    bfloat16: float,
    dtype: torch.dtype,
    reason: str,
    training: bool,
) -> None:
    Measured(monkeypatch, float32, bfloat16)
    assert pick_precision("auto", CPU, network, training) == (dtype, reason)


def test_one_measurement_serves_all_processes(
    monkeypatch: pytest.MonkeyPatch, network: SegmentationModel, cache: Path
) -> None:
    first = Measured(monkeypatch, 0.2, 0.1)
    picked = [pick_precision("auto", CPU, network) for _ in range(2)]
    assert first.times == 1
    monkeypatch.setattr(precision, "_known", {})  # another process
    second = Measured(monkeypatch, 0.1, 0.2)
    assert [pick_precision("auto", CPU, network)] == picked[:1] == picked[1:]
    assert second.times == 0
    assert [*cache.parent.glob("*.part")] == []


def another_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_processor", lambda: "another one")


def another_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "99.0")


def other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)


@pytest.mark.parametrize("change", [another_processor, another_torch, other_threads])
def test_a_measurement_elsewhere_does_not_count(
    monkeypatch: pytest.MonkeyPatch, network: SegmentationModel, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    Measured(monkeypatch, 0.2, 0.1)
    assert pick_precision("auto", CPU, network).name == "bfloat16"
    change(monkeypatch)
    Measured(monkeypatch, 0.1, 0.2)
    assert pick_precision("auto", CPU, network).name == "float32"


def test_networks_and_training_are_measured_on_their_own(
    monkeypatch: pytest.MonkeyPatch, network: SegmentationModel
) -> None:
    measured = Measured(monkeypatch, 0.2, 0.1)
    for one, training in product([network, tiny.network(tiny.recipe(tiny.GFFNET))], [False, True]):
        pick_precision("auto", CPU, one, training)
    assert measured.times == 4
    pick_precision("auto", CPU, tiny.network(tiny.recipe(), seed=1))  # other weights take as long
    assert measured.times == 4


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"KEY": 1}',
        '{"KEY": {"float32": 1.0}}',
        '{"KEY": {"float32": 1.0, "bfloat16": "fast"}}',
        '{"KEY": {"float32": 1.0, "bfloat16": -1.0}}',
        '{"KEY": {"float32": 1.0, "bfloat16": NaN}}',
    ],
)
def test_a_damaged_cache_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, network: SegmentationModel, cache: Path, text: str
) -> None:
    cache.parent.mkdir()
    cache.write_text(text.replace("KEY", precision.cache_key(network, CPU, False)))
    measured = Measured(monkeypatch, 0.2, 0.1)
    assert pick_precision("auto", CPU, network).name == "bfloat16"
    monkeypatch.setattr(precision, "_known", {})
    assert pick_precision("auto", CPU, network).name == "bfloat16"
    assert measured.times == 1


def test_a_folder_that_cannot_be_written_is_no_error(
    monkeypatch: pytest.MonkeyPatch, network: SegmentationModel, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    measured = Measured(monkeypatch, 0.2, 0.1)
    for _ in range(2):
        assert pick_precision("auto", CPU, network).name == "bfloat16"
    assert measured.times == 1


def test_what_could_not_be_timed_is_tried_again(monkeypatch: pytest.MonkeyPatch, network: SegmentationModel) -> None:
    Measured(monkeypatch, 0.1, inf)
    assert pick_precision("auto", CPU, network).name == "float32"
    monkeypatch.setattr(precision, "_known", {})
    Measured(monkeypatch, 0.2, 0.1)
    assert pick_precision("auto", CPU, network).name == "bfloat16"


LOCKED = """
import sys, time
from pathlib import Path
from gffnet.inference import precision
def measure(*_):
    Path(sys.argv[1], "measured").open("a").write("x")
    time.sleep(0.5)
    return {"float32": 1.0, "bfloat16": 2.0}
precision.measure, precision.cache_key = measure, lambda *_: "key"
print(precision.pick_precision("auto", precision.torch.device("cpu"), None).name)
"""


@pytest.mark.slow
def test_of_several_processes_one_measures(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOCKED, str(tmp_path)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == ["float32"] * 2
    assert (tmp_path / "measured").read_text() == "x"


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_a_measurement_leaves_network_and_random_numbers_as_they_are(training: bool) -> None:
    recipe = tiny.recipe({**tiny.GFFNET, "dropout": 0.5})
    network = tiny.network(recipe).train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    seconds = precision.measure(network, CPU, training)
    assert seconds.keys() == BOTH
    assert all(0 < value < 60 for value in seconds.values())
    assert torch.equal(torch.rand(1), wanted)
    assert network.training is training
    assert not network.folded
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("training", [False, True])
def test_a_network_that_does_not_run_in_bfloat16(training: bool) -> None:
    class Exact(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.dtype != torch.float32:
                raise NotImplementedError("not implemented for 'BFloat16'")
            return x

    network = tiny.network(tiny.recipe())
    network.context = nn.Sequential(network.context, Exact())
    seconds = precision.measure(network, CPU, training)
    assert seconds["float32"] < 60
    assert isinf(seconds["bfloat16"])


def test_the_calls_take_turns_and_the_fastest_of_each_counts() -> None:
    now, log = 0.0, list[str]()
    durations = {"a": iter([5.0, 1.0, 2.0]), "b": iter([4.0, 3.0, 9.0])}

    def call(name: str) -> None:
        nonlocal now
        log.append(name)
        now += next(durations[name])

    def fail() -> None:
        log.append("c")
        raise RuntimeError

    found = precision.fastest({"a": lambda: call("a"), "b": lambda: call("b"), "c": fail}, clock=lambda: now)
    assert found == {"a": 1.0, "b": 3.0, "c": inf}
    assert log == ["a", "b", "c", "a", "b", "a", "b"]


def test_calls_are_told_from_pixels(monkeypatch: pytest.MonkeyPatch, network: SegmentationModel) -> None:
    """bfloat16 takes longer for every image that is timed, and less for one of the usual size."""

    def pretend(calls: Mapping[str, Any]) -> dict[str, float]:
        pixels = calls["float32"].args[0].shape[-1] ** 2
        return {"float32": 0.001 + 2e-7 * pixels, "bfloat16": 0.01 + 1e-7 * pixels}

    monkeypatch.setattr(precision, "fastest", pretend)
    seconds = precision.measure(network, CPU, False)
    assert seconds == pytest.approx({"float32": 0.001 + 2e-7 * 360 * 480, "bfloat16": 0.01 + 1e-7 * 360 * 480})
    assert pick_precision("auto", CPU, network).name == "bfloat16"


@pytest.mark.parametrize("given", ["float32", "bfloat16"])
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, network: SegmentationModel, given: str) -> None:
    monkeypatch.setenv("GFFNET_PRECISION", given)
    assert pick_precision("auto", CPU, network) == (getattr(torch, given), "as GFFNET_PRECISION says")
    assert pick_precision("float32", CPU, network).reason == "as asked"


def test_an_environment_that_cannot_decide(monkeypatch: pytest.MonkeyPatch, network: SegmentationModel) -> None:
    monkeypatch.setenv("GFFNET_PRECISION", "half")
    with pytest.raises(UserError, match=r"^GFFNET_PRECISION=half: it must be auto, float32 or bfloat16\.$"):
        pick_precision("auto", CPU, network)


def test_other_devices_compute_in_float32(network: SegmentationModel) -> None:
    assert pick_precision("auto", torch.device("mps"), network) == (torch.float32, "the safe choice on mps")


@pytest.mark.parametrize("name", ["float32", "bfloat16"])
@pytest.mark.parametrize("device", [CPU, CUDA, torch.device("mps")])
def test_what_is_asked_for_is_taken(name: str, device: torch.device, network: SegmentationModel) -> None:
    picked = pick_precision(name, device, network)
    assert picked == (getattr(torch, name), "as asked")
    assert picked.describe(device) == f"{name} on {device}: as asked"


def test_an_unknown_precision_is_refused_by_its_name(network: SegmentationModel) -> None:
    with pytest.raises(UserError, match=r"precision 'fp16' is unknown\..*Allowed: auto, bfloat16, float16, float32"):
        pick_precision("fp16", CPU, network)


def test_the_precision_of_what_is_resumed() -> None:
    assert resumed_precision("auto", "bfloat16") == (torch.bfloat16, "as recorded")
    assert resumed_precision("float32", "bfloat16") == "float32"
    assert resumed_precision("auto", None) == "auto"
    assert resumed_precision("auto", "int8") == "auto"  # of an exported file, which no network computes in


@pytest.mark.parametrize(("available", "device"), [(True, "cuda"), (False, "cpu")])
def test_a_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch, available: bool, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert pick_device() == torch.device(device)


OTHERS = ["cuda:99", "gpu", "", "cpu:x", "meta", "mps", "xpu", "hpu", "tpu", "vulkan", "0", "0,1", "cuda 0", "cuda:"]


@pytest.mark.parametrize("name", OTHERS)
def test_a_device_that_cannot_be_used(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without any: one short line, which names those that there are."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError) as error:
        pick_device(name)
    assert re.fullmatch(f"device '{name}' cannot be used here: [^\n]+ Devices here: auto, cpu.", str(error.value))
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("gpu", "Did you mean 'cuda:0'?"),
        ("GPU", "Did you mean 'cuda:0'?"),
        ("CUDA:1", "Did you mean 'cuda:1'?"),
        ("cuda1", "Did you mean 'cuda:1'?"),
        ("1", "Did you mean 'cuda:1'?"),
        ("CPU", "Did you mean 'cpu'?"),
        ("cuda:2", "GPUs are numbered from 0. Devices"),
        ("cuda:1", "here: CUDA error: all CUDA-capable devices are busy or unavailable. Devices"),
        ("cuda", "here: CUDA error: all CUDA-capable devices are busy or unavailable. Devices"),
        ("0,1", "it must be one device. Devices"),
        ("mps", "it is the GPU of an Apple computer, and torch finds none. Devices"),
    ],
)
def test_what_was_meant_by_a_device(name: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with two GPUs, whose torch computes on neither."""

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nFor debugging ...")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch, "zeros", fail)
    with pytest.raises(UserError, match=re.escape(said)) as error:
        pick_device(name)
    assert str(error.value).endswith("Devices here: auto, cpu, cuda:0, cuda:1.")


def test_a_build_of_torch_for_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(UserError, match=r"torch .* is built for CPUs; https://pytorch\.org/get-started"):
        pick_device("cuda")


CODE = """
import resource, torch
from gffnet.inference.precision import keep_pages

def faults():
    for _ in range(20):  # until it has grown enough
        torch.ones(2**24)  # 64 MB
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

default = faults()
keep_pages()
print(default, faults())
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs glibc")
def test_freed_memory_is_kept() -> None:
    """Page faults of five tensors of 64 MB, each freed before the next, without and with it."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=60, check=True)
    default, kept = map(int, done.stdout.split())
    assert kept < 500
    assert default > 10 * kept
