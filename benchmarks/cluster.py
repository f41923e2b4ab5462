"""Prediction on Ray and from an S3 server on this machine: what is right after a failure, what is fast, what it costs.

    python benchmarks/cluster.py ray --images 2000 --bad 40       # beside plain predict; an actor is killed
    python benchmarks/cluster.py s3 --images 2000 --bad 40        # connections are broken in the middle
    python benchmarks/cluster.py listing --keys 1000000           # memory and speed of the driver
    python benchmarks/cluster.py costs --images-a-second 10       # table for 1 to 1000 actors

Images are random blocks of color, small by default, and the network an untrained one, so that what is measured is not
the network. Images a second are those between a tenth and nine tenths of the results, by the times of the files; so
starting Ray and loading the model do not count. They are stated beside them.
"""

import argparse
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from gffnet.cli.arguments import Parser, size
from gffnet.errors import RunFailed, UserError
from gffnet.parallel import available_cores
from harness import add_count, add_out, machine, make_parser, positive, report, run

KILLER = """
import os, signal
from gffnet.inference import batch

real, calls = batch.write_labels, []

def write_labels(*arguments, **options):
    real(*arguments, **options)
    calls.append(1)
    if len(calls) == {after} and os.environ.get("RAY_JOB_ID"):
        try:
            open({flag!r}, "x").close()
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

batch.write_labels = write_labels
"""
"""A plug-in with which one actor kills itself in the middle."""


