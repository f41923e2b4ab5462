"""The device and the dtype to compute in, and the memory allocator of the CPU.

Which dtype is faster depends on processor, version of torch, threads and network: a processor with instructions for
bfloat16 may take twice the time in it, or half, and dense and depthwise convolutions differ. So `auto` measures.
"""

import copy
import ctypes
import hashlib
import json
import logging
import math
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import filelock
import torch
from torch import Tensor

from gffnet.errors import CannotWrite, UserError, first_line, unknown
from gffnet.files import write_json
from gffnet.models.gffnet import SegmentationModel
from gffnet.remote import cache_folder

log = logging.getLogger("gffnet")


class Precision(NamedTuple):
    """A dtype and why it was chosen."""

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """The dtype's name, such as `bfloat16`."""
        return str(self.dtype).removeprefix("torch.")

    def describe(self, device: torch.device) -> str:
        """Describe the choice for the log: `bfloat16 on cpu: 1.9 times as fast as float32 here`."""
        return f"{self.name} on {device}: {self.reason}"


def resumed_precision(name: str, recorded: str | None) -> str | Precision:
    """Return the precision `name`; for `auto`, that in which what is resumed began, if a network can compute in it."""
    if name != "auto" or recorded not in PRECISIONS:  # int8 is that of an exported file
        return name
    return Precision(getattr(torch, recorded), "as recorded")


def pick_device(device: str = "auto") -> torch.device:
    """Return a device by its name in torch; `auto` is an NVIDIA GPU if there is one, else the CPU.

    Raises:
        UserError: there is no such device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:  # torch knows names of what it is not built for
        name, here = str(device), usable_devices()
        meant = _device_meant(name)
        there = name in here or (name == "cuda" and torch.cuda.is_available())  # busy, or its memory is full
        hint = f" Did you mean {meant!r}?" if meant in here and not there else ""
        cause = first_line(error)[:150].rstrip(". ") if there else _no_device(name)
        raise UserError(
            f"device {name!r} cannot be used here: {cause}.{hint} Devices here: auto, {', '.join(here)}."
        ) from None
    return torch.device(device)


def usable_devices() -> list[str]:
    """The devices that this torch can compute on here, by their names in torch."""
    gpus = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    others = {"mps": torch.backends.mps.is_available(), "xpu": torch.xpu.is_available()}
    return ["cpu", *gpus, *(name for name, there in others.items() if there)]


def _device_meant(name: str) -> str:
    """What other tools' names of devices, such as `GPU` and `0`, are in torch."""
    number = re.fullmatch(r" *(?:cuda|gpu)?[ :]*([0-9]*) *", name.lower())
    return f"cuda:{number[1] or 0}" if number else name.lower().strip()


def _no_device(name: str) -> str:
    """Why there is no device of this name."""
    if "," in name:
        return "it must be one device"
    match name.partition(":")[0]:
        case "cuda" if not torch.version.cuda and not torch.version.hip:
            return (
                f"torch {torch.__version__} is built for CPUs; https://pytorch.org/get-started/locally says how to "
                "install a build for GPUs"
            )
        case "cuda" if not torch.cuda.is_available():
            return "torch finds no GPU: see whether nvidia-smi lists one, and what CUDA_VISIBLE_DEVICES is"
        case "cuda":
            return "GPUs are numbered from 0"
        case "mps":
            return "it is the GPU of an Apple computer, and torch finds none"
        case "xpu":
            return "it is a GPU by Intel, and torch finds none"
    return "it is not a device that gffnet computes on"


# Precision


PRECISIONS = ("float32", "bfloat16", "float16")
"""That a network may compute in."""
AUTO_PRECISION = "GFFNET_PRECISION"
"""Environment variable: what `auto` is, in place of what is measured."""

TIE = 1.03
"""float32, the more exact, is chosen unless bfloat16 is more than this many times as fast."""


