"""Prediction from and to an S3 server on this machine, by one process and on Ray."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gffnet.models.gffnet import save_model
from tests import tiny

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server."""
    moto = pytest.importorskip("moto.server", reason="pip install 'moto[s3]' flask flask-cors")
    pytest.importorskip("s3fs", reason="pip install 'gffnet[s3]'")
    running = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.mark.parametrize("more", [[], ["--ray", "local"]], ids=["one process", "Ray"])
def test_from_and_to_s3(more: list[str], server: str, tmp_path: Path) -> None:
    """More keys than a page holds are listed; a second run has nothing to do."""
    if more:
        pytest.importorskip("ray", reason="pip install 'gffnet[ray]'")
    import s3fs

    access = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    store = s3fs.S3FileSystem(key="a", secret="b", endpoint_url=server, skip_instance_cache=True)
    bucket = f"bucket{len(more)}"
    store.mkdir(bucket)
    recipe = tiny.recipe()
    save_model(tmp_path / "model", tiny.network(recipe), tiny.config(recipe))
    for i in range(4):
        Image.fromarray(tiny.picture(i)).save(tmp_path / f"{i}.png")
    store.pipe({f"{bucket}/in/{i}.png": (tmp_path / f"{i}.png").read_bytes() for i in range(4)})
    store.pipe({f"{bucket}/in/a/notes-{i:04d}.txt": b"." for i in range(1200)})
    store.pipe({f"{bucket}/in/z/bad.png": b"no image"})
    store.pipe({f"{bucket}/in/0.png/1.png": (tmp_path / "1.png").read_bytes()})  # its prefix is a key, too
    store.put(str(tmp_path / "model"), f"{bucket}/model", recursive=True)
    command = [sys.executable, "-m", "gffnet", "predict", f"s3://{bucket}/in", "--out", f"s3://{bucket}/out", "--json"]
    command += ["--model", f"s3://{bucket}/model", "--precision", "float32", *more]
    environment = {**os.environ, **access, "AWS_ENDPOINT_URL": server, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for written, skipped in ((5, 0), (0, 5)):
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert run.returncode == 1, run.stderr
        found = json.loads(run.stdout)
        assert (found["written"], found["skipped"]) == (written, skipped)
        assert [each["file"] for each in found["failed"]] == [f"s3://{bucket}/in/z/bad.png"]
    store.invalidate_cache()
    keys = {key.removeprefix(f"{bucket}/out/") for key in store.find(f"{bucket}/out")}
    assert {key for key in keys if key.startswith("labels/")} == {
        *(f"labels/{i}.png.png" for i in range(4)),
        "labels/0.png/1.png.png",
    }
    assert {key for key in keys if "/" not in key} == {"areas.csv", "failed.txt", "legend.svg", "predict.json"}
