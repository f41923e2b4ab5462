"""Command lines in forked processes, which import nothing anew."""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from gffnet.cli.main import main


class Forked:
    """`gffnet WORDS`, or another program, in a process group of its own, with the output in the file `output`."""

    def __init__(
        self,
        words: Sequence[object],
        output: Path,
        prepare: Callable[[], object] = lambda: None,
        environment: dict[str, str] | None = None,
        program: Callable[[list[str]], Any] = main,
    ) -> None:
        if torch.cuda.is_available():
            pytest.skip("autograd and CUDA do not work in forked processes")

        def run() -> None:
            os.setsid()
            os.environ.update({"OMP_NUM_THREADS": "1", **(environment or {})})  # or Lightning sets more threads
            sys.stdout = sys.stderr = output.open("w", buffering=1, encoding="utf-8")
            prepare()
            os._exit(int(program(list(map(str, words))) or 0))

        self.output = output
        self.process = multiprocessing.get_context("fork").Process(target=run)
        self.process.start()

    def kill(self, number: int) -> None:
        """Send a signal to the group, which includes the processes that load data."""
        assert self.process.pid is not None
        os.killpg(self.process.pid, number)

    def wait(self) -> tuple[int | None, str]:
        """The exit code, None of a process that hangs and is killed, and the output."""
        self.process.join(120)
        if (code := self.process.exitcode) is None:
            self.kill(signal.SIGKILL)
        return code, self.output.read_text(encoding="utf-8")


def forked(words: Sequence[object], folder: Path, program: Callable[[list[str]], Any] = main) -> CompletedProcess[str]:
    """Run `gffnet WORDS`, or another program, to its end in a forked process whose current folder is `folder`."""
    with tempfile.TemporaryDirectory() as place:
        out, err = Path(place) / "out", Path(place) / "err"

        def prepare() -> None:
            os.chdir(folder)
            sys.stdout = out.open("w", buffering=1, encoding="utf-8")
            for number, stream in ((1, sys.stdout), (2, sys.stderr)):
                os.dup2(stream.fileno(), number)

        code, said = Forked(words, err, prepare, program=program).wait()
        return CompletedProcess(list(map(str, words)), -1 if code is None else code, out.read_text("utf-8"), said)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