def pick_precision(
    name: str | Precision, device: torch.device, network: SegmentationModel, training: bool = False
) -> Precision:
    """Return the precision `name`; for `auto` the faster of float32 and bfloat16, by measurement on CPUs and CUDA.

    Args:
        name: `auto` or a dtype; a precision is returned as it is.
        device: to compute on.
        network: whose convolutions are timed, on first use for some tenths of a second, with training for about two
            seconds; then the result is read from a cache. It is not changed.
        training: time forward and backward pass under autocast, instead of prediction.

    Raises:
        UserError: there is no such precision; the environment variable GFFNET_PRECISION is neither float32 nor
            bfloat16.
    """
    if isinstance(name, Precision):
        return name
    if name != "auto":
        if name not in PRECISIONS:
            raise unknown("precision", str(name), ("auto", *PRECISIONS))
        return Precision(getattr(torch, name), "as asked")
    if (given := os.environ.get(AUTO_PRECISION, "auto")) != "auto":
        if given not in ("float32", "bfloat16"):
            raise UserError(f"{AUTO_PRECISION}={given}: it must be auto, float32 or bfloat16.")
        return Precision(getattr(torch, given), f"as {AUTO_PRECISION} says")
    if device.type not in ("cpu", "cuda"):
        return Precision(torch.float32, f"the safe choice on {device.type}")
    return faster(cached_seconds(network, device, training))


def faster(seconds: Mapping[str, float]) -> Precision:
    """Choose by the seconds of `float32` and of `bfloat16`; infinite: it does not run here."""
    full, half = seconds["float32"], seconds["bfloat16"]
    if math.isinf(full):
        return Precision(torch.float32, "the safe choice: the network could not be timed")
    if math.isinf(half):
        return Precision(torch.float32, "bfloat16 does not run here")
    if full > TIE * half:
        return Precision(torch.bfloat16, f"{full / half:.2g} times as fast as float32 here")
    if half > TIE * full:
        return Precision(torch.float32, f"{half / full:.2g} times as fast as bfloat16 here")
    return Precision(torch.float32, "as fast as bfloat16 here, and more exact")


# The measurement
#
# The seconds of a step are a + b · pixels. The constant part, of calls and of the conversion of weights, differs
# between dtypes, and with small images it is most of the time: two sizes of image give a and b.

_SIDES = {"cpu": (64, 128, 256), "cuda": (512,)}
"""Of the square images that are timed, by the device: two, and the third where these leave a doubt."""
_CLEAR, _ENOUGH = 1.2, 3.0
"""There is no doubt where both sizes favour one dtype by this factor, nor time for a third after so many seconds."""
_PIXELS = {False: 360 * 480, True: 8 * 240 * 320}
"""Pixels of the step of prediction and of training that is compared."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

Seconds: TypeAlias = dict[str, float]
"""Of a step, by the dtype's name; infinite where it does not run."""


def measure(network: SegmentationModel, device: torch.device, training: bool) -> Seconds:
    """Time a network, of which a copy is made, in every dtype."""
    times: list[tuple[int, Seconds]] = []
    found: Seconds = {}
    gpus = [device.index or 0] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus):  # dropout draws
        steps = {name: _Step(network, device, dtype, training) for name, dtype in _DTYPES.items()}
        start = time.perf_counter()
        for side in _SIDES[device.type]:
            batch = 2 if training else 1 if device.type == "cpu" else 4  # normalisation needs two
            images = torch.randint(256, (batch, len(network.mean), side, side)).to(device, torch.uint8)
            images = images.contiguous(memory_format=torch.channels_last)
            times.append((batch * side * side, fastest({name: partial(step, images) for name, step in steps.items()})))
            found = {name: _at(_PIXELS[training], [(n, seconds[name]) for n, seconds in times]) for name in _DTYPES}
            ratios = [seconds["float32"] / seconds["bfloat16"] for seconds in (times[0][1], found)]
            clear = min(ratios) > _CLEAR or max(ratios) < 1 / _CLEAR
            if len(times) > 1 and (clear or time.perf_counter() - start > _ENOUGH):
                break
    return found


class _Step:
    """A step of a copy of a network, as `Predictor` and `SegmentationTask` compute it."""

    def __init__(self, network: SegmentationModel, device: torch.device, dtype: torch.dtype, training: bool) -> None:
        self.dtype, self.training = dtype, training
        ready = copy.deepcopy(network)
        ready = ready.train().to(device) if training else ready.eval().fold().to(device, dtype)
        self.network = ready.to(memory_format=torch.channels_last)

    def __call__(self, images: Tensor) -> None:
        if self.training:
            with torch.autocast(images.device.type, self.dtype, enabled=self.dtype != torch.float32):
                logits = self.network(images).logits
            logits.float().square().mean().backward()
            self.network.zero_grad()
        else:
            with torch.inference_mode():
                self.network(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)