def make_images(folder: Path, number: int, bad: int, size: tuple[int, int]) -> None:
    """Write random blocks of color, and `bad` files that are no images, evenly among them."""
    rng = np.random.default_rng(0)
    broken = {(2 * i + 1) * number // (2 * bad) for i in range(bad)}
    for i in range(number):
        path = folder / f"{i // 500:02d}" / f"{i:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i in broken:
            path.write_bytes(b"no image" * 20)
        else:
            blocks = rng.integers(0, 256, (-(-size[0] // 16), -(-size[1] // 16), 3), np.uint8)
            Image.fromarray(blocks.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]).save(path)


def make_model(folder: Path) -> Path:
    """A network of 0.4 million parameters with random weights."""
    from gffnet import PSPNet

    PSPNet("test_resnet", num_classes=11, channels=32).save_pretrained(folder)
    return folder


def predict(*words: object, **environment: str) -> tuple[dict[str, int], float]:
    """Run `gffnet predict WORDS`; returns the numbers of written, skipped and failed files, and the seconds."""
    command = [sys.executable, "-m", "gffnet", "predict", *map(str, words), "--json", "--precision", "float32"]
    start = time.perf_counter()
    run = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    seconds = time.perf_counter() - start
    if run.returncode not in {0, 1} or not run.stdout:
        print(run.stderr[-3000:], file=sys.stderr)
        raise RunFailed(f"gffnet predict {' '.join(map(str, words))} failed: see above.")
    found = json.loads(run.stdout)
    return {"written": found["written"], "skipped": found["skipped"], "failed": len(found["failed"])}, seconds


def rate(out: Path) -> float:
    """Images a second, between a tenth and nine tenths of the results."""
    times = sorted(file.stat().st_mtime for file in (out / "labels").rglob("*.png"))
    first, last = len(times) // 10, len(times) * 9 // 10
    return (last - first) / (times[last] - times[first])


def labels(out: Path) -> dict[str, bytes]:
    """The label maps in a folder of results, by name."""
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in (out / "labels").rglob("*.png")}


def on_ray(arguments: argparse.Namespace) -> list[str]:
    """Beside plain predict; with an actor that is killed; and once more."""
    lines = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make_images(folder / "in", arguments.images, arguments.bad, arguments.size)
        model = arguments.model or make_model(folder / "model")
        common = [folder / "in", "--model", model, "--device", "cpu"]
        _, plain = predict(*common, "--out", folder / "plain")
        _, whole = predict(*common, "--out", folder / "ray", "--ray", "local")
        cores, start = available_cores(), time.perf_counter()
        with ThreadPoolExecutor(cores) as pool:
            out, one = folder / "shards", {"OMP_NUM_THREADS": "1"}
            shards = [f"{i + 1}/{cores}" for i in range(cores)]
            jobs = [pool.submit(predict, *common, "--out", out, "--shard", shard, **one) for shard in shards]
            _ = [job.result() for job in jobs]
        sharded, speed = time.perf_counter() - start, {name: rate(folder / name) for name in ("plain", "shards", "ray")}
        lines += [
            f"plain predict: {speed['plain']:.1f} images/s, {plain:.0f} s in all",
            f"{cores} shards at once, a thread each: {speed['shards']:.1f} images/s, {sharded:.0f} s in all",
            f"Ray, an actor a core: {speed['ray']:.1f} images/s, {whole:.0f} s in all: "
            f"{speed['ray'] / speed['plain']:.2f} of plain, {speed['ray'] / speed['shards']:.2f} of the shards",
        ]
        if not arguments.bad:
            return lines
        (folder / "killer.py").write_text(KILLER.format(flag=str(folder / "killed"), after=arguments.images // 8))
        found, _ = predict(*common, "--out", folder / "killed_out", "--ray", "local", "--plugin", folder / "killer.py")
        written, alone = labels(folder / "killed_out"), labels(folder / "plain")
        lines.append(
            f"an actor killed: {(folder / 'killed').exists()}; {found}; label maps equal those of a thread: "
            f"{written == labels(folder / 'shards')}; other than plain's: "
            f"{sum(written.get(name) != content for name, content in alone.items())}"
        )
        found, seconds = predict(*common, "--out", folder / "killed_out", "--ray", "local")
        lines.append(f"again: {found}, {seconds:.0f} s")
    return lines


# S3


class Breaking:
    """A proxy whose connections all break when so many were opened; for two seconds it takes no other."""

    def __init__(self, port: int, after: int) -> None:
        self._port, self._after, self._pairs = port, after, list[socket.socket]()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port, self.broken, self._opened = self._server.getsockname()[1], 0, 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            client, _ = self._server.accept()
            self._opened += 1
            if self._opened == self._after:
                for each in [client, *self._pairs]:
                    self.broken += each.fileno() >= 0
                    each.close()
                time.sleep(2)
                continue
            upstream = socket.create_connection(("127.0.0.1", self._port))
            self._pairs += [client, upstream]
            threading.Thread(target=self._pump, args=(client, upstream), daemon=True).start()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while True:
                for ready in select.select([one, other], [], [])[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    (other if ready is one else one).sendall(data)
        except (OSError, ValueError):
            pass
        finally:
            one.close()
            other.close()


@contextmanager
def moto() -> Iterator[int]:
    """An S3 server; yields its port."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    code = f"from moto.server import ThreadedMotoServer as S; S('127.0.0.1', {port}).start(); input()"
    server = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        server.kill()


def access(port: int) -> dict[str, str]:
    """The environment in which fsspec finds the server."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def on_s3(arguments: argparse.Namespace) -> list[str]:
    """From and to the server, by way of a proxy that breaks connections."""
    import s3fs

    lines = []
    with tempfile.TemporaryDirectory() as place, moto() as port:
        folder = Path(place)
        make_images(folder / "in", arguments.images, arguments.bad, arguments.size)
        model = arguments.model or make_model(folder / "model")
        os.environ.update(access(port))
        store = s3fs.S3FileSystem()
        store.mkdir("bucket")
        start = time.perf_counter()
        store.put(f"{folder / 'in'}/", "bucket/in/", recursive=True)
        lines.append(f"{arguments.images} small objects written in {time.perf_counter() - start:.0f} s by s3fs alone")
        predict(folder / "in", "--model", model, "--device", "cpu", "--out", folder / "plain")
        wanted = {name.removesuffix(".png"): data for name, data in labels(folder / "plain").items()}
        for title, more in (("one process", []), ("Ray, an actor a core", ["--ray", "local"])):
            proxy, out = Breaking(port, arguments.break_at), f"s3://bucket/{len(more)}"
            words = ["s3://bucket/in", "--out", out, "--model", model, "--device", "cpu", *more]
            found, seconds = predict(*words, **access(proxy.port))
            again, once_more = predict(*words, **access(port))
            store.invalidate_cache()
            stored = store.cat(store.find(f"bucket/{len(more)}/labels"))
            keys = {name.split("/", 2)[2].removesuffix(".jpg.png"): data for name, data in stored.items()}
            lines.append(
                f"{title}: {found}, {seconds:.0f} s, {proxy.broken} connections broken; label maps equal plain's: "
                f"{keys == wanted}; again: {again}, {once_more:.0f} s"
            )
    return lines


# Listing


class Pages(BaseHTTPRequestHandler):
    """Answers `list_objects_v2` of a bucket of `keys` keys, without having them."""

    protocol_version = "HTTP/1.1"
    keys = 0

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        first = int(query.get("continuation-token", ["0"])[0])
        last = min(first + int(query.get("max-keys", ["1000"])[0]), self.keys)
        entries = "".join(
            f"<Contents><Key>photos/folder-{i // 1000:04d}/{i:09d}.jpg</Key><Size>100000</Size><ETag>0</ETag>"
            "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            for i in range(first, last)
        )
        if query.get("prefix", [""])[0].rstrip("/") != "photos":
            entries, last = "", self.keys
        more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < self.keys else ""
        body = (
            f"<ListBucketResult><Name>bucket</Name><KeyCount>1</KeyCount>"
            f"<IsTruncated>{str(last < self.keys).lower()}</IsTruncated>{more}{entries}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


LIST = """
import pickle, sys, time
from pathlib import Path
from gffnet.inference.stream import Listing
from gffnet.inference.tiling import most_resident
from gffnet.remote import open_url

def peak():
    return most_resident() // 10**6

start, before, number = time.perf_counter(), peak(), 0
items = Listing(open_url("s3://bucket/photos"), Path("/nowhere"))
if sys.argv[1] == "alone":
    for item in items:
        number += 1
else:
    import ray.data
    from gffnet.inference import cluster

    class Nothing:
        def __call__(self, batch):
            return batch

    with cluster.connected("local"):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars, context.target_max_block_size = False, 1024
        begun = start = time.perf_counter()
        before = peak()
        actors = ray.data.ActorPoolStrategy(min_size=1)
        done = cluster._dataset(items).map_batches(Nothing, batch_size=None, compute=actors, num_cpus=1)
        for batch in done.iter_batches(batch_size=None, batch_format="numpy"):
            number += sum(len(pickle.loads(each)) for each in batch["items"])
seconds = time.perf_counter() - start
print(number, f"{seconds:.1f}", before, peak())
"""


def list_keys(arguments: argparse.Namespace) -> list[str]:
    """List keys that a server makes up, in this process and on Ray."""
    Pages.keys, lines = arguments.keys, []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for how in arguments.how:
        environment = {**os.environ, **access(server.server_address[1])}
        run = subprocess.run([sys.executable, "-c", LIST, how], capture_output=True, text=True, env=environment)
        if run.returncode:
            print(run.stderr[-3000:], file=sys.stderr)
            raise RunFailed(f"the listing failed ({how}): see above.")
        number, seconds, before, after = run.stdout.split()[-4:]
        title = "listed by one process" if how == "alone" else "listed and given out on Ray, actors do nothing"
        lines.append(
            f"{title}: {int(number):,} keys in {seconds} s, {int(number) / float(seconds):,.0f} a second; peak memory "
            f"of the driver {after} MB, {before} MB before"
        )
    return lines


# Costs


def costs(arguments: argparse.Namespace) -> list[str]:
    """Hours and money for a million images, of actors that each predict as many images a second."""
    lines = [
        "| actors | images an hour | hours for a million images | actor hours | cost | bound by |",
        "|" + "---|" * 6,
    ]
    for actors in (1, 3, 10, 30, 100, 300, 1000):
        rates = {"the network": actors * arguments.images_a_second, "listing and driver": arguments.driver}
        bound = min(rates, key=lambda name: rates[name])
        seconds = arguments.start + 1e6 / rates[bound]
        hours = actors * seconds / 3600
        lines.append(
            f"| {actors} | {3600 * 1e6 / seconds:,.0f} | {seconds / 3600:.2f} | {hours:.0f} | "
            f"{hours * arguments.price:,.0f} | {bound} |"
        )
    return lines


def main() -> None:
    """Run one of the measurements."""
    parser = make_parser(__doc__)
    commands = parser.add_subparsers(required=True, metavar="ray|s3|listing|costs", parser_class=Parser)
    for name, measure in (("ray", on_ray), ("s3", on_s3)):
        command = commands.add_parser(name)
        add_count(command, "--images", 2000, least=20)
        add_count(command, "--bad", 40, least=0)
        command.add_argument("--size", type=size, default=(64, 96))
        command.add_argument("--model")
        add_count(command, "--break-at", 3000, help="connections after which all break")
        command.set_defaults(run=measure)
    command = commands.add_parser("listing")
    add_count(command, "--keys", 1_000_000)
    command.add_argument("--how", nargs="+", choices=["alone", "ray"], default=["alone", "ray"])
    command.set_defaults(run=list_keys)
    command = commands.add_parser("costs")
    for option, default, about in (
        ("--images-a-second", None, "of one actor"),
        ("--driver", 5000.0, "images a second that are listed and given out"),
        ("--start", 30.0, "seconds until all actors have loaded the model"),
        ("--price", 1.0, "of an actor, per hour"),
    ):
        required = default is None
        command.add_argument(option, type=positive(option), required=required, default=default, help=about)
    command.set_defaults(run=costs)
    for command in commands.choices.values():
        add_out(command)
    arguments = parser.parse_args()
    if arguments.run in {on_ray, on_s3} and arguments.bad >= arguments.images:
        raise UserError(f"--bad {arguments.bad} must be below --images {arguments.images}.")
    lines = arguments.run(arguments)
    report(lines if arguments.run is costs else [*lines, machine("ray", "s3fs")], arguments.out)


if __name__ == "__main__":
    run(main)
