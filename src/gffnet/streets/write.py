"""Write street scenes as a data set in the Cityscapes layout."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image

from gffnet.files import atomic_file
from gffnet.parallel import available_cores, in_processes
from gffnet.streets.render import Bytes
from gffnet.streets.scene import check_size, render_street

CITIES = {"train": ("aldervik", "brunnau", "castelmar", "dornfels", "eskeby"), "val": ("falkenmoor", "grauhaven")}


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

    The files depend on counts, size and seed only, not on the number of workers (default: one per core). Scenes
    of the two splits come from different seeds and cities. `progress(done, total)` is called after every scene.
    Raises `ValueError` for negative counts, no scenes at all, a negative seed, less than one worker, another size than
    `render_street` takes.
    """
    check_size(size)
    for name, value, least in (("train", train, 0), ("val", val, 0), ("seed", seed, 0), ("workers", workers, 1)):
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}: it must be {least} or more")
    if train + val == 0:
        raise ValueError("train and val are both 0: at least one scene must be asked for")
    scenes = [("train", number) for number in range(train)] + [("val", number) for number in range(val)]
    work = partial(_write_scene, out=Path(out), size=size, seed=seed)
    workers = min(workers or available_cores(), len(scenes))
    for done, _ in enumerate(in_processes(work, scenes, workers), start=1):
        if progress:
            progress(done, len(scenes))


def _write_scene(scene: tuple[str, int], out: Path, size: tuple[int, int], seed: int) -> None:
    """Render and write one scene, given by its split and number."""
    split, number = scene
    cities = CITIES[split]
    city = cities[number % len(cities)]
    name = f"{city}_{number // len(cities):06d}_{number:06d}"
    street = render_street((seed, list(CITIES).index(split), number), size)
    _save(street.image, out / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png")
    _save(street.label_ids, out / "gtFine" / split / city / f"{name}_gtFine_labelIds.png")


def _save(pixels: Bytes, path: Path) -> None:
    with atomic_file(path) as file:
        Image.fromarray(pixels).save(file, format="PNG")