def fastest(
    calls: Mapping[str, Callable[[], None]], rounds: int = 3, clock: Callable[[], float] = time.perf_counter
) -> Seconds:
    """Return the least seconds of each call, infinite if it raises.

    The calls take turns, and minima count: a moment in which others use the processor decides nothing.
    """
    seconds = dict.fromkeys(calls, math.inf)
    failed = set()
    for _ in range(rounds):
        for name, call in calls.items():
            if name in failed:
                continue
            start = clock()
            try:
                call()
            except Exception as error:  # what parts of a user's own raise in a dtype that they do not support
                log.debug("%s does not run here: %s", name, error)
                failed.add(name)
                seconds[name] = math.inf
            else:
                seconds[name] = min(seconds[name], clock() - start)
    return seconds


def _at(pixels: int, times: Sequence[tuple[int, float]]) -> float:
    """Seconds of a step of so many pixels, on the line through the first and the last of `times`: pixels, seconds."""
    (few, a), (many, b) = times[0], times[-1]
    return b if many == few or math.isinf(a + b) else b + max(0.0, b - a) / (many - few) * (pixels - many)


# The cache: the seconds of all networks that were measured, as JSON

_CACHE = "precision.json"
_KEPT = 500
"""Entries of the cache; the oldest go."""
_known: dict[str, Seconds] = {}
"""What this process has measured or read, by the key of the cache."""


def cached_seconds(network: SegmentationModel, device: torch.device, training: bool) -> Seconds:
    """Return what `measure` does, from this process or the cache of the user if it was measured before.

    Of several processes, one measures and the others wait for it, so that all know the same. Where the cache cannot be
    written, every process measures.
    """
    key = cache_key(network, device, training)
    if key not in _known:
        path = cache_folder() / _CACHE
        with _lock(path.with_suffix(".lock")):
            found = _read(path)
            if key not in found:
                found[key] = measure(network, device, training)
                if _is_seconds(found[key]):  # a step that failed may run next time
                    kept = dict(list(found.items())[-_KEPT:])
                    with suppress(CannotWrite):
                        write_json(path, kept)
            _known[key] = found[key]
    return _known[key]


def cache_key(network: SegmentationModel, device: torch.device, training: bool) -> str:
    """Return a text of everything that the seconds depend on."""
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    kind = hashlib.sha256(repr(network).encode()).hexdigest()[:16]
    threads = torch.get_num_threads()
    return (
        f"{where}, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}, "
        f"network {kind}, {'training' if training else 'prediction'}"
    )


def _processor() -> str:
    """Name the processor, with a hash of what tells it from others of its name: family, model, instructions."""
    with suppress(OSError):
        first = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0]
        facts = dict(re.findall(r"^(.*?)\s*: (.*)$", first, re.M))
        told = [facts.get(key, "") for key in ("vendor_id", "cpu family", "model", "stepping", "flags", "Features")]
        return f"{facts.get('model name', platform.machine())} {hashlib.sha256(repr(told).encode()).hexdigest()[:8]}"
    return f"{platform.machine()} {platform.processor()}"


def _read(path: Path) -> dict[str, Seconds]:
    """Return the cache without what is damaged."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return {key: value for key, value in entries.items() if _is_seconds(value)}
    except (OSError, ValueError, AttributeError):
        return {}


def _is_seconds(value: Any) -> bool:
    if not isinstance(value, dict) or value.keys() != _DTYPES.keys():
        return False
    return all(isinstance(seconds, float) and 0 < seconds < math.inf for seconds in value.values())


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Keep other processes waiting, half a minute at most; where there is no lock to be had, do not."""
    with ExitStack() as stack:
        with suppress(OSError, NotImplementedError, filelock.Timeout):
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(filelock.FileLock(path, timeout=30))
        yield


# Memory


_M_MMAP_MAX, _M_TRIM_THRESHOLD = -4, -1
"""Parameters of `mallopt`, from malloc.h."""


def keep_pages() -> None:
    """Make glibc keep freed memory for the next iteration. Does nothing with another C library.

    By default, glibc returns large blocks to the system and gets them anew, page by page and zeroed, in every
    iteration: 170,000 page faults in one with eight images of 240x240. With the pages kept, an iteration takes 0.92 of
    the time and 3 % more memory (docs/speed.md).
    """
    with suppress(OSError, AttributeError, TypeError):  # TypeError: the system has no such library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
