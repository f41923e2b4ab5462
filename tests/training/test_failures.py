"""What breaks a run off, said so that its reader can act; memory that is out is provoked in processes of their own."""

import errno
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from gffnet.errors import CannotWrite, RunFailed, UserError
from gffnet.training.dry_run import Setup, plan_memory
from gffnet.training.failures import explained, out_of_memory
from tests import tiny
from tests.data.trees import camvid_tree


def setup(**training: Any) -> Setup:
    recipe = tiny.recipe(**{"batch": 8, "crop": [864, 864], **training})
    return Setup(recipe, 11, torch.device("cpu"), torch.float32)


SETUP = setup()
ENOUGH = 10**12


def explain(error: BaseException, out: Path = Path("runs/x"), workers: int = 4) -> str:
    with pytest.raises(RunFailed) as caught, explained(out, SETUP, 8, workers):
        raise error
    return str(caught.value)


def test_a_full_disk_says_what_is_whole(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert explain(full, tmp_path) == (
        f"cannot write to {tmp_path}: No space left on device. "
        "No checkpoint was written yet: make room, and begin anew."
    )
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    kept = f"The checkpoint before, {tmp_path}/checkpoints/last.ckpt, is whole: make room, and go on by the same"
    assert kept in explain(full, tmp_path)
    assert explain(CannotWrite("cannot write x: full."), tmp_path).startswith(f"cannot write x: full. {kept}")


def test_a_dead_worker_names_fewer() -> None:
    dead = RuntimeError("DataLoader worker (pid(s) 123) exited unexpectedly")
    assert explain(dead).endswith("--resume, and with fewer of them: --set training.workers=2.")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to"),
        MemoryError(),
    ],
)
def test_memory_that_is_out_names_half_the_images(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gffnet.training.failures.free_memory", lambda device: ENOUGH)
    assert explain(error) == (
        "out of memory with 8 images of 864x864 at a time. Take fewer at a time, and the batch stays what it is: "
        "--set training.device_batch=4. Go on by the same command with it and --resume."
    )


@pytest.mark.parametrize(("part", "fit", "named"), [(None, 3, 2), (None, 1, 1), (None, 0, 1), (4, 8, 2), (2, 8, 1)])
def test_what_fits_is_reckoned(part: int | None, fit: int, named: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for `fit` images: the most that fit, fewer than there were; one, where it looks as if none did."""
    of = setup(device_batch=part)
    memory = plan_memory(of, 8)
    free = memory.needed(fit) if fit else 1
    monkeypatch.setattr("gffnet.training.failures.free_memory", lambda device: free)
    assert f"--set training.device_batch={named}. " in out_of_memory(of, 8)


def test_memory_that_is_out_with_one_image_names_a_crop_of_half_the_pixels() -> None:
    said = out_of_memory(setup(crop=[864, 640], device_batch=1), 8)
    assert said.startswith(
        "out of memory with 1 image of 864x640 at a time. Take smaller crops: --set training.crop='["
    )
    height, width = yaml.safe_load(said.split("'")[1])
    assert height % 16 == width % 16 == 0
    assert 0.4 < height * width / (864 * 640) < 0.55


def test_other_errors_are_left_as_they_are(tmp_path: Path) -> None:
    for error in (
        RuntimeError("shapes differ"),
        UserError("no such file"),
        OSError(errno.ENOENT, "gone"),
        KeyError("x"),
    ):
        with pytest.raises(type(error)) as caught, explained(tmp_path, SETUP, 8, 0):
            raise error
        assert caught.value is error


def test_an_interrupt_says_how_to_go_on(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt, match=rf"go on with {tmp_path} by the same"),
        explained(tmp_path, SETUP, 8, 0),
    ):
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does
        raise SystemExit(1)
    assert signal.getsignal(signal.SIGINT) is before


LITTLE_MEMORY = """
import resource, sys
from gffnet.cli import main
from gffnet.training.task import SegmentationTask

step = SegmentationTask.training_step

def with_little(self, batch, index):
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, resource.RLIM_INFINITY))
    return step(self, batch, index)

SegmentationTask.training_step = with_little
sys.exit(main(sys.argv[1:]))
"""

NO_ROOM = """
import resource, signal, sys
from gffnet.cli import main
from gffnet.training.checkpoint import KeepLast

save = KeepLast.save

def with_little_room(self, trainer, task):
    if trainer.global_step == 4:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
    save(self, trainer, task)

KeepLast.save = with_little_room
sys.exit(main(sys.argv[1:]))
"""


def cli(code: str, tmp_path: Path, **training: object) -> subprocess.CompletedProcess[str]:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(yaml.safe_dump(tiny.recipe(**training).to_mapping()))
    root = camvid_tree(tmp_path / "CamVid")
    command = [sys.executable, "-c", code, "train", str(recipe), "--root", str(root), "--out", str(tmp_path / "run")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="needs Linux to limit memory")
def test_memory_that_is_really_out(tmp_path: Path) -> None:
    done = cli(LITTLE_MEMORY, tmp_path, crop=[512, 512], batch=4)
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().splitlines()[-1] == (
        "error: out of memory with 4 images of 512x512 at a time. Take fewer at a time, and the batch stays what it "
        "is: --set training.device_batch=2. Go on by the same command with it and --resume."
    )
    assert "Traceback" not in done.stderr


def test_a_disk_that_is_really_full_leaves_the_checkpoint_before_whole(tmp_path: Path) -> None:
    """A limit on the size of files makes writing fail in its midst, as a full disk does."""
    done = cli(NO_ROOM, tmp_path)
    assert done.returncode == 1, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: cannot write {tmp_path}/run/checkpoints/last.ckpt: ")
    assert last.endswith("is whole: make room, and go on by the same command with --resume.")
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 2
    assert [path.name for path in (tmp_path / "run/checkpoints").iterdir()] == ["last.ckpt"]
