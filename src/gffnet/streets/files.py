"""Writes street scenes as a data set in the Cityscapes layout."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from gffnet.parallel import in_processes
from gffnet.streets.canvas import Bytes
from gffnet.streets.scene import check_size, render_street

CITIES = {"train": ("aldervik", "brunnau", "castelmar", "dornfels", "eskeby"), "val": ("falkenmoor", "grauhaven")}
SPLITS = {"train": 0, "val": 1}


class Job(NamedTuple):
    """One scene to write."""

    out: Path
    split: str
    number: int
    size: tuple[int, int]
    seed: int

    def path(self, folder: str, suffix: str) -> Path:
        """Where the scene's image (`leftImg8bit`) or labels (`gtFine`) belong."""
        cities = CITIES[self.split]
        city = cities[self.number % len(cities)]
        name = f"{city}_{self.number // len(cities):06d}_{self.number:06d}_{suffix}.png"
        return self.out / folder / self.split / city / name


def write_streets(
    out: Path,
    train: int,
    val: int,
    size: tuple[int, int] = (512, 1024),
    seed: int = 0,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write `train` and `val` scenes of `size` (rows, columns) under `out`, as `leftImg8bit` and `gtFine` folders.

    The files depend on counts, size and seed only, not on the number of workers (default: one per processor). Scenes
    of the two splits come from different seeds and cities. `progress(done, total)` is called after every scene.
    Raises `ValueError` for negative counts, no scenes at all, a negative seed, less than one worker, too small a size.
    """
    check_size(size)
    for name, value, least in (("train", train, 0), ("val", val, 0), ("seed", seed, 0), ("workers", workers, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}: it must be {least} or more")
    if train + val == 0:
        raise ValueError("train and val are both 0: at least one scene must be asked for")
    jobs = [Job(Path(out), "train", i, size, seed) for i in range(train)]
    jobs += [Job(Path(out), "val", i, size, seed) for i in range(val)]
    workers = workers or os.cpu_count() or 1
    for done, _ in enumerate(in_processes(write_scene, jobs, min(workers, len(jobs))), start=1):
        if progress:
            progress(done, len(jobs))


def write_scene(job: Job) -> None:
    """Render and write one scene."""
    street = render_street((job.seed, SPLITS[job.split], job.number), job.size)
    _save(street.image, job.path("leftImg8bit", "leftImg8bit"))
    _save(street.label_ids, job.path("gtFine", "gtFine_labelIds"))


def _save(pixels: Bytes, path: Path) -> None:
    """Write a PNG under a temporary name, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    Image.fromarray(pixels).save(temporary, format="PNG")
    temporary.replace(path)
