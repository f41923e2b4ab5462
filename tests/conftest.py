"""What every test runs under: shapes in signatures are checked, one thread, float32, repeatable random examples.

Shapes are checked by the tests of the packages that are about them; in all code by all tests, in nearly twice the time,
with CHECK_SHAPES=all, as by `make slow`. The hook must be installed before `gffnet` is first imported, so nothing here
imports it.
"""

import gc
import os

os.environ["GFFNET_PRECISION"] = "float32"  # what `auto` is, here and in processes that tests start: nothing is timed

import jaxtyping

gc.disable()  # until all tests are collected: what is imported stays, and looking through it takes seconds
CHECK_ALL = os.environ.get("CHECK_SHAPES") == "all"
CHECKED = "gffnet" if CHECK_ALL else ["gffnet.models", "gffnet.metrics"]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import shutil  # noqa: E402
from collections.abc import Generator, Iterator  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import register_random, settings  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.register_assert_rewrite("tests.models")
torch.set_num_threads(1)
# The first backward pass decides whether autograd starts threads, one a device. An export registers a fake CUDA device:
# after one, they would be started, and no forked process of a test could compute gradients.
torch.ones(1, requires_grad=True).sum().backward()

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=20)
settings.register_profile("search", deadline=None, max_examples=500)  # pytest --hypothesis-profile search
settings.load_profile("repeatable")


class TorchRandom:
    """torch's random numbers as hypothesis wants them, so that an example that fails fails again."""

    seed = staticmethod(torch.default_generator.manual_seed)
    getstate = staticmethod(torch.get_rng_state)
    setstate = staticmethod(torch.set_rng_state)


torch_random = TorchRandom()
register_random(torch_random)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A process runs all tests of a file, or of the graph that is exported: what they share is made once."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            return "export" if nodeid.startswith(("tests/export/", "tests/docs/test_export")) else nodeid.split("::")[0]

    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Function]) -> None:
    """Long files come first: one at the end would leave the other processes without work."""
    first = ("tests/export/", "tests/docs/test_export", "tests/app/", "tests/reports/", "tests/training/")
    items.sort(key=lambda item: not item.nodeid.startswith(first))


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    checks = CHECK_ALL or item.nodeid.startswith(("tests/models/", "tests/metrics/"))
    jaxtyping.config.update("jaxtyping_disable", not checks)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What was captured goes between processes as UTF-8, also where it holds names of files that are not."""
    report = yield
    report.sections = [(name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test starts from the same random numbers, alone or in a group."""
    torch.default_generator.manual_seed(0)  # torch.manual_seed also notes the stack for CUDA: milliseconds


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Headless Chromium; whoever tests what a person sees in it skips where it is not installed."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
